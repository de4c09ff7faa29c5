"""Write records to the disk, many at a time, each item once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.digest import short_digests
from tsporec.catalog.records import HEADER, Recipe, decode_ids, encode_ids, headers_of
from tsporec.catalog.sources import Chunk
from tsporec.catalog.store import SEEN, State, Store, pairs_of

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

    Examples
    --------
    >>> Work(num_proc=2).chunk_items
    1024
    """

    num_proc: int = 1
    chunk_items: int = 1024
    commit_items: int = 1 << 17
    start_method: str = "spawn"

    def __post_init__(self) -> None:
        for name in ("num_proc", "chunk_items", "commit_items"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; found {getattr(self, name)}.")


@dataclass(frozen=True)
class BuildReport:
    """Count the work of a build or update.

    Parameters
    ----------
    items, empty : int
        Number of items compressed, and of those among them that have no token.
    known : int
        Number of items compressed for which the selector has item weights.
    resumed : int
        Number of items that an earlier, unfinished run had compressed. They are not in ``items``.
    unchanged : int
        Number of items of an update whose text is the stored one. They are not in ``items``.
    tokens_before, tokens_after : int
        Number of tokens of the items compressed: in their texts, and kept.
    seconds : float
        Wall-clock time.

    Examples
    --------
    >>> BuildReport(items=10, seconds=2.0).items_per_second
    5.0
    """

    items: int = 0
    empty: int = 0
    known: int = 0
    resumed: int = 0
    unchanged: int = 0
    tokens_before: int = 0
    tokens_after: int = 0
    seconds: float = 0.0

    @property
    def items_per_second(self) -> float:
        """Items compressed in a second."""
        return self.items / self.seconds if self.seconds else 0.0

    def plus(self, records: Sequence[bytes], recipe: Recipe) -> BuildReport:
        """Return the report with more records."""
        tokens = (np.fromiter(map(len, records), np.int64, len(records)) - HEADER.itemsize) // recipe.cell.itemsize
        return replace(
            self,
            items=self.items + len(records),
            empty=self.empty + int((tokens == 0).sum()),
            tokens_before=self.tokens_before + int(headers_of(records)["length"].sum(dtype=np.int64)),
            tokens_after=self.tokens_after + int(tokens.sum()),
        )


class Writer:
    """Take records and commit them many at a time.

    Parameters
    ----------
    store : Store
    state : State
        The recipe, and the table of items.
    work : Work
    first : callable
        It is called in the first transaction, before anything is put.
    compare : bool
        Whether items that the table holds with the same text are skipped.
    staged : bool
        Whether records wait in the table ``seen``, and do not go to the table of items at once.
    """

    def __init__(
        self, store: Store, state: State, work: Work, first: Callable[[Any], None], *, compare: bool, staged: bool
    ) -> None:
        self.store, self.recipe, self.table = store, state.recipe, state.table
        self._first: Callable[[Any], None] | None = first
        self._most, self._compare, self._staged = work.commit_items, compare, staged
        self._waiting: list[tuple[bytes, bytes]] = []
        self._committed = time.monotonic()
        self.skipped, self.report = 0, BuildReport()

    def add(self, keys: Sequence[bytes], records: Sequence[bytes], known: int = 0) -> None:
        """Take records. An empty one marks an item whose record is in the table already."""
        self._waiting += zip(keys, records, strict=True)
        if new := [record for record in records if record]:
            self.report = replace(self.report.plus(new, self.recipe), known=self.report.known + known)
        self.skipped += len(records) - len(new)
        if len(self._waiting) >= self._most or time.monotonic() - self._committed > _SECONDS:
            self.commit()

    def changed(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """Yield the items that the table lacks or holds with another text. The others are marked."""
        for chunk in chunks:
            keys = encode_ids(chunk.ids, self.recipe.id_type)
            same = same_texts(self.store.get([self.table + key for key in keys]), chunk)
            known = [key for key, one in zip(keys, same, strict=True) if one]
            self.add(known, [b""] * len(known))
            if len(known) < len(keys):
                yield chunk.take(np.flatnonzero(~same)) if known else chunk

    def commit(self, last: Callable[[Any], None] | None = None) -> None:
        """Commit what has been added, and what ``last`` does."""
        waiting, self._waiting = self._waiting, []
        if not waiting and last is None:
            return

        def work(txn: Any) -> None:
            if self._first is not None:
                self._first(txn)
            for key, record in waiting:
                self._put(txn, key, record)
            if last is not None:
                last(txn)

        self.store.write(work)
        self._first, self._committed = None, time.monotonic()

    def _put(self, txn: Any, key: bytes, record: bytes) -> None:
        new = True
        if self._compare:
            new = txn.put(SEEN + key, record if self._staged else b"", overwrite=False)
        if record and not self._staged:
            new &= txn.put(self.table + key, record, overwrite=self._compare)
        if not new:
            (name,) = decode_ids([key], self.recipe.id_type)
            raise ValueError(f"item {name!r} comes more than once; an id stands for one item, so give it once.")

    def stored(self) -> NDArray[np.uint64]:
        """Return :func:`item_digests` of what the table holds."""
        pairs = self.store.read(lambda txn: [(k, r[: HEADER.itemsize]) for k, r in pairs_of(txn, self.table)])
        return item_digests([key for key, _ in pairs], headers_of([head for _, head in pairs])["digest"])


def item_digests(keys: Sequence[bytes], digests: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a digest of each item's key and text digest: uint64 ``[N]``."""
    return short_digests(key + digest.tobytes() for key, digest in zip(keys, digests.astype("<u8"), strict=True))


def same_texts(records: Sequence[bytes], chunk: Chunk) -> Any:
    """Return whether each record was made from the text of the chunk's item: bool ``[N]``."""
    found = np.fromiter(map(len, records), np.int64, len(records)) >= HEADER.itemsize
    return found & (headers_of(records)["digest"] == chunk.digests())
