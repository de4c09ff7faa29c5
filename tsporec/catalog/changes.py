"""The two changes to a catalogue, a build and an update, as steps within transactions of a writer.

A build puts records into the table that is not in use and makes it the catalogue. An update collects records in the
table ``seen`` and moves them into the catalogue at its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.digest import short_digests
from tsporec._internal.progress import progress
from tsporec.catalog.compress import Compressor, WordCounts, load_selector, save_selector
from tsporec.catalog.integrity import no_catalogue
from tsporec.catalog.records import HEADER, ItemId, Recipe, decode_ids, encode_ids, headers_of
from tsporec.catalog.store import CATALOG, SEEN, UNFINISHED, State, Store, clear, pairs_of


class Build:
    """Fill a table and make it the catalogue; see :meth:`tsporec.ItemCatalog.build` for the errors.

    A build that was cut off goes on when it is started again with the same recipe. Records whose text has not changed
    are kept; those of items that no longer come are removed.
    """

    commits_parts = True
    """A build that is cut off keeps its records."""
    skipped = "resumed"
    """The field of the report that counts items whose record is there already."""

    state: State

    def __init__(self, store: Store, *, resume: bool, overwrite: bool) -> None:
        with store.write() as txn:
            catalog, unfinished = store.states(txn)
            self._fitted = {} if unfinished is None or not resume else files_of(txn, unfinished)
        if catalog is not None and not overwrite:
            raise ValueError(
                f"{store.folder} holds a catalogue already. Change it with catalog.update(…), or replace it: "
                "overwrite=True (--overwrite)."
            )
        self.folder, self.before, self._unfinished = store.folder, catalog, unfinished if resume else None

    @property
    def resumed(self) -> bool:
        """Whether records of an unfinished build are there."""
        return self._unfinished is not None

    def start(self, compressor: Compressor, counts: Iterable[WordCounts] | None) -> Compressor:
        """Return the compressor to build with. One that differs from that of an unfinished build is a ``ValueError``.

        The selector is fitted to ``counts`` of all items, if there are any, and stored. A build that goes on has that
        selector already: words are counted once, when it begins, and only if nothing refuses it.
        """
        if counts is not None and (fitted := load_selector(self._fitted)):
            compressor = compressor.with_selector(fitted.for_tokenizer(compressor.tokenizer))
        different = self._unfinished.recipe.differences(compressor.recipe) if self._unfinished else []
        if self._unfinished and counts is not None and not self._fitted:
            different = ["selector (one was given here, and now there is none)"]
        if different:
            raise ValueError(
                f"{self.folder} holds an unfinished build that differs in {'; '.join(different)}. Run that build "
                "again to complete it, or drop it: resume=False (--no-resume)."
            )
        if counts is not None and not self._fitted:
            compressor = compressor.fitted(progress(counts, "count words of items", lambda one: one[1]))
            self._fitted = save_selector(compressor.selector)
        self.state = State(compressor.recipe, "b" if self.before and self.before.items == "a" else "a")
        return compressor

    def begin(self, txn: Any) -> None:
        """Start, in the first transaction."""
        clear(txn, SEEN)
        if not self.resumed:
            clear(txn, self.state.table)
            clear(txn, self.state.fitted)
            for name, data in self._fitted.items():
                txn.put(self.state.fitted + name.encode(), data)
        txn.put(UNFINISHED, self.state.to_json())

    def put(self, txn: Any, key: bytes, record: bytes) -> bool:
        """Put a record, or mark the item of an empty one; False if the item came before."""
        # Records go into the table at once. Only a build that goes on has to mark what came.
        new = not self.resumed or txn.put(SEEN + key, b"", overwrite=False)
        return bool(new and (not record or txn.put(self.state.table + key, record, overwrite=self.resumed)))

    def finish(self, txn: Any, count: int) -> ValueError | None:
        """Make the table of ``count`` items the catalogue. If none has a token, drop the build and return the error."""
        table = self.state.table
        gone = [key for key, _ in pairs_of(txn, table) if txn.get(SEEN + key) is None] if self.resumed else []
        for key in gone:
            txn.delete(table + key)
        txn.delete(UNFINISHED)
        clear(txn, SEEN)
        if not any(len(record) > HEADER.itemsize for _, record in pairs_of(txn, table)):
            return ValueError(
                f"no item has a token to keep; the text fields asked for are {list(self.state.recipe.fields)}. "
                "Name those that the items have with fields=… (--fields)."
            )
        txn.put(CATALOG, replace(self.state, count=count).to_json())
        if self.before is not None:
            clear(txn, self.before.table)
            clear(txn, self.before.fitted)
        return None

    def stored(self, store: Store) -> NDArray[np.uint64]:
        """Return :func:`item_digests` of what the table of an unfinished build holds; none if the build is new."""
        if not self.resumed:
            return np.zeros(0, dtype=np.uint64)
        with store.read() as txn:
            pairs = [(key, record[: HEADER.itemsize]) for key, record in pairs_of(txn, self.state.table)]
        return item_digests([key for key, _ in pairs], headers_of([head for _, head in pairs])["digest"])


class Update:
    """Add the items that are new, replace those whose text has changed, delete ``deleted``; all or nothing.

    See :meth:`tsporec.ItemCatalog.update` for the errors.
    """

    commits_parts = False
    """What an update that was cut off left behind is dropped by the next one."""
    skipped = "unchanged"

    def __init__(self, store: Store, recipe: Recipe, deleted: Sequence[ItemId]) -> None:
        with store.write() as txn:
            catalog, unfinished = store.states(txn)
        if catalog is None:
            raise no_catalogue(store.folder, unfinished is not None)
        if different := catalog.recipe.differences(recipe):
            raise ValueError(
                f"{store.folder} was built otherwise: {'; '.join(different)}. Kept tokens of two kinds are never "
                "mixed: update with what it was built with, or build it anew with overwrite=True."
            )
        self.state, self.deleted = catalog, encode_ids(deleted, recipe.id_type)
        for key in self.deleted:
            if not store.get([catalog.table + key])[0]:
                raise ValueError(f"there is no item {named(key, recipe)} to delete in {store.folder}.")

    def begin(self, txn: Any) -> None:
        """Start, in the first transaction."""
        clear(txn, SEEN)

    def put(self, txn: Any, key: bytes, record: bytes) -> bool:
        """Put a record, or mark the item of an empty one; False if the item came before."""
        return bool(txn.put(SEEN + key, record, overwrite=False))

    def finish(self, txn: Any, _: int) -> ValueError | None:
        """Move the records into the catalogue and delete items."""
        count = self.state.count - len(self.deleted)
        for key in self.deleted:
            if txn.get(SEEN + key) is not None or not txn.delete(self.state.table + key):
                raise came_twice(key, self.state.recipe)
        for key, record in pairs_of(txn, SEEN):
            if record and not txn.replace(self.state.table + key, record):
                count += 1
        clear(txn, SEEN)
        txn.put(CATALOG, replace(self.state, count=count).to_json())
        return None


def files_of(txn: Any, state: State) -> dict[str, bytes]:
    """Return the files of the selector that was fitted to the items; none if the catalogue was given one."""
    return {name.decode(): data for name, data in pairs_of(txn, state.fitted)}


def came_twice(key: bytes, recipe: Recipe) -> ValueError:
    """Return the error for an item that came more than once."""
    return ValueError(f"item {named(key, recipe)} comes more than once; an id stands for one item, so give it once.")


def named(key: bytes, recipe: Recipe) -> str:
    """Return the id of a key, for an error."""
    return repr(decode_ids([key], recipe.id_type)[0])


def item_digests(keys: Sequence[bytes], digests: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a digest of each item's key and text digest: uint64 ``[N]``."""
    return short_digests(key + digest.tobytes() for key, digest in zip(keys, digests.astype("<u8"), strict=True))
