"""Builds and updates: records are committed many at a time, and one last transaction makes them the catalogue."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from tsporec.catalog.compress import Compressor, Records, compress_all
from tsporec.catalog.faults import no_catalogue
from tsporec.catalog.records import HEADER, ItemId, Recipe, encode_ids
from tsporec.catalog.sources import Chunk
from tsporec.catalog.store import CATALOG, SEEN, UNFINISHED, State, clear, open_store, pairs_of, writer_lock
from tsporec.catalog.writer import BuildReport, Work, Writer


def build(
    folder: Path,
    recipe: Recipe,
    work: Work,
    produce: Callable[[Writer, bool], Iterable[Records]],
    *,
    resume: bool = True,
    overwrite: bool = False,
) -> BuildReport:
    """Fill a table with the records that ``produce`` makes, and make it the catalogue.

    A build that was cut off goes on when it is started again with the same recipe. Records whose text has not changed
    are kept; those of items that no longer come are removed.

    ``produce`` is called with the writer, and with whether its table holds records of an unfinished build. The other
    arguments and the errors are those of :meth:`tsporec.ItemCatalog.build`.
    """
    began = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    with writer_lock(folder):
        store = open_store(folder, create=True)
        before, unfinished = store.write(store.states)
        if before is not None and not overwrite:
            raise ValueError(
                f"{folder} holds a catalogue already. Change it with catalog.update(…), or replace it: overwrite=True "
                "(--overwrite)."
            )
        if unfinished is not None and resume and (different := unfinished.recipe.differences(recipe)):
            raise ValueError(
                f"{folder} holds an unfinished build that differs in {'; '.join(different)}. Run that build again to "
                "complete it, or drop it: resume=False (--no-resume)."
            )
        state, resumed = State(recipe, "b" if before and before.items == "a" else "a"), bool(unfinished and resume)

        def first(txn: Any) -> None:
            clear(txn, SEEN)
            if not resumed:
                clear(txn, state.table)
            txn.put(UNFINISHED, state.to_json())

        def last(txn: Any) -> None:
            gone = [key for key, _ in pairs_of(txn, state.table) if txn.get(SEEN + key) is None] if resumed else []
            for key in gone:
                txn.delete(state.table + key)
            if not any(len(record) > HEADER.itemsize for _, record in pairs_of(txn, state.table)):
                raise _NoTokenError(
                    f"no item has a token to keep; the text fields asked for are {list(recipe.fields)}. "
                    "Name those that the items have with fields=… (--fields)."
                )
            txn.put(CATALOG, replace(state, count=writer.report.items + writer.skipped).to_json())
            drop(txn)
            if before is not None:
                clear(txn, before.table)

        def drop(txn: Any) -> None:
            txn.delete(UNFINISHED)
            clear(txn, SEEN)

        writer = Writer(store, state, work, first, compare=resumed, staged=False)
        try:
            for done in _shown(produce(writer, resumed)):
                writer.add(*done)
        except BaseException:
            writer.commit()  # what is finished is not lost
            raise
        try:
            writer.commit(last)
        except _NoTokenError:
            store.write(drop)  # no second try can complete it
            raise
    return replace(writer.report, resumed=writer.skipped, seconds=time.perf_counter() - began)


class _NoTokenError(ValueError):
    """No item of a build has a token."""


def update(
    folder: Path, chunks: Iterable[Chunk], deleted: Sequence[ItemId], compressor: Compressor, work: Work
) -> BuildReport:
    """Add the items that are new, replace those whose text has changed, delete ``deleted``; all or nothing.

    See :meth:`tsporec.ItemCatalog.update` for the errors.
    """
    began, recipe = time.perf_counter(), compressor.recipe
    with writer_lock(folder):
        store = open_store(folder)
        state, unfinished = store.write(store.states)
        if state is None:
            raise no_catalogue(folder, unfinished is not None)
        if different := state.recipe.differences(recipe):
            raise ValueError(
                f"{folder} was built otherwise: {'; '.join(different)}. Kept tokens of two kinds are never mixed: "
                "update with what it was built with, or build it anew with overwrite=True."
            )
        keys = encode_ids(deleted, recipe.id_type)
        for item_id, record in zip(deleted, store.get([state.table + key for key in keys]), strict=True):
            if not record:
                raise ValueError(f"there is no item {item_id!r} to delete in {folder}.")

        def last(txn: Any) -> None:
            count = state.count - len(keys)
            for item_id, key in zip(deleted, keys, strict=True):
                if txn.get(SEEN + key) is not None or not txn.delete(state.table + key):
                    raise ValueError(f"item {item_id!r} comes more than once; add or delete an item once.")
            for key, record in pairs_of(txn, SEEN):
                if record and not txn.replace(state.table + key, record):
                    count += 1
            clear(txn, SEEN)
            txn.put(CATALOG, replace(state, count=count).to_json())

        writer = Writer(store, state, work, lambda txn: clear(txn, SEEN), compare=True, staged=True)
        results = compress_all(writer.changed(chunks), compressor, work.num_proc, work.start_method)
        for done in _shown(results):
            writer.add(*done)
        if writer.report.items or keys:
            writer.commit(last)
    return replace(writer.report, unchanged=writer.skipped, seconds=time.perf_counter() - began)


def _shown(results: Iterable[Records]) -> Iterable[Records]:
    bar: Iterable[Records] = tqdm(results, desc="compress", unit="chunk", disable=None, leave=False)
    return bar
