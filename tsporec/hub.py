"""How a selector lies on disk and on the Hub: JSON for the config, safetensors for the weights, nothing else.

No pickle is ever read and no remote code is ever run: a folder that holds only pickled weights is refused.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tsporec.files import write_whole

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
FORMAT_VERSION = 1
DEFAULT = "tsporec/base"
BOX = Path(__file__).parent / "box"
"""Selectors that come with the package; ``tsporec/NAME`` is looked up here before the Hub."""


def save(folder: Path, config: dict[str, Any], weights: dict[str, Tensor], card: str | None = None) -> Path:
    """Write a selector to ``folder``, each file beside its place and then renamed, the config last."""
    from safetensors.torch import save as to_bytes

    from tsporec import __version__

    data = to_bytes({key: value.detach().cpu().contiguous() for key, value in weights.items()})
    header = {
        "format_version": FORMAT_VERSION,
        "library_version": __version__,
        "weights_sha256": hashlib.sha256(data).hexdigest(),
    }
    write_whole(folder / WEIGHTS, data)
    if card is not None:
        write_whole(folder / CARD, card.encode())
    write_whole(folder / CONFIG, (json.dumps({**header, **config}, indent=2, sort_keys=True) + "\n").encode())
    return folder


def load(
    name_or_path: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(config without its header, weights) of a folder, a selector in the box, or a Hub id.

    The options are those of ``huggingface_hub.hf_hub_download``; ``HF_HUB_OFFLINE=1`` is honoured by it.

    Raises
    ------
    ValueError
        If a file is missing, is not what it should be, has another checksum, or is of a newer format.
    """
    from safetensors.torch import load as from_bytes

    folder = Path(name_or_path)
    boxed = BOX / str(name_or_path).removeprefix("tsporec/")
    if not folder.is_dir() and str(name_or_path).startswith("tsporec/") and (boxed / CONFIG).is_file():
        folder = boxed
    if folder.is_dir():
        paths = {name: folder / name for name in (CONFIG, WEIGHTS)}
    else:
        paths = _download(
            str(name_or_path), revision=revision, token=token, cache_dir=cache_dir,
            local_files_only=local_files_only, force_download=force_download,
        )  # fmt: skip
    for name, path in paths.items():
        if not path.is_file():
            raise ValueError(
                f"{name_or_path} has no {name}; expected {CONFIG} and {WEIGHTS} as "
                "TokenSelector.save_pretrained writes them."
            )
    config = _read_config(paths[CONFIG])
    data = paths[WEIGHTS].read_bytes()
    found, expected = hashlib.sha256(data).hexdigest(), config.pop("weights_sha256", None)
    if found != expected:
        raise ValueError(
            f"{paths[WEIGHTS]} has sha256 {found}, but its config says {expected}; "
            "it is damaged or of another save. Fetch it again."
        )
    try:
        return config, from_bytes(data)
    except Exception as error:
        raise ValueError(
            f"{paths[WEIGHTS]} is not a safetensors file ({error}); pickled weights are refused."
        ) from error


def load_strictly(module: nn.Module, weights: dict[str, Tensor], source: str | Path) -> None:
    """Load ``weights`` into ``module``; a missing, unexpected or misshapen tensor is a ValueError."""
    own = module.state_dict()
    wrong = [f"missing {key}" for key in sorted(own.keys() - weights.keys())]
    wrong += [f"unexpected {key}" for key in sorted(weights.keys() - own.keys())]
    wrong += [
        f"{key} is {list(weights[key].shape)}, expected {list(own[key].shape)}"
        for key in sorted(own.keys() & weights.keys())
        if own[key].shape != weights[key].shape
    ]
    if wrong:
        raise ValueError(f"{source}: the weights do not fit the config: {'; '.join(wrong)}.")
    module.load_state_dict(weights)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not JSON ({error}); fetch it again.") from error
    version = config.pop("format_version", None) if isinstance(config, dict) else None
    if not isinstance(version, int) or version < 1:
        raise ValueError(f"{path} has no format_version; it is not the config of a tsporec selector.")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}, this library reads up to {FORMAT_VERSION}; "
            "upgrade it: pip install -U tsporec."
        )
    config.pop("library_version", None)
    return dict(config)


def _download(repo: str, **options: Any) -> dict[str, Path]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return {name: Path(hf_hub_download(repo, name, **options)) for name in (CONFIG, WEIGHTS)}
    except (HFValidationError, RepositoryNotFoundError) as error:
        raise ValueError(
            f"{repo!r} is no folder here and no selector on the Hub ({type(error).__name__}); "
            "give a folder or an id like 'user/name'."
        ) from error
    except LocalEntryNotFoundError as error:
        raise ValueError(
            f"{repo} is neither a folder here nor in the cache, and the Hub was not asked or not reached: {error}"
        ) from error
    except EntryNotFoundError as error:
        raise ValueError(f"{repo} lacks {CONFIG} or {WEIGHTS}, so it is no tsporec selector ({error}).") from error
    except OSError as error:
        raise ValueError(f"{repo} could not be fetched: {error}") from error
