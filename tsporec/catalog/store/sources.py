"""Any source of items as a stream of chunks: only the chunks on their way are in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from tsporec._internal.extras import require
from tsporec.catalog.store.compress import Chunk
from tsporec.data.items import Item, item_text
from tsporec.data.readers import read_items
from tsporec.data.readers.common import json_lines

_LINES, _PARQUET = (".jsonl", ".jsonl.gz", ".ndjson"), (".parquet",)


def read_chunks(source: Any, fields: Sequence[str], id_field: str, size: int) -> Iterator[Chunk]:
    """Chunks of at most ``size`` items.

    Parameters
    ----------
    source : path, or iterable of Item, mapping or Chunk
        A path is a json lines or parquet file, a folder of those (read in the order of their names), or a file that
        :func:`tsporec.data.readers.read_items` knows. A mapping is a row: ``id_field`` and text fields, which are
        cleaned. A ``datasets.Dataset`` is an iterable of mappings.
    fields : names of the text fields to join
    id_field : str
        Where a row's id stands; an :class:`~tsporec.data.items.Item` has its own.

    Raises
    ------
    ValueError
        If an element is none of these, or a row has no id.
    """
    rows = _read_path(Path(source)) if isinstance(source, str | Path) else source
    if isinstance(rows, Mapping) or not isinstance(rows, Iterable):
        raise ValueError(f"items must be a path or an iterable of items or rows, found {type(rows).__name__}.")
    ids: list[Any] = []
    texts: list[str] = []
    for number, row in enumerate(rows, start=1):
        if isinstance(row, Chunk):
            if ids:
                yield Chunk(ids, texts)
                ids, texts = [], []
            yield row
            continue
        if isinstance(row, Item):
            ids.append(row.id)
            texts.append(item_text(row, fields))
        elif isinstance(row, Mapping):
            if row.get(id_field) is None:
                raise ValueError(
                    f"row {number} has no {id_field!r}; found {sorted(row)}. Name the column of ids with id_field=…."
                )
            ids.append(row[id_field])
            texts.append(item_text(Item.from_raw("", {name: row.get(name) for name in fields}), fields))
        else:
            raise ValueError(
                f"element {number} is {type(row).__name__}; expected an Item, a mapping with {id_field!r}, or a Chunk."
            )
        if len(ids) == size:
            yield Chunk(ids, texts)
            ids, texts = [], []
    if ids:
        yield Chunk(ids, texts)


def _read_path(path: Path) -> Iterable[Any]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.name.endswith(_LINES + _PARQUET))
        if not files:
            raise ValueError(f"{path} has no {', '.join(_LINES + _PARQUET)} file.")
        return chain.from_iterable(map(_read_path, files))
    if not path.is_file():
        raise ValueError(f"{path} does not exist; give a json lines or parquet file, or a folder of them.")
    if path.name.endswith(_LINES):
        return (record for _, record in json_lines(path))
    if path.name.endswith(_PARQUET):
        return _read_parquet(path)
    return read_items(path)


def _read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    parquet = require("pyarrow.parquet", extra="train")
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=4096):
            yield from batch.to_pylist()
