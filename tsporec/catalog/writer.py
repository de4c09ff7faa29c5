"""Write records to the disk, many at a time, each item once.

A :class:`Writer` is a context. Its end is one last transaction, after which the new state is there whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_all_start_methods
from typing import Any, TypeVar

import numpy as np

from tsporec._internal.progress import progress
from tsporec._internal.types import check_types
from tsporec.catalog.changes import Build, Update, came_twice
from tsporec.catalog.compress import COUNTS, Compressed, map_chunks
from tsporec.catalog.integrity import lmdb
from tsporec.catalog.records import HEADER, Recipe, encode_ids, headers_of
from tsporec.catalog.sources import Chunk
from tsporec.catalog.store import Store

T = TypeVar("T")
_SECONDS = 10.0  # after this time records are committed, however few they are


@dataclass(frozen=True)
class Work:
    """Options of the work. None of them changes the result.

    Parameters
    ----------
    num_proc : int
        Number of worker processes that tokenise, score and select. With 1 (default) this process does it.
    chunk_items : int
        Number of items that a worker takes at a time. Default 1,024.
    commit_items : int
        Number of items that are committed at a time. Default 131,072; fewer if 10 seconds have passed.
    start_method : str
        How worker processes are started: ``"spawn"`` (default), ``"forkserver"`` or ``"fork"``.

    >>> Work(num_proc=2).chunk_items
    1024
    """

    num_proc: int = 1
    chunk_items: int = 1024
    commit_items: int = 1 << 17
    start_method: str = "spawn"

    def __post_init__(self) -> None:
        check_types(self)
        if self.start_method not in (known := get_all_start_methods()):
            raise ValueError(f"start_method must be one of {', '.join(known)}; found {self.start_method!r}.")
        for name in ("num_proc", "chunk_items", "commit_items"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; found {getattr(self, name)}.")

    @classmethod
    def of(cls, options: dict[str, Any]) -> Work:
        """Make it of the arguments of a build or an update that are not theirs."""
        if other := sorted(options.keys() - cls.__dataclass_fields__.keys()):
            raise TypeError(
                f"unexpected argument {other[0]!r}; expected those of the method, or one of "
                f"{', '.join(cls.__dataclass_fields__)}. An update takes the rest from its catalogue."
            )
        return cls(**options)

    def map(self, work: Callable[[Chunk], T], chunks: Iterable[Chunk]) -> Iterator[T]:
        """Yield ``work(chunk)`` of each chunk; see :func:`~tsporec.catalog.compress.map_chunks`."""
        return map_chunks(work, chunks, self.num_proc, self.start_method)


@dataclass(frozen=True)
class BuildReport:
    """Count the work of a build or update.

    >>> BuildReport(items=10, seconds=2.0).items_per_second
    5.0
    """

    items: int = 0  # compressed
    empty: int = 0  # without a token, among those compressed
    known: int = 0  # for which the selector has item weights, among those compressed
    marked: int = 0  # tokens that the selector's patterns name, in the texts of the items compressed
    survived: int = 0  # kept of these
    resumed: int = 0  # compressed by an earlier, unfinished run
    unchanged: int = 0  # of an update, with the stored text
    tokens_before: int = 0  # in the texts of the items compressed
    tokens_after: int = 0  # kept of them
    seconds: float = 0.0  # wall-clock time

    @property
    def items_per_second(self) -> float:
        """Items compressed in a second."""
        return self.items / self.seconds if self.seconds else 0.0

    def plus(self, records: Sequence[bytes], recipe: Recipe) -> BuildReport:
        """Return the report with more records."""
        sizes = np.fromiter(map(len, records), np.int64, len(records)) - HEADER.itemsize
        tokens = sizes // recipe.token_dtype.itemsize
        return replace(
            self,
            items=self.items + len(records),
            empty=self.empty + int((tokens == 0).sum()),
            tokens_before=self.tokens_before + int(headers_of(records)["length"].sum(dtype=np.int64)),
            tokens_after=self.tokens_after + int(tokens.sum()),
        )


class Writer:
    """Take records, commit them many at a time, and finish the change at the end of the block."""

    def __init__(self, store: Store, change: Build | Update, work: Work) -> None:
        self.store, self.change, self.work = store, change, work
        self.recipe, self.report = change.state.recipe, BuildReport()
        self._waiting: list[tuple[bytes, bytes]] = []
        self._skipped = 0
        self._begun, self._began, self._committed = False, time.perf_counter(), time.monotonic()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is None or self.change.commits_parts:
            self.commit(last=kind is None)
        seconds = time.perf_counter() - self._began
        self.report = replace(self.report, seconds=seconds, **{self.change.skipped: self._skipped})

    def changed(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """Yield the items of each chunk that the table lacks or holds with another text. The others are marked."""
        for chunk in chunks:
            keys = encode_ids(chunk.ids, self.recipe.id_type)
            same = same_texts(self.store.get([self.change.state.table + key for key in keys]), chunk)
            known = [(key, b"") for key, one in zip(keys, same, strict=True) if one]
            self._waiting += known
            self._skipped += len(known)
            yield chunk.take(np.flatnonzero(~same)) if known else chunk

    def fill(self, results: Iterable[Compressed]) -> None:
        """Take all records, with a progress bar."""
        for done in progress(results, "compress items", lambda done: len(done.keys)):
            self.add(*done)

    def add(self, keys: Sequence[bytes], records: Sequence[bytes], *counts: int) -> None:
        """Take records, and ``counts`` for the report. An empty record marks an item whose record is there already."""
        self._waiting += zip(keys, records, strict=True)
        if new := [record for record in records if record]:
            more = {name: getattr(self.report, name) + count for name, count in zip(COUNTS, counts, strict=True)}
            self.report = replace(self.report.plus(new, self.recipe), **more)
        self._skipped += len(records) - len(new)
        if len(self._waiting) >= self.work.commit_items or time.monotonic() - self._committed > _SECONDS:
            self.commit()

    def commit(self, *, last: bool = False) -> None:
        """Commit what has been added. The ``last`` time the change is complete."""
        waiting, self._waiting = self._waiting, []
        if not waiting and not last:
            return
        problem = None
        while True:
            try:
                with self.store.write() as txn:
                    if not self._begun:
                        self.change.begin(txn)
                    for key, record in waiting:
                        if not self.change.put(txn, key, record):
                            raise came_twice(key, self.recipe)
                    if last:
                        problem = self.change.finish(txn, self.report.items + self._skipped)
                break
            except lmdb.MapFullError:  # nothing was committed
                self.store.grow()
        self._begun, self._committed = True, time.monotonic()
        if problem is not None:
            raise problem


def same_texts(records: Sequence[bytes], chunk: Chunk) -> Any:
    """Return whether each record was made from the text of the chunk's item: bool ``[N]``."""
    found = np.fromiter(map(len, records), np.int64, len(records)) >= HEADER.itemsize
    return found & (headers_of(records)["digest"] == chunk.digests())
