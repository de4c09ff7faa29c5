"""Build a catalogue with Ray Data, where one machine is not enough.

Ray's workers compress batches. The records come back to this process, which alone writes them. So only this machine
needs the catalogue's disk, and a batch that is repeated after a worker died is neither lost nor doubled.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tsporec._internal.extras import require
from tsporec.budget import Budget
from tsporec.catalog.catalog import ItemCatalog
from tsporec.catalog.changes import Build, item_digests
from tsporec.catalog.compress import COUNTS, Compressor, WordCounts, make_compressor
from tsporec.catalog.records import encode_ids, type_of_ids
from tsporec.catalog.sources import read_chunks
from tsporec.catalog.store import open_store, writer_lock
from tsporec.catalog.writer import Work, Writer


def build_with_ray(
    source: Any,
    *,
    tokenizer: Any,
    selector: Any = None,
    budget: Budget | int,
    path: str | Path,
    id_field: str | None = None,
    batch_items: int = 1 << 14,
    workers: int | tuple[int, int] = 2,
    resume: bool = True,
    overwrite: bool = False,
    **what: Any,
) -> ItemCatalog:
    """Compress a Ray dataset into a catalogue.

    Parameters
    ----------
    source : ray.data.Dataset, or path
        Rows with ids and text fields. A path is a json lines or parquet file, or a folder of one kind.
    tokenizer, selector, budget, path, id_field, resume, overwrite
        See :meth:`tsporec.ItemCatalog.build`. The path needs to be reached by this process only.
    batch_items : int
        Number of items that a worker takes at a time. Default 16,384.
    workers : int, or (least, most)
        Number of Ray actors that compress. Default 2. One that dies is replaced, and its batch is done again.
    **what
        ``fields``, ``granularity`` and ``keep`` of :meth:`tsporec.ItemCatalog.build`.

    Raises
    ------
    ImportError
        If the extra ``ray`` is not installed.
    """
    data = require("ray.data", extra="ray")
    dataset = source if isinstance(source, data.Dataset) else _read(data, Path(source).absolute())
    first = dataset.take(1)
    if not first:
        raise ValueError("there are no items to build a catalogue of.")
    chunk = next(read_chunks(first, (), id_field, 1))
    compressor = make_compressor(tokenizer, selector, budget, type_of_ids(chunk.ids), **what)

    def batches(work: type, *arguments: Any) -> Iterator[Any]:
        results = dataset.map_batches(
            work,
            fn_constructor_args=arguments,
            batch_size=batch_items,
            batch_format="pyarrow",
            concurrency=workers,
        )
        yield from results.iter_batches(batch_size=None, batch_format="pyarrow")

    def counts() -> Iterator[WordCounts]:
        for batch in batches(_CountBatch, compressor, id_field):
            for found, texts in zip(batch["counts"].to_pylist(), batch["texts"].to_pylist(), strict=True):
                yield np.frombuffer(found, np.int64), texts

    with writer_lock(path):
        store = open_store(path, create=True)
        table = Build(store, resume=resume, overwrite=overwrite)
        compressor = table.start(compressor, counts() if selector is None else None)
        with Writer(store, table, Work()) as writer:
            for batch in batches(_CompressBatch, compressor, id_field, table.stored(store)):
                found = (sum(batch[name].to_pylist()) for name in COUNTS)
                writer.add(batch["key"].to_pylist(), batch["record"].to_pylist(), *found)
    return ItemCatalog(path, tokenizer, writer.report)


def _read(data: Any, path: Path) -> Any:
    files = [path] if path.is_file() else sorted(path.iterdir()) if path.is_dir() else []
    names = [str(file) for file in files if file.name.endswith((".parquet", ".jsonl"))]
    if not names or len({Path(name).suffix for name in names}) > 1:
        raise ValueError(f"{path} must be (a folder of) json lines or parquet files, one kind; found {names[:3]}.")
    return data.read_parquet(names) if names[0].endswith(".parquet") else data.read_json(names)


class _CountBatch:
    """A Ray actor: a batch of rows in, one row with the counts of its words out."""

    def __init__(self, compressor: Compressor, id_field: str | None) -> None:
        self._compressor, self._id_field = compressor, id_field

    def __call__(self, batch: Any) -> Any:
        arrow = require("pyarrow", extra="ray")
        (chunk,) = read_chunks(batch.to_pylist(), self._compressor.recipe.fields, self._id_field, batch.num_rows)
        counts, texts = self._compressor.count(chunk)
        return arrow.table({"counts": arrow.array([counts.tobytes()], arrow.large_binary()), "texts": [texts]})


class _CompressBatch:
    """A Ray actor: a batch of rows in, keys and records out. Items that are ``done`` get an empty record."""

    def __init__(self, compressor: Compressor, id_field: str | None, done: Any) -> None:
        torch.set_num_threads(1)
        self._compressor, self._id_field, self._done = compressor, id_field, done

    def __call__(self, batch: Any) -> Any:
        arrow = require("pyarrow", extra="ray")
        recipe = self._compressor.recipe
        (chunk,) = read_chunks(batch.to_pylist(), recipe.fields, self._id_field, batch.num_rows)
        keys = encode_ids(chunk.ids, recipe.id_type)
        known = np.isin(item_digests(keys, chunk.digests()), self._done)
        records = [b""] * len(keys)
        new = np.flatnonzero(~known)
        done = self._compressor(chunk.take(new))
        for place, record in zip(new.tolist(), done.records, strict=True):
            records[place] = record
        counts = {name: [getattr(done, name), *[0] * (len(keys) - 1)] for name in COUNTS}
        columns = {"key": arrow.array(keys, arrow.binary()), "record": arrow.array(records, arrow.binary())}
        return arrow.table({**columns, **counts})
