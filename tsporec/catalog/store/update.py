"""The next snapshot from the last: items added, replaced and deleted, unchanged shards shared."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.progress import progress
from tsporec.catalog.store.build import ShardWriter, Work
from tsporec.catalog.store.commit import clean, commit
from tsporec.catalog.store.compress import Chunk, Compressor
from tsporec.catalog.store.index import DuplicateIdError
from tsporec.catalog.store.journal import Journal
from tsporec.catalog.store.keys import ItemId, Keys
from tsporec.catalog.store.layout import JOURNAL, Manifest, Recipe, read_manifest
from tsporec.catalog.store.lock import StoreLock
from tsporec.catalog.store.pool import compress_all
from tsporec.catalog.store.reader import Snapshot
from tsporec.catalog.store.report import BuildReport


def update(
    folder: Path,
    chunks: Iterable[Chunk],
    deleted: Sequence[ItemId],
    compressor: Compressor,
    recipe: Recipe,
    work: Work,
) -> tuple[Manifest, BuildReport]:
    """Add the items that are new, replace those whose text is another, delete ``deleted``.

    An update that is cut off leaves nothing; run it again.

    Raises
    ------
    ValueError
        If the recipe is not the store's, an id to delete is not there, or an id comes twice.
    """
    began = time.perf_counter()
    with StoreLock(folder):
        base = read_manifest(folder)
        if different := base.recipe.differences(recipe):
            raise ValueError(
                f"{folder} was built otherwise: {'; '.join(different)}. Kept tokens of two kinds are never mixed: "
                "update with what it was built with, or build it anew with overwrite=True."
            )
        _refuse_unfinished(folder, base)
        clean(folder)
        changes = _Changes(Snapshot(folder, base), deleted)
        writer, report = ShardWriter(folder, base.snapshot + 1, work), BuildReport()
        try:
            results = compress_all(changes.needed(chunks), compressor, work.num_proc, work.start_method)
            for result in progress(results, description="compress (chunks)"):
                writer.add(result.kept)
                report = report.plus(result)
            writer.flush()
            report = replace(report, unchanged=changes.unchanged)
            if writer.entries or changes.gone.any():
                used = [bool(rows.any()) for rows in changes.live_by_shard()]
                old = [entry for entry, some in zip(base.shards, used, strict=True) if some]
                live = [rows for rows, some in zip(changes.live_by_shard(), used, strict=True) if some]
                live += [np.ones(entry.rows, dtype=bool) for entry in writer.entries]
                mask = np.concatenate(live) if live else np.zeros(0, dtype=bool)
                base = commit(folder, base.snapshot + 1, recipe, (*old, *writer.entries), mask)
        except BaseException:
            clean(folder)
            raise
    return base, replace(report, seconds=time.perf_counter() - began)


def _refuse_unfinished(folder: Path, base: Manifest) -> None:
    found = Journal(folder).read()
    if found is not None and found[0].snapshot > base.snapshot:
        raise ValueError(
            f"{folder} holds an unfinished rebuild, which an update would spoil. Run that build again to complete "
            f"it, or remove {folder / JOURNAL} to drop it."
        )


class _Changes:
    """What an update does to each row of the snapshot before it."""

    def __init__(self, before: Snapshot, deleted: Sequence[ItemId]) -> None:
        self._before = before
        self._live = np.zeros(len(before.rows), dtype=bool)
        self._live[before.index.rows] = True
        self.gone = np.zeros(len(before.rows), dtype=bool)
        self._named = np.zeros(len(before.rows), dtype=bool)
        self.unchanged = 0
        keys = Keys.from_ids(deleted, before.rows.id_type)
        rows = before.locate(keys)
        if (rows < 0).any():
            raise ValueError(f"there is no item {keys.take(rows < 0).to_ids()[0]!r} to delete.")
        self._name(rows, keys)
        self.gone[rows] = True

    def needed(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """The items that are new or have another text; the rows they replace are gone."""
        for chunk in chunks:
            keys = Keys.from_ids(chunk.ids, self._before.rows.id_type)
            rows = self._before.locate(keys)
            known = np.flatnonzero(rows >= 0)
            self._name(rows[known], keys.take(known))
            same = np.zeros(len(chunk), dtype=bool)
            same[known] = self._before.rows.digests(rows[known]) == chunk.digests()[known]
            self.gone[rows[known][~same[known]]] = True
            self.unchanged += int(same.sum())
            if not same.all():
                yield chunk.take(np.flatnonzero(~same))

    def live_by_shard(self) -> list[NDArray[np.bool_]]:
        """Bool of every shard's rows: still in use."""
        return np.split(self._live & ~self.gone, self._before.rows.bases[1:-1])

    def _name(self, rows: NDArray[np.int64], keys: Keys) -> None:
        again = self._named[rows]
        again[np.setdiff1d(np.arange(len(rows)), np.unique(rows, return_index=True)[1])] = True
        if again.any():
            raise DuplicateIdError(
                f"item {keys.take(again).to_ids()[0]!r} comes twice in one update; add or delete an item once."
            )
        self._named[rows] = True
