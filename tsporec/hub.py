"""How a selector lies on disk and on the Hub: JSON for the config, safetensors for the weights, nothing else.

No pickle is ever read and no remote code is ever run. Of a repository two files are fetched, by their own names,
whatever else it holds; a folder that holds only pickled weights is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tsporec.card import model_card
from tsporec.files import write_whole

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
FORMAT_VERSION = 3
DEFAULT = "tsporec/base"
BOX = Path(__file__).parent / "box"
"""Selectors that come with the package; ``tsporec/NAME`` is looked up here before the Hub."""

Config = dict[str, Any]
MIGRATIONS: dict[int, Callable[[Config], Config]] = {
    1: lambda config: {**config, "table": "surface"},  # there was no other table
    2: lambda config: config,  # weights had no lexicon; without one they are the same
}
"""Format version -> what makes its config one of the next version."""


def save(folder: Path, config: Config, weights: dict[str, Tensor], card: str | None = None) -> Path:
    """Write a selector to ``folder``, each file beside its place and then renamed, the config last.

    Without ``card`` one is made from ``config``.
    """
    from safetensors.torch import save as to_bytes

    data = to_bytes({key: value.detach().cpu().contiguous() for key, value in weights.items()})
    text = model_card(config) if card is None else card
    write_whole(folder / WEIGHTS, data)
    write_whole(folder / CARD, text.encode())
    _write_config(folder, {"weights_sha256": hashlib.sha256(data).hexdigest(), **config})
    return folder


def _write_config(folder: Path, config: Config) -> None:
    from tsporec import __version__

    whole = {"format_version": FORMAT_VERSION, "library_version": __version__, **config}
    write_whole(folder / CONFIG, (json.dumps(whole, indent=2) + "\n").encode())


def load(
    name_or_path: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> tuple[Config, dict[str, Tensor]]:
    """(config without its header, weights) of a selector in the box, a folder, or a Hub id, looked up in this order.

    The options are those of ``huggingface_hub.hf_hub_download``, and so are ``HF_HUB_OFFLINE``, ``HF_ENDPOINT`` and
    ``HF_HOME``. Config and weights are of one commit.

    Raises
    ------
    ValueError
        If a file is missing, is not what it should be, has another checksum, or is of a newer format; or if the Hub
        does not give it. Nothing half-fetched is left behind.
    """
    from safetensors.torch import load as from_bytes

    folder, remote = find_local(name_or_path), False
    if folder is None:
        remote, paths = True, _download(
            str(name_or_path), revision=revision, token=token, cache_dir=cache_dir,
            local_files_only=local_files_only, force_download=force_download,
        )  # fmt: skip
    else:
        paths = {name: folder / name for name in (CONFIG, WEIGHTS)}
    for name, path in paths.items():
        if not path.is_file():
            raise ValueError(
                f"{name_or_path} has no {name}; expected {CONFIG} and {WEIGHTS} as "
                "TokenSelector.save_pretrained writes them."
            )
    config = read_config(paths[CONFIG])
    data = paths[WEIGHTS].read_bytes()
    found, expected = hashlib.sha256(data).hexdigest(), config.pop("weights_sha256", None)
    if found != expected:
        raise ValueError(
            f"{paths[WEIGHTS]} has sha256 {found}, but its config says {expected}; it is damaged or of another save. "
            f"Fetch it again{' with force_download=True' if remote else ''}."
        )
    try:
        return config, from_bytes(data)
    except Exception as error:
        raise ValueError(
            f"{paths[WEIGHTS]} is not a safetensors file ({error}); pickled weights are refused."
        ) from error


def find_local(name_or_path: str | Path) -> Path | None:
    """The folder that is meant: in the box, or here (``./tsporec/base`` is always here). None: look on the Hub."""
    boxed = re.fullmatch(r"tsporec/(\w[\w-]*)", str(name_or_path))
    if boxed and isinstance(name_or_path, str) and (BOX / boxed[1] / CONFIG).is_file():
        return BOX / boxed[1]
    folder = Path(name_or_path)
    return folder if folder.is_dir() else None


def read_config(path: Path) -> Config:
    """The config at ``path`` as the current format has it, its weights' checksum included, the rest of its header not.

    Raises
    ------
    ValueError
        If it is no config of a selector, or of a newer format.
    """
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
    for step in range(version, FORMAT_VERSION):
        config = MIGRATIONS[step](config)
    config.pop("library_version", None)
    return dict(config)


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


def describe(folder: Path, training: dict[str, Any]) -> None:
    """Add what is known of its training to a saved selector's config, and make its card anew; the weights stay."""
    config = read_config(folder / CONFIG)
    config["training"] = {**config.get("training", {}), **training}
    write_whole(folder / CARD, model_card(config).encode())
    _write_config(folder, config)


def push(
    folder: str | Path,
    repo_id: str,
    *,
    commit_message: str = "Upload a tsporec selector",
    revision: str | None = None,
    token: str | bool | None = None,
    private: bool | None = None,
    create_pr: bool = False,
) -> str:
    """Upload a saved selector to the Hub, in one commit, and return the commit's address (the pull request's).

    Config, weights and card go up, whatever else ``folder`` holds. The folder is loaded first, so that nothing
    damaged is shared. A card that nobody has edited is made anew with ``repo_id`` in it; without a card one is made.

    Parameters
    ----------
    folder : folder
        As :func:`save` wrote it.
    repo_id : str
        "user/name"; made if it does not exist, ``private`` if asked.
    commit_message, revision, token, create_pr : as in ``huggingface_hub.HfApi.create_commit``
        ``revision`` is a branch; made if it does not exist.

    Raises
    ------
    ValueError
        If the folder is no whole selector, or the Hub does not take it.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; give one that TokenSelector.save_pretrained wrote.")
    config, _ = load(folder)
    path = folder / CARD
    card = path.read_text(encoding="utf-8") if path.is_file() else None
    if card is None or card == model_card(config):
        card = model_card(config, repo_id)
    files: dict[str, bytes | Path] = {CARD: card.encode(), WEIGHTS: folder / WEIGHTS, CONFIG: folder / CONFIG}
    try:
        api = HfApi(token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None and not create_pr:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.create_commit(
            repo_id,
            [CommitOperationAdd(path_in_repo=name, path_or_fileobj=data) for name, data in files.items()],
            commit_message=commit_message,
            revision=revision,
            create_pr=create_pr,
        )
    except Exception as error:  # what the client raises depends on its version
        raise ValueError(f"{repo_id} was not pushed ({type(error).__name__}): {error}") from error
    return str(commit.pr_url or commit.commit_url)


def _download(repo: str, *, revision: str | None, **options: Any) -> dict[str, Path]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        config = Path(hf_hub_download(repo, CONFIG, revision=revision, **options))
        # The folder of a snapshot bears its commit: the weights are of the same one, whatever is pushed meanwhile.
        return {CONFIG: config, WEIGHTS: Path(hf_hub_download(repo, WEIGHTS, revision=config.parent.name, **options))}
    except (HFValidationError, RepositoryNotFoundError) as error:
        raise ValueError(
            f"{repo!r} is no folder here and no selector on the Hub that you may read ({type(error).__name__}); "
            "give a folder or an id like 'user/name', and a token if it is private."
        ) from error
    except LocalEntryNotFoundError as error:
        raise ValueError(
            f"{repo} is neither a folder here nor in the cache, and the Hub was not asked or not reached: {error}"
        ) from error
    except RevisionNotFoundError as error:
        raise ValueError(f"{repo} has no revision {revision!r}; give a branch, a tag or a commit.") from error
    except EntryNotFoundError as error:
        raise ValueError(f"{repo} lacks {CONFIG} or {WEIGHTS}, so it is no tsporec selector ({error}).") from error
    except Exception as error:  # what the client raises depends on its version
        raise ValueError(f"{repo} could not be fetched ({type(error).__name__}): {error}") from error
