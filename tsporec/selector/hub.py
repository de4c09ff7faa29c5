"""How a selector lies on disk and on the Hub: JSON for the config, safetensors for the weights, nothing else.

No pickle is ever read and no remote code is ever run. Of a repository two files are fetched, by their own names,
whatever else it holds; a folder that holds only pickled weights is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tsporec._internal.files import write_together
from tsporec.selector.card import PLACEHOLDER, model_card, name_on, put_name
from tsporec.selector.config import SelectorConfig

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
FORMAT_VERSION = 4
DEFAULT = "tsporec/base"
BOX = Path(__file__).parent
"""Selectors that come with the package; ``tsporec/NAME`` is looked up here before the Hub."""

LEXICON = "lexicon"
"""The tensor of the words that a selector knows: uint8, absent where it knows none."""

Config = dict[str, Any]
MIGRATIONS: dict[int, Callable[[Config], Config]] = {
    1: lambda config: {**config, "table": "surface"},  # there was no other table
    2: lambda config: config,  # weights had no lexicon; without one they are the same
    3: lambda config: {**config, "weighting": "idf"},  # there was no other
}
"""Format version -> what makes its config one of the next version."""


def save(folder: Path, config: SelectorConfig, weights: dict[str, Tensor], card: str | None = None) -> Path:
    """Write a selector to ``folder``; without ``card`` one is made from ``config``.

    A card that is there and was edited is kept then, and so is the name on one that was not.

    What cannot be saved, or a full disk, leaves the folder as it was. The config is renamed last and has the sha256 of
    the weights: where a save over another one is killed between the renames, the folder is refused, never mixed.
    """
    from safetensors.torch import save as to_bytes

    data = to_bytes({key: value.detach().cpu().contiguous() for key, value in weights.items()})
    if card is None:
        try:
            before = [read_config(folder / CONFIG)]
        except ValueError:  # none, or damaged: to be replaced
            before = []
        name = _name_unless_edited(folder, *before, config)
        card = None if name is None else model_card(config, name)
    cards = {} if card is None else {folder / CARD: card.encode()}
    header = _config_bytes(config, hashlib.sha256(data).hexdigest())
    write_together({folder / WEIGHTS: data, **cards, folder / CONFIG: header})
    return folder


def _config_bytes(config: SelectorConfig, weights_sha256: str) -> bytes:
    from tsporec._version import __version__

    header = {"format_version": FORMAT_VERSION, "library_version": __version__, "weights_sha256": weights_sha256}
    return (json.dumps({**header, **asdict(config)}, indent=2) + "\n").encode()


def load(
    name_or_path: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> tuple[SelectorConfig, dict[str, Tensor]]:
    """(config, weights) of a selector in the box, a folder, or a Hub id, looked up in this order; they fit each other.

    The options are those of ``huggingface_hub.hf_hub_download``, and so are ``HF_HUB_OFFLINE``, ``HF_ENDPOINT`` and
    ``HF_HOME``. Config and weights are of one commit. A name that is found in the box or as a folder is read as it is
    there: all options, ``revision`` too, are ignored.

    Raises
    ------
    ValueError
        If a file is missing, is not what it should be, has another checksum, or is of a newer format; if the weights
        do not fit the config (nothing of the size it names is allocated before that is known); or if the Hub does not
        give it. Nothing half-fetched is left behind.
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
    config, expected = _read_config(paths[CONFIG])
    data = _present(paths[WEIGHTS]).read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise ValueError(
            f"{paths[WEIGHTS]} has sha256 {found}, but its config says {expected}; it is damaged or of another save. "
            f"Fetch it again{' with force_download=True' if remote else ''}."
        )
    try:
        weights = from_bytes(data)
    except Exception as error:
        raise ValueError(
            f"{paths[WEIGHTS]} is not a safetensors file ({error}); pickled weights are refused."
        ) from error
    _check_weights(config, weights, paths[WEIGHTS])
    return config, weights


def find_local(name_or_path: str | Path) -> Path | None:
    """The folder that is meant: in the box, or here (``./tsporec/base`` is always here). None: look on the Hub."""
    boxed = re.fullmatch(r"tsporec/(\w[\w-]*)", str(name_or_path))
    if boxed and isinstance(name_or_path, str) and (BOX / boxed[1] / CONFIG).is_file():
        return BOX / boxed[1]
    folder = Path(name_or_path)
    return folder if folder.is_dir() else None


def read_config(path: Path) -> SelectorConfig:
    """The config at ``path``, of this format or an older one.

    Raises
    ------
    ValueError
        If it is no config of a selector, is damaged, or of a newer format.
    """
    return _read_config(path)[0]


def _read_config(path: Path) -> tuple[SelectorConfig, str]:
    """(the config, the sha256 of its weights)."""
    text = _present(path).read_bytes()
    try:
        config = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); fetch it again.") from error
    version = config.pop("format_version", None) if isinstance(config, dict) else None
    if type(version) is not int or version < 1:
        raise ValueError(f"{path} has no format_version; it is not the config of a tsporec selector.")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}, this library reads up to {FORMAT_VERSION}; "
            "upgrade it: pip install -U tsporec."
        )
    for step in range(version, FORMAT_VERSION):
        config = MIGRATIONS[step](config)
    config = dict(config)
    config.pop("library_version", None)
    weights_sha256 = config.pop("weights_sha256", None)
    if not isinstance(weights_sha256, str):
        raise ValueError(f"{path} has no weights_sha256, so its weights cannot be checked; fetch it again.")
    try:
        return SelectorConfig.from_dict(config), weights_sha256
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _present(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(
            f"{path.parent} has no {path.name}; expected {CONFIG} and {WEIGHTS} as TokenSelector.save_pretrained "
            "writes them."
        )
    return path


def _check_weights(config: SelectorConfig, weights: dict[str, Tensor], path: Path) -> None:
    """Refuse weights with a missing, unexpected or misshapen tensor, or one of the wrong kind, with a ValueError."""
    shapes = config.shapes()
    words = {LEXICON} if config.table == "surface" else set()
    wrong = [f"missing {key}" for key in sorted(shapes.keys() - weights.keys())]
    wrong += [f"unexpected {key}" for key in sorted(weights.keys() - shapes.keys() - words)]
    for key in sorted(shapes.keys() & weights.keys()):
        found, shape = weights[key], list(shapes[key])
        if list(found.shape) != shape or not found.is_floating_point():
            wrong.append(f"{key} is {list(found.shape)} of {found.dtype}, expected {shape} of floats")
    if words & weights.keys() and not _is_lexicon(weights[LEXICON]):
        wrong.append(f"{LEXICON} is no list of words (uint8, one dimension: UTF-8, one space apart)")
    if wrong:
        raise ValueError(f"{path}: the weights do not fit the config: {'; '.join(wrong)}.")


def _is_lexicon(tensor: Tensor) -> bool:
    if tensor.dtype != torch.uint8 or tensor.dim() != 1:
        return False
    try:
        text = tensor.numpy().tobytes().decode("utf-8")
    except UnicodeDecodeError:
        return False
    return bool(text) and text.split(" ") == text.split()


def describe(folder: str | Path, training: dict[str, Any]) -> bool:
    """Add what is known of its training to a saved selector's config, and make its card anew; the weights stay.

    Returns
    -------
    bool
        Whether the card was made. One that somebody has edited is kept; the name on it alone is no edit, and stays.
    """
    folder = Path(folder)
    before, weights_sha256 = _read_config(folder / CONFIG)
    config = replace(before, training={**before.training, **training})
    # A call that was killed may have left the new card beside the old config.
    name = _name_unless_edited(folder, before, config)
    card = {} if name is None else {folder / CARD: model_card(config, name).encode()}
    write_together({**card, folder / CONFIG: _config_bytes(config, weights_sha256)})
    return name is not None


def read_card(folder: Path) -> str | None:
    """The card in ``folder``; None without."""
    path = folder / CARD
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def _name_unless_edited(folder: Path, *configs: SelectorConfig) -> str | None:
    """The name on a card that was made of one of ``configs``, the placeholder without a card; None if it was edited."""
    text = read_card(folder)
    if text is None:
        return PLACEHOLDER
    return next((name for config in configs if (name := name_on(text, config)) is not None), None)


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
    damaged is shared, nor weights that do not fit their config. A card that nobody has edited, but for the
    name on it, is made anew with ``repo_id``; of an edited one, or one that another version made, no more is changed
    than the placeholder for the name; without a card one is made.

    Parameters
    ----------
    folder : folder
        As :func:`save` wrote it.
    repo_id : str
        "user/name", or "name" for the user of the token; made if it does not exist, ``private`` if asked.
    commit_message, revision, token, create_pr : as in ``huggingface_hub.HfApi.create_commit``
        ``revision`` is a branch, made if it does not exist, or a reference as "refs/pr/1".

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
    files: dict[str, bytes | Path] = {name: folder / name for name in (CARD, WEIGHTS, CONFIG)}
    text = read_card(folder)
    made = _name_unless_edited(folder, config) is not None
    try:
        api = HfApi(token=token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        card = model_card(config, repo_id) if text is None or made else put_name(text, repo_id)
        if card != text:
            files[CARD] = card.encode()
        if revision is not None and not create_pr and not revision.startswith("refs/"):
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
