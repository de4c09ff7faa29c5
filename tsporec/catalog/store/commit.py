"""The last step of every writer, and the removal of what no snapshot needs.

A snapshot exists from the moment ``CURRENT`` names its manifest; everything before that adds files nobody looks at. So
whatever happens to a writer, readers see the last complete snapshot. All of this is done under the store's lock.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.files import TEMPORARY
from tsporec._version import __version__
from tsporec.catalog.store.index import live_runs, make_index
from tsporec.catalog.store.layout import (
    JOURNAL,
    SHARDS,
    FileEntry,
    Manifest,
    Recipe,
    ShardEntry,
    current_snapshot,
    index_name,
    manifest_name,
    read_manifest,
)
from tsporec.catalog.store.lock import StoreLock
from tsporec.catalog.store.reader import Rows


def commit(
    folder: Path,
    snapshot: int,
    recipe: Recipe,
    shards: tuple[ShardEntry, ...],
    live: NDArray[np.bool_] | None = None,
) -> Manifest:
    """Index the rows in use (all by default), write the manifest, make it current.

    Raises
    ------
    DuplicateIdError
        If an id stands in two rows in use.
    """
    rows = Rows(folder, shards, recipe.id_type)
    data = make_index(len(rows), live, rows.keys)
    items, tokens, empty = sum(s.rows for s in shards), sum(s.tokens for s in shards), sum(s.empty for s in shards)
    if live is not None:
        items = tokens = empty = 0
        for run in live_runs(len(rows), live):
            lengths = rows.lengths(run)
            items, tokens = items + len(run), tokens + int(lengths.sum())
            empty += int((lengths == 0).sum())
    index = FileEntry.write(folder, index_name(snapshot), data)
    manifest = Manifest(snapshot, recipe, items, tokens, empty, shards, index, library_version=__version__)
    manifest.write(folder)
    return manifest


def clean(folder: Path, keep: Collection[str] = ()) -> None:
    """Remove what an unfinished writer left: temporary files, and files of snapshots that never came to be."""
    current = current_snapshot(folder)
    for path in [*folder.glob(f".*{TEMPORARY}"), *folder.glob(f"{SHARDS}/.*{TEMPORARY}")]:
        path.unlink()
    for path in _files(folder):
        if _snapshot_of(path) > current and path.relative_to(folder).as_posix() not in keep:
            path.unlink()


def prune(folder: Path, keep: int = 1) -> list[str]:
    """Remove all but the last ``keep`` snapshots, and the files that only they need; returns the names.

    A reader of a removed snapshot keeps the files it has mapped, but cannot open further shards.
    """
    if keep < 1:
        raise ValueError(f"keep must be at least 1 snapshot; found {keep}.")
    with StoreLock(folder):
        current = read_manifest(folder).snapshot
        kept = [n for n in range(max(1, current - keep + 1), current + 1) if (folder / manifest_name(n)).exists()]
        needed = set()
        for number in kept:
            manifest = read_manifest(folder, number)
            needed |= {manifest_name(number), manifest.index.name, *(entry.file.name for entry in manifest.shards)}
        if (folder / JOURNAL).exists():  # an unfinished build may go on
            needed |= {path.relative_to(folder).as_posix() for path in _files(folder) if _snapshot_of(path) > current}
        removed = [path for path in _files(folder) if path.relative_to(folder).as_posix() not in needed]
        for path in sorted(removed, key=lambda path: not path.name.startswith("manifest-")):
            path.unlink()
    return sorted(path.relative_to(folder).as_posix() for path in removed)


def _files(folder: Path) -> list[Path]:
    patterns = ("manifest-*.json", "index-*.safetensors", f"{SHARDS}/*.safetensors")
    return [path for pattern in patterns for path in folder.glob(pattern)]


def _snapshot_of(path: Path) -> int:
    digits = path.name.removeprefix("manifest-").removeprefix("index-")[:6]
    return int(digits) if digits.isdigit() else 0
