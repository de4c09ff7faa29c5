"""Selectors by name: bundled with the package, in a folder, or on the Hugging Face Hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from tsporec._internal.types import expect
from tsporec.scorers import SCORERS
from tsporec.selector import files
from tsporec.selector.card import PLACEHOLDER, model_card
from tsporec.selector.config import SavedSelector
from tsporec.selector.files import CARD, CONFIG, ITEM_WEIGHTS, WEIGHTS
from tsporec.selector.item_weights import ItemWeights

DEFAULT = "tsporec/base"
"""The name of the bundled selector."""
BUNDLED = Path(__file__).parent
"""The folder of the bundled selectors: ``tsporec/NAME`` is looked up here before the Hub."""


def find_local(name_or_path: str | Path) -> Path | None:
    """Find the folder that a name means: a bundled selector or a folder. None if the name must be looked up on the Hub.

    ``./tsporec/base`` always means a folder.
    """
    bundled = re.fullmatch(r"tsporec/(\w[\w-]*)", str(name_or_path))
    if bundled and isinstance(name_or_path, str) and (BUNDLED / bundled[1] / CONFIG).is_file():
        return BUNDLED / bundled[1]
    folder = Path(name_or_path)
    return folder if folder.is_dir() else None


def load(
    name_or_path: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> tuple[SavedSelector, dict[str, Tensor], ItemWeights | None]:
    """Load a saved selector: its config, its weights and its item weights; see :func:`tsporec.selector.files.load`.

    ``name_or_path`` is a bundled selector, a folder or a Hub id, looked up in this order. The options are those of
    ``huggingface_hub.hf_hub_download``; they change nothing for a bundled selector or a folder. All files are of one
    commit. What cannot be fetched is a ValueError.
    """
    expect("name_or_path", name_or_path, str | Path, "a folder, 'user/name' on the Hub or 'tsporec/base'")
    folder = find_local(name_or_path)
    if folder is not None:
        return files.load(lambda name: folder / name)
    if name_or_path in SCORERS:
        raise ValueError(
            f"{name_or_path!r} is a scorer, not a selector: make_scorer({name_or_path!r}) makes it, and tsporec show "
            f"--scorer {name_or_path} and tsporec evaluate --scorers {name_or_path} read it."
        )

    options = {"token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}

    def fetch(name: str) -> Path:
        nonlocal revision
        path = _download(str(name_or_path), name, revision, force_download=force_download, **options)
        # The folder of a file in the cache bears its commit: what follows is of the same one.
        revision = path.parent.name
        return path

    return files.load(fetch)


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
    """Upload a saved selector to the Hub in one commit; returns the address of the commit or pull request.

    Config, weights, item weights and card go up, and nothing else that ``folder`` holds. The folder is loaded first, so
    that nothing damaged is shared. The card gets the name of the repository. A card that somebody has edited gets it
    in place of "USER/NAME".

    ``repo_id`` is "user/name", or "name" for the user of the token; the repository is made if it does not exist,
    ``private`` or as the account is set up. ``revision`` is a branch, which is made if it does not exist, or a
    reference such as "refs/pr/1"; default: main. A folder that holds no whole selector, or that the Hub does not take,
    is a ValueError.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; give one that TokenSelector.save_pretrained wrote.")
    saved, *_ = files.load(lambda name: folder / name)
    edited = None if files.renewed_card(folder, saved) else files.read_card(folder)
    weights = files.read_whole(folder / WEIGHTS, saved.weights_sha256)
    parts: dict[str, bytes | Path] = {CONFIG: folder / CONFIG, WEIGHTS: weights}
    if saved.item_weights is not None:
        parts[ITEM_WEIGHTS] = files.read_whole(folder / ITEM_WEIGHTS, saved.item_weights["sha256"])
    try:
        api = HfApi(token=token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        card = model_card(saved, repo_id) if edited is None else edited.replace(PLACEHOLDER, repo_id)
        if revision is not None and not create_pr and not revision.startswith("refs/"):
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        # Not upload_folder: the card that goes up is not the one in the folder.
        commit = api.create_commit(
            repo_id,
            [CommitOperationAdd(name, part) for name, part in {CARD: card.encode(), **parts}.items()],
            commit_message=commit_message,
            revision=revision,
            create_pr=create_pr,
        )
    except Exception as error:  # what the client raises depends on its version
        raise ValueError(f"{repo_id} was not pushed ({type(error).__name__}): {error}") from error
    return str(commit.pr_url or commit.commit_url)


def _download(repo: str, name: str, revision: str | None, **options: Any) -> Path:
    from huggingface_hub import errors, hf_hub_download

    try:
        return Path(hf_hub_download(repo, name, revision=revision, **options))
    except (errors.HFValidationError, errors.RepositoryNotFoundError) as error:
        raise ValueError(
            f"{repo!r} is no folder here and no selector on the Hub that you may read ({type(error).__name__}); "
            "give a folder or an id like 'user/name', and a token if it is private."
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise ValueError(
            f"{repo} is neither a folder here nor in the cache, and the Hub was not asked or not reached: {error}"
        ) from error
    except Exception as error:  # what the client raises depends on its version
        raise ValueError(f"{name} of {repo} could not be fetched ({type(error).__name__}): {error}") from error
