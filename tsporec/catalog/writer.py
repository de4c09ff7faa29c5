"""Write records to the disk, many at a time, each item once.

:class:`Build` fills a table and makes it the catalogue. :class:`Update` changes the catalogue. Both are contexts: their
end is one last transaction, after which the new state is there whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.digest import short_digests
from tsporec._internal.progress import progress
from tsporec.catalog.compress import Compressed
from tsporec.catalog.integrity import no_catalogue
from tsporec.catalog.records import HEADER, ItemId, Recipe, decode_ids, encode_ids, headers_of
from tsporec.catalog.sources import Chunk
from tsporec.catalog.store import CATALOG, SEEN, UNFINISHED, State, clear, open_store, pairs_of

W = TypeVar("W", bound="Writer")

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
        for name in ("num_proc", "chunk_items", "commit_items"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; found {getattr(self, name)}.")


@dataclass(frozen=True)
class BuildReport:
    """Count the work of a build or update.

    >>> BuildReport(items=10, seconds=2.0).items_per_second
    5.0
    """

    items: int = 0  # compressed
    empty: int = 0  # without a token, among those compressed
    known: int = 0  # for which the selector has item weights, among those compressed
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
    """Take records and commit them many at a time; the folder's :func:`writer_lock` is held meanwhile."""

    def __init__(self, folder: Path, recipe: Recipe, work: Work) -> None:
        self.folder, self.recipe, self.work = folder, recipe, work
        self.skipped, self.report = 0, BuildReport()
        self._waiting: list[tuple[bytes, bytes]] = []
        self._begun, self._began, self._committed = False, time.perf_counter(), time.monotonic()
        self.store = open_store(folder, create=isinstance(self, Build))
        self.state = self._open(*self.store.write(self.store.states))

    def __enter__(self: W) -> W:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        self._close(kind is None)
        self.report = replace(self.report, seconds=time.perf_counter() - self._began)

    def _open(self, catalog: State | None, unfinished: State | None) -> State:
        """Return the state to write, given those of the folder."""
        raise NotImplementedError

    def _begin(self, txn: Any) -> None:
        clear(txn, SEEN)

    def _put(self, txn: Any, key: bytes, record: bytes) -> bool:
        """Put a record, or mark the item of an empty one; False if the item came before."""
        raise NotImplementedError

    def _finish(self, txn: Any) -> None:
        """Make what was put the catalogue, in the last transaction."""
        raise NotImplementedError

    def _close(self, whole: bool) -> None:
        """End the work, which is ``whole`` or was cut off."""
        raise NotImplementedError

    def changed(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """Yield the items that the table lacks or holds with another text. The others are marked."""
        for chunk in chunks:
            keys = encode_ids(chunk.ids, self.recipe.id_type)
            same = same_texts(self.store.get([self.state.table + key for key in keys]), chunk)
            known = [key for key, one in zip(keys, same, strict=True) if one]
            self.add(known, [b""] * len(known))
            if len(known) < len(keys):
                yield chunk.take(np.flatnonzero(~same)) if known else chunk

    def fill(self, results: Iterable[Compressed]) -> None:
        """Take all records, with a progress bar."""
        for done in progress(results, "compress"):
            self.add(*done)

    def add(self, keys: Sequence[bytes], records: Sequence[bytes], known: int = 0) -> None:
        """Take records. An empty one marks an item whose record is in the table already."""
        self._waiting += zip(keys, records, strict=True)
        if new := [record for record in records if record]:
            self.report = replace(self.report.plus(new, self.recipe), known=self.report.known + known)
        self.skipped += len(records) - len(new)
        if len(self._waiting) >= self.work.commit_items or time.monotonic() - self._committed > _SECONDS:
            self.commit()

    def commit(self, *, last: bool = False) -> None:
        """Commit what has been added. The ``last`` time the catalogue is complete."""
        waiting, self._waiting = self._waiting, []
        if not waiting and not last:
            return

        def work(txn: Any) -> None:  # called again if the memory map has to grow
            if not self._begun:
                self._begin(txn)
            for key, record in waiting:
                if not self._put(txn, key, record):
                    raise _twice(key, self.recipe)
            if last:
                self._finish(txn)

        self.store.write(work)
        self._begun, self._committed = True, time.monotonic()


class Build(Writer):
    """Fill a table and make it the catalogue; see :meth:`tsporec.ItemCatalog.build` for the errors.

    A build that was cut off goes on when it is started again with the same recipe. Records whose text has not changed
    are kept; those of items that no longer come are removed. ``resumed`` says whether there are such records.
    """

    def __init__(self, folder: Path, recipe: Recipe, work: Work, *, resume: bool, overwrite: bool) -> None:
        self.resume, self.overwrite = resume, overwrite
        super().__init__(folder, recipe, work)

    def _open(self, catalog: State | None, unfinished: State | None) -> State:
        if catalog is not None and not self.overwrite:
            raise ValueError(
                f"{self.folder} holds a catalogue already. Change it with catalog.update(…), or replace it: "
                "overwrite=True (--overwrite)."
            )
        if unfinished is not None and self.resume and (different := unfinished.recipe.differences(self.recipe)):
            raise ValueError(
                f"{self.folder} holds an unfinished build that differs in {'; '.join(different)}. Run that build again "
                "to complete it, or drop it: resume=False (--no-resume)."
            )
        self.before, self.resumed = catalog, unfinished is not None and self.resume
        return State(self.recipe, "b" if catalog and catalog.items == "a" else "a")

    def changed(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """Yield the items that an unfinished build has not done."""
        return super().changed(chunks) if self.resumed else iter(chunks)

    def _begin(self, txn: Any) -> None:
        super()._begin(txn)
        if not self.resumed:
            clear(txn, self.state.table)
        txn.put(UNFINISHED, self.state.to_json())

    def _put(self, txn: Any, key: bytes, record: bytes) -> bool:
        # Records go into the table at once. Only a build that goes on has to mark what came.
        new = not self.resumed or txn.put(SEEN + key, b"", overwrite=False)
        return bool(new and (not record or txn.put(self.state.table + key, record, overwrite=self.resumed)))

    def _finish(self, txn: Any) -> None:
        table = self.state.table
        gone = [key for key, _ in pairs_of(txn, table) if txn.get(SEEN + key) is None] if self.resumed else []
        for key in gone:
            txn.delete(table + key)
        if not any(len(record) > HEADER.itemsize for _, record in pairs_of(txn, table)):
            raise _NoTokenError(
                f"no item has a token to keep; the text fields asked for are {list(self.recipe.fields)}. "
                "Name those that the items have with fields=… (--fields)."
            )
        txn.put(CATALOG, replace(self.state, count=self.report.items + self.skipped).to_json())
        self._drop(txn)
        if self.before is not None:
            clear(txn, self.before.table)

    def _close(self, whole: bool) -> None:
        try:
            self.commit(last=whole)
        except _NoTokenError:  # no second try can complete it
            self.store.write(self._drop)
            raise
        self.report = replace(self.report, resumed=self.skipped)

    def _drop(self, txn: Any) -> None:
        txn.delete(UNFINISHED)
        clear(txn, SEEN)

    def stored(self) -> NDArray[np.uint64]:
        """Return :func:`item_digests` of what the table of an unfinished build holds."""
        pairs = self.store.read(lambda txn: [(k, r[: HEADER.itemsize]) for k, r in pairs_of(txn, self.state.table)])
        return item_digests([key for key, _ in pairs], headers_of([head for _, head in pairs])["digest"])


class Update(Writer):
    """Add the items that are new, replace those whose text has changed, delete ``deleted``; all or nothing.

    Records wait in the table ``seen``. See :meth:`tsporec.ItemCatalog.update` for the errors.
    """

    def __init__(self, folder: Path, recipe: Recipe, work: Work, deleted: Sequence[ItemId]) -> None:
        self.deleted = encode_ids(deleted, recipe.id_type)
        super().__init__(folder, recipe, work)

    def _open(self, catalog: State | None, unfinished: State | None) -> State:
        if catalog is None:
            raise no_catalogue(self.folder, unfinished is not None)
        if different := catalog.recipe.differences(self.recipe):
            raise ValueError(
                f"{self.folder} was built otherwise: {'; '.join(different)}. Kept tokens of two kinds are never mixed: "
                "update with what it was built with, or build it anew with overwrite=True."
            )
        for key in self.deleted:
            if not self.store.get([catalog.table + key])[0]:
                raise ValueError(f"there is no item {_name(key, self.recipe)} to delete in {self.folder}.")
        return catalog

    def _put(self, txn: Any, key: bytes, record: bytes) -> bool:
        return bool(txn.put(SEEN + key, record, overwrite=False))

    def _finish(self, txn: Any) -> None:
        count = self.state.count - len(self.deleted)
        for key in self.deleted:
            if txn.get(SEEN + key) is not None or not txn.delete(self.state.table + key):
                raise _twice(key, self.recipe)
        for key, record in pairs_of(txn, SEEN):
            if record and not txn.replace(self.state.table + key, record):
                count += 1
        clear(txn, SEEN)
        txn.put(CATALOG, replace(self.state, count=count).to_json())

    def _close(self, whole: bool) -> None:
        # What an update that was cut off left behind is dropped by the next one.
        if whole and (self.report.items or self.deleted):
            self.commit(last=True)
        self.report = replace(self.report, unchanged=self.skipped)


class _NoTokenError(ValueError):
    """No item of a build has a token."""


def _twice(key: bytes, recipe: Recipe) -> ValueError:
    return ValueError(f"item {_name(key, recipe)} comes more than once; an id stands for one item, so give it once.")


def _name(key: bytes, recipe: Recipe) -> str:
    return repr(decode_ids([key], recipe.id_type)[0])


def item_digests(keys: Sequence[bytes], digests: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a digest of each item's key and text digest: uint64 ``[N]``."""
    return short_digests(key + digest.tobytes() for key, digest in zip(keys, digests.astype("<u8"), strict=True))


def same_texts(records: Sequence[bytes], chunk: Chunk) -> Any:
    """Return whether each record was made from the text of the chunk's item: bool ``[N]``."""
    found = np.fromiter(map(len, records), np.int64, len(records)) >= HEADER.itemsize
    return found & (headers_of(records)["digest"] == chunk.digests())
