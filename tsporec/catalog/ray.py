"""The build of a catalogue by Ray Data, where one machine is not enough.

Workers write shards straight to the store's folder (which all of them must reach), named by their content: a batch that
is tried again after a worker died makes the same file. Only the shards whose batches were reported, each once, go into
the manifest, which the driver writes last.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tsporec._internal.digest import digest
from tsporec._internal.extras import require
from tsporec.budget import Budget
from tsporec.catalog.catalog import ItemCatalog, make_recipe
from tsporec.catalog.store import layout
from tsporec.catalog.store.commit import clean, commit
from tsporec.catalog.store.compress import Compressor
from tsporec.catalog.store.keys import Keys
from tsporec.catalog.store.layout import JOURNAL, current_snapshot, shard_name
from tsporec.catalog.store.lock import StoreLock
from tsporec.catalog.store.sources import read_chunks
from tsporec.data.items import FIELDS


def build_with_ray(
    source: Any,
    *,
    tokenizer: Any,
    selector: Any,
    budget: Budget,
    path: str | Path,
    fields: Sequence[str] = FIELDS,
    id_field: str = "id",
    max_tokens: int | None = None,
    batch_items: int = 1 << 16,
    workers: int | tuple[int, int] = 2,
    overwrite: bool = False,
) -> ItemCatalog:
    """Compress a Ray dataset into a store.

    Parameters
    ----------
    source : ray.data.Dataset, or path
        Rows with ``id_field`` and text fields; a path is a folder (or file) of json lines or parquet.
    tokenizer, selector, budget, fields, id_field, max_tokens, overwrite
        As in :meth:`tsporec.ItemCatalog.build`.
    path : path
        A folder that every worker reaches.
    batch_items : int
        Items of a batch, which makes a shard.
    workers : int, or (least, most)
        Actors that compress; one that dies is replaced and its batch done again.

    Returns
    -------
    ItemCatalog
        Its items stand in the order of the shards' names, not of the source.

    Raises
    ------
    ImportError
        Without Ray: ``pip install "tsporec[ray]"``.
    ValueError
        As :meth:`tsporec.ItemCatalog.build`.
    """
    data = require("ray.data", extra="ray")
    folder = Path(path).absolute()
    dataset = source if isinstance(source, data.Dataset) else _read(data, Path(source).absolute())
    first = dataset.take(1)
    if not first:
        raise ValueError("there are no items to build a catalogue of.")
    chunk = next(read_chunks(first, fields, id_field, 1))
    recipe = make_recipe(tokenizer, selector, budget, fields, max_tokens, Keys.from_ids(chunk.ids).id_type)
    with StoreLock(folder):
        current = current_snapshot(folder)
        if current and not overwrite:
            raise ValueError(f"{folder} holds a catalogue already; replace it with overwrite=True.")
        if (folder / JOURNAL).exists():
            raise ValueError(f"{folder} holds an unfinished build; complete it, or remove {folder / JOURNAL}.")
        clean(folder)
        arguments = {"folder": str(folder), "snapshot": current + 1, "id_field": id_field, "fields": tuple(fields)}
        results = dataset.map_batches(
            _CompressBatch,
            fn_constructor_args=(Compressor.of(tokenizer, selector, recipe), arguments),
            batch_size=batch_items,
            batch_format="pyarrow",
            concurrency=workers,
        )
        entries = [layout.shard_entry(json.loads(row["entry"])) for row in results.iter_rows()]
        entries.sort(key=lambda entry: entry.file.name)
        clean(folder, keep={entry.file.name for entry in entries})
        try:
            manifest = commit(folder, current + 1, recipe, tuple(entries))
        except ValueError:
            clean(folder)
            raise
    return ItemCatalog(folder, manifest.snapshot, tokenizer)


def _read(data: Any, path: Path) -> Any:
    files = [path] if path.is_file() else sorted(path.iterdir()) if path.is_dir() else []
    names = [str(file) for file in files if file.name.endswith((".parquet", ".jsonl"))]
    if not names or len({Path(name).suffix for name in names}) > 1:
        raise ValueError(f"{path} must be (a folder of) json lines or parquet files, one kind; found {names[:3]}.")
    return data.read_parquet(names) if names[0].endswith(".parquet") else data.read_json(names)


class _CompressBatch:
    """An actor's work: a batch in, a shard on disk and its manifest entry out."""

    def __init__(self, compressor: Compressor, arguments: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        self._compressor, self._arguments = compressor, arguments

    def __call__(self, batch: Any) -> dict[str, list[str]]:
        told = self._arguments
        (chunk,) = read_chunks(batch.to_pylist(), told["fields"], told["id_field"], batch.num_rows)
        kept = self._compressor(chunk).kept
        content = digest(kept.keys.words.astype("<u8"), kept.keys.lengths, kept.digests)
        entry = kept.write(Path(told["folder"]), shard_name(told["snapshot"], content[:16]))
        return {"entry": [layout.to_json(entry).decode()]}
