"""A snapshot from nothing: streamed, sharded, and resumed after its last finished shard."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tsporec._internal.progress import progress
from tsporec.catalog.store import shard
from tsporec.catalog.store.commit import clean, commit
from tsporec.catalog.store.compress import Chunk, Compressor
from tsporec.catalog.store.index import DuplicateIdError
from tsporec.catalog.store.journal import Journal, Plan
from tsporec.catalog.store.keys import Keys
from tsporec.catalog.store.layout import Manifest, Recipe, ShardEntry, current_snapshot, shard_name
from tsporec.catalog.store.lock import StoreLock
from tsporec.catalog.store.pool import compress_all
from tsporec.catalog.store.reader import Rows
from tsporec.catalog.store.report import BuildReport
from tsporec.catalog.store.shard import Kept


@dataclass(frozen=True)
class Work:
    """How the work is done; nothing here changes what it makes, but for where shards end.

    Parameters
    ----------
    num_proc : int
        Worker processes that tokenise, score and select; 1 works in this one.
    chunk_items : int
        Items a worker takes at once.
    shard_items, shard_bytes : int
        A shard ends when it has either; with ``chunk_items`` they bound the memory of a build.
    start_method : str
        Of the worker processes: ``"spawn"``, ``"forkserver"`` or ``"fork"``.
    """

    num_proc: int = 1
    chunk_items: int = 1024
    shard_items: int = 1 << 18
    shard_bytes: int = 1 << 26
    start_method: str = "spawn"

    def __post_init__(self) -> None:
        for name in ("num_proc", "chunk_items", "shard_items", "shard_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; found {getattr(self, name)}.")


class ShardWriter:
    """Collects kept tokens and writes a shard whenever there are enough."""

    def __init__(self, folder: Path, snapshot: int, work: Work, journal: Journal | None = None) -> None:
        self._folder, self._snapshot, self._work, self._journal = folder, snapshot, work, journal
        self.entries: list[ShardEntry] = []
        self._parts: list[Kept] = []
        self._items = self._bytes = 0

    def add(self, kept: Kept) -> None:
        """Take the items of a chunk."""
        self._parts.append(kept)
        self._items += len(kept)
        self._bytes += kept.nbytes
        if self._items >= self._work.shard_items or self._bytes >= self._work.shard_bytes:
            self.flush()

    def flush(self) -> None:
        """Write what has been collected."""
        if not self._items:
            return
        name = shard_name(self._snapshot, len(self.entries))
        self.entries.append(shard.concatenate(self._parts).write(self._folder, name))
        self._parts, self._items, self._bytes = [], 0, 0
        if self._journal is not None:
            self._journal.add(self.entries[-1])


def build(
    folder: Path,
    chunks: Iterable[Chunk],
    compressor: Compressor,
    recipe: Recipe,
    work: Work,
    *,
    resume: bool = True,
    overwrite: bool = False,
) -> tuple[Manifest, BuildReport]:
    """Compress ``chunks`` into a snapshot that shares nothing with an older one.

    A build that was cut off goes on after its last finished shard when it is started again with the same recipe and
    items: those already done are read, and compared with what is stored.

    Raises
    ------
    ValueError
        If the folder has a snapshot (and not ``overwrite``), another writer is at work, an unfinished build has another
        recipe or other items, there is nothing to keep, or an id is repeated.
    """
    began = time.perf_counter()
    with StoreLock(folder):
        current = current_snapshot(folder)
        if current and not overwrite:
            raise ValueError(
                f"{folder} holds a catalogue already. Change it with catalog.update(…), or replace it: overwrite=True."
            )
        journal, plan = Journal(folder), Plan(current + 1, recipe)
        done = _finished(journal, plan, folder) if resume else []
        if not done:
            journal.begin(plan)
        clean(folder, keep={entry.file.name for entry in done})
        writer = ShardWriter(folder, plan.snapshot, work, journal)
        writer.entries = done
        report = BuildReport(resumed=sum(entry.rows for entry in done))
        left = _not_done(chunks, Rows(folder, tuple(done), recipe.id_type))
        results = compress_all(left, compressor, work.num_proc, work.start_method)
        for result in progress(results, description="compress (chunks)"):
            writer.add(result.kept)
            report = report.plus(result)
        writer.flush()
        try:
            if not any(entry.tokens for entry in writer.entries):
                raise ValueError(
                    f"no item has a token to keep; the text fields asked for are {list(recipe.fields)}. "
                    "Name those that the items have with fields=…."
                )
            manifest = commit(folder, plan.snapshot, recipe, tuple(writer.entries))
        except (DuplicateIdError, ValueError):
            journal.remove()  # no second try can complete it
            clean(folder)
            raise
        journal.remove()
    return manifest, replace(report, seconds=time.perf_counter() - began)


def _finished(journal: Journal, plan: Plan, folder: Path) -> list[ShardEntry]:
    found = journal.read()
    if found is None or found[0].snapshot != plan.snapshot:
        return []  # nothing, or a build that was completed but for the removal of its journal
    if different := found[0].recipe.differences(plan.recipe):
        raise ValueError(
            f"{folder} holds an unfinished build that differs in {'; '.join(different)}. Run that build again to "
            "complete it, or drop it: resume=False."
        )
    return found[1]


def _not_done(chunks: Iterable[Chunk], done: Rows) -> Iterator[Chunk]:
    """The chunks after the ``done`` rows, which must be what the items before give."""
    at = 0
    for chunk in chunks:
        seen = min(len(done) - at, len(chunk))
        if seen:
            known, rows = chunk.take(np.arange(seen)), np.arange(at, at + seen)
            same = done.keys(rows).equal(Keys.from_ids(known.ids, done.id_type))
            same &= done.digests(rows) == known.digests()
            if not same.all():
                raise _other_items(f"item {known.ids[int(np.argmin(same))]!r} differs from what it stored")
            at += seen
        if seen < len(chunk):
            yield chunk.take(np.arange(seen, len(chunk))) if seen else chunk
    if at < len(done):
        raise _other_items(f"it stored {len(done)} items, of which only {at} came now")


def _other_items(found: str) -> ValueError:
    return ValueError(
        f"an unfinished build of other items is in the way: {found}. Run it with its own items to complete it, or drop "
        "it: resume=False."
    )
