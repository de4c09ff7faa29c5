"""The LMDB environment of a catalogue: one in a process, read through views, written by one writer at a time.

LMDB forbids two environments of one file in a process, and an environment that is used across ``fork``. So all
catalogues of a folder share one :class:`Store`. A forked child closes the environments that it inherits, and opens
them again when it first uses them.

Every key starts with the name of a table: ``a`` and ``b`` hold items (a rebuild fills the one that is not in use), and
``s`` what a writer has seen. ``A`` and ``B`` hold the selector that was fitted to the items of ``a`` and ``b``, if one
was. ``catalog`` and ``unfinished`` describe the catalogue and an unfinished build.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice, repeat, takewhile
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from weakref import WeakSet, WeakValueDictionary

from tsporec._internal.files import make_folder
from tsporec._internal.locks import locked
from tsporec._internal.types import expect
from tsporec._version import __version__
from tsporec.catalog.integrity import DATA, check_flags, check_pages, damaged, errors_named, lmdb, making, no_catalogue
from tsporec.catalog.records import Recipe

T = TypeVar("T")
Pairs: TypeAlias = list[tuple[bytes, bytes]]
FORMAT = 2
SEEN, CATALOG, UNFINISHED = b"s", b"catalog", b"unfinished"
RESERVED = 1 << 34  # bytes of address space for the memory map: neither disk nor memory; a map that is full grows
READERS = 1024  # catalogues of one folder that may be open at a time, in all processes
CHECKED = 1 << 19  # bytes of a file whose structure is checked whenever it is opened: a few milliseconds
PATIENCE = 5.0  # seconds that a writer waits for another one to end


@dataclass(frozen=True)
class State:
    """The description of a catalogue or an unfinished build: recipe, table and number of items."""

    recipe: Recipe
    items: str
    count: int = 0

    @property
    def table(self) -> bytes:
        """The first byte of the items' keys."""
        return self.items.encode()

    @property
    def fitted(self) -> bytes:
        """The first byte of the keys of the selector's files."""
        return self.items.upper().encode()

    def to_json(self) -> bytes:
        """Return the state as it is stored."""
        values = {"format": FORMAT, "library": __version__, **asdict(self)}
        return json.dumps(values, sort_keys=True, default=int).encode()  # a budget may be a numpy integer

    @classmethod
    def from_json(cls, data: bytes, folder: Path) -> State:
        """Read a state; anything else is a ``ValueError``."""
        try:
            values = json.loads(data)
            version = values["format"]
            if version == FORMAT and values["items"] in ("a", "b"):
                return cls(Recipe(**values["recipe"]), values["items"], int(values["count"]))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise damaged(folder, f"its description is not readable, {type(error).__name__}: {error}") from error
        raise ValueError(
            f"{folder / DATA} is of format {version}; this tsporec reads format {FORMAT}. Use the version of tsporec "
            "that wrote it, or rebuild the catalogue with this one."
        )


class Store:
    """The environment of a folder in this process; see :func:`open_store`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writing, self.reading = threading.RLock(), threading.RLock()  # taken in this order
        self.views: WeakSet[View] = WeakSet()
        self.maps = 0  # how often the memory map has been replaced
        self._env: Any = None
        self._open()

    @property
    def env(self) -> Any:
        """The environment; a forked child opens it again."""
        with self.reading:
            if self._env is None:
                self._open()
            return self._env

    def _open(self) -> None:
        data = self.folder / DATA
        # A process that may not write cannot lock either: writers do not know that it reads.
        self.announced = may = os.access(self.folder, os.W_OK) and (not data.exists() or os.access(data, os.W_OK))
        if data.exists() and 0 < data.stat().st_size <= CHECKED:
            check_pages(self.folder)
        with errors_named(self.folder), making(self.folder, READERS if may else None):
            env = lmdb.open(
                str(self.folder), map_size=RESERVED, max_readers=READERS, readonly=not may, lock=may, create=may
            )
            if data.stat().st_size < (env.info()["last_pgno"] + 1) * env.stat()["psize"]:
                check_pages(self.folder)  # only unused pages may be missing: to touch others would end the process
            check_flags(self.folder)
        self._env = env

    def leave(self) -> None:
        """Close the environment of a parent process, without ending the transactions with which the parent reads."""
        for view in self.views:
            view.txn = None
        if self._env is not None:
            self._env.close()
            self._env = None

    def states(self, txn: Any) -> tuple[State | None, State | None]:
        """Return the states of the catalogue and the unfinished build; None for one that is not there.

        A writer reads them in a write transaction, which alone sees the last commit of a writer that was killed.
        """
        found = [txn.get(name) for name in (CATALOG, UNFINISHED)]
        catalog, unfinished = (State.from_json(data, self.folder) if data else None for data in found)
        return catalog, unfinished

    def last_commit(self) -> int:
        """Return the number of the last committed transaction."""
        with errors_named(self.folder):
            return int(self.env.info()["last_txnid"])

    @contextmanager
    def read(self) -> Iterator[Any]:
        """Give a transaction that shows the last committed state."""
        with self.reading, errors_named(self.folder), self.env.begin() as txn:
            yield txn

    def get(self, keys: Sequence[bytes]) -> list[bytes]:
        """Return the value of each key in the last committed state, ``b""`` where there is none."""
        with self.read() as txn:
            return list(map(txn.get, keys, repeat(b"")))

    @contextmanager
    def write(self) -> Iterator[Any]:
        """Give a transaction that is committed at the end of the block.

        If the map is full, that is a ``MapFullError``: :meth:`grow`, and do the same again. If the disk is full or
        fails, or the folder may not be written, that is an ``OSError``. In either case the last state stays.
        """
        with self.writing, errors_named(self.folder), self._begin() as txn:
            yield txn

    def _begin(self) -> Any:
        """Begin to write, with a larger map if another process has grown the file beyond this one's."""
        while True:
            try:
                return self.env.begin(write=True)
            except lmdb.MapResizedError:  # noqa: PERF203 - tried again
                self.grow()

    def grow(self) -> None:
        """Double the memory map. The views of this process lose their state."""
        with self.writing, self.reading, errors_named(self.folder):
            self.maps += 1
            self.env.set_mapsize(2 * max(self.env.info()["map_size"], (self.folder / DATA).stat().st_size))


class View:
    """The catalogue at one moment. It stays the same while others write.

    Writers cannot reuse the pages that a view shows, so a view that lives through many updates makes the file grow. A
    view of a process that may not write to the folder moves to the newest state, for writers do not know of it.
    """

    def __init__(self, store: Store) -> None:
        self.store, self.txn = store, None
        self._begin()
        store.views.add(self)

    def _begin(self) -> None:
        store = self.store
        while True:
            try:
                with store.reading, errors_named(store.folder):
                    txn = store.env.begin()
                    state, unfinished = store.states(txn)
                    if state is None:
                        raise no_catalogue(store.folder, unfinished is not None)
                    self.state, self.txn, self._maps, self._number = state, txn, store.maps, txn.id()
                return
            except lmdb.MapResizedError:  # noqa: PERF203 - another process has grown the file beyond this map
                store.grow()

    def read(self, work: Callable[[Any], T]) -> T:
        """Return ``work(transaction)``. Threads take turns."""
        store = self.store
        while True:
            with store.reading, errors_named(store.folder):
                if self.txn is not None:
                    if self._maps != store.maps:
                        raise ValueError(
                            f"{store.folder} has outgrown the memory map of this process, and the catalogue has lost "
                            "the state that it had opened. Open it again: ItemCatalog.open(path)."
                        )
                    found = work(self.txn)
                    if store.announced or store.last_commit() == self._number:
                        return found
            self._begin()

    def get(self, keys: Sequence[bytes]) -> list[bytes]:
        """Return the record of each item, ``b""`` where there is none."""
        return self.read(lambda txn: list(map(txn.get, map(self.state.table.__add__, keys), repeat(b""))))

    def scan(self) -> Iterator[Pairs]:
        """Yield lists of keys and records, in the order of the keys."""
        last = b""

        def work(txn: Any) -> Pairs:
            return following(txn, self.state.table, last)

        while part := self.read(work):
            yield part
            last = part[-1][0]


def following(txn: Any, table: bytes, last: bytes = b"", size: int = 4096) -> Pairs:
    """Return the next ``size`` keys and values of a table, after the key ``last``."""
    cursor = txn.cursor()
    if not cursor.set_range(table + last):
        return []
    found = islice(cursor.iternext(), size + 1)
    pairs = [(key[1:], value) for key, value in takewhile(lambda pair: pair[0][:1] == table, found)]
    return pairs[1:] if last and pairs and pairs[0][0] == last else pairs[:size]


def pairs_of(txn: Any, table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a table."""
    part = following(txn, table)
    while part:
        yield from part
        part = following(txn, table, part[-1][0])


def clear(txn: Any, table: bytes) -> None:
    """Delete all keys of a table."""
    cursor = txn.cursor()
    found = cursor.set_range(table)
    while found and cursor.key()[:1] == table:
        found = cursor.delete()


_stores: WeakValueDictionary[tuple[int, int], Store] = WeakValueDictionary()
_opening = threading.RLock()
_held: list[Store] = []


def open_store(path: str | Path, *, create: bool = False) -> Store:
    """Return the one store of a folder in this process. No or a damaged catalogue is a ``ValueError``."""
    expect("path", path, str | Path, "a text or a Path, such as 'catalog/'")
    folder, data = Path(path), Path(path) / DATA
    with _opening:
        there = data.is_file() and data.stat().st_size > 0
        if not there and not create:
            raise no_catalogue(folder, unfinished=False)
        store = _stores.get(_identity(data)) if there else None
        if store is None:
            store = Store(folder)
            _stores[_identity(data)] = store
        return store


def _identity(data: Path) -> tuple[int, int]:
    status = data.stat()
    return status.st_dev, status.st_ino


def _before_fork() -> None:
    """Wait until no thread is in the middle of an operation: half of it would live on in the child."""
    _opening.acquire()
    _held[:] = _stores.values()
    for store in _held:
        store.writing.acquire()
        store.reading.acquire()


def _after_fork() -> None:
    for store in _held:
        store.reading.release()
        store.writing.release()
    _held.clear()
    _opening.release()


def _after_fork_in_child() -> None:
    for store in _held:
        store.leave()
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)


@contextmanager
def writer_lock(path: str | Path) -> Iterator[None]:
    """Be the folder's only writer. The folder is made if it is missing.

    Another writer, which is named, that has not ended within ``PATIENCE`` seconds is a ``ValueError``.
    """
    expect("path", path, str | Path, "a text or a Path, such as 'catalog/'")
    folder = Path(path)
    make_folder(folder)
    with locked(folder / "writer.lock", folder / "writer.txt", PATIENCE):
        yield
