"""Your own data: json lines, JSON arrays, csv, tsv and parquet files, and tables in memory (``docs/data.md``)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tsporec._internal.extras import require
from tsporec._internal.files import write_whole
from tsporec.data.items import Interactions, Item
from tsporec.data.readers.common import (
    Records,
    check_columns,
    fault,
    json_array,
    json_lines,
    make_items,
    make_sequences,
    spelled,
    table,
    text_lines,
)

ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
"""The names of files that :func:`read_records` reads. All but parquet may be gzipped (``.gz``)."""
IDS = ("item_id", "id")
"""The columns of an item's id, if none is named."""
_USERS, _TIMES = ("user_id", "user"), ("timestamp", "time", "date")


def read_items(source: Any, id_field: str | None = None) -> list[Item]:
    """Read an item from each record. Every column but the id is a field, in the record's order."""
    return make_items(_name(source), read_records(source), *((id_field,) if id_field else IDS))


def read_sequences(source: Any, id_field: str | None = None) -> list[Interactions]:
    """Read one sequence for each user from records of ``user_id``, ``item_id`` and, for the order, ``timestamp``.

    Records with ``history_item_id`` (a list) are rows: the history, then the target ``item_id``.
    """
    items = (id_field, *IDS) if id_field else IDS
    return make_sequences(_name(source), read_records(source), _USERS, items, _TIMES)


def write_sequences(path: str | Path, sequences: Sequence[Interactions]) -> None:
    """Write sequences as a csv that :func:`read_sequences` reads: a line for each interaction, times as they were read.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "train.csv"
    >>> write_sequences(path, [Interactions("u", ("1", "2"), (3.0, 4.5))])
    >>> path.read_text().split()
    ['user_id,item_id,timestamp', 'u,1,3', 'u,2,4.5']
    """
    timed = all(sequence.times for sequence in sequences)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("user_id", "item_id", "timestamp") if timed else ("user_id", "item_id"))
    for one in sequences:
        columns = (one.item_ids, one.written or map(spelled, one.times)) if timed else (one.item_ids,)
        writer.writerows((one.user_id, *event) for event in zip(*columns, strict=True))
    write_whole(Path(path), stream.getvalue().encode())


def read_records(source: Any) -> Records:
    """Yield (number, record) from a file, a DataFrame, a pyarrow Table or an iterable of mappings."""
    if isinstance(source, str | Path):
        return _read_file(Path(source))
    source = table_rows(source)
    if not isinstance(source, Iterable) or isinstance(source, Mapping | bytes):
        raise TypeError(
            f"expected a file, a DataFrame, a datasets.Dataset or a list of dicts; found {type(source).__name__}."
        )
    return _check_rows(source)


def table_rows(source: Any) -> Any:
    """Return the rows of a DataFrame or pyarrow Table as mappings; any other source as it is."""
    if hasattr(source, "itertuples"):  # pandas
        check_columns(_name(source), None, source.columns)
        return source.to_dict("records")
    if hasattr(source, "to_pylist"):  # pyarrow
        check_columns(_name(source), None, source.column_names)
    name = next((name for name in ("to_dicts", "to_pylist") if hasattr(source, name)), None)  # polars, pyarrow
    return source if name is None else getattr(source, name)()


def _check_rows(rows: Iterable[Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise TypeError(f"row {number} is {type(row).__name__}; expected a mapping of columns to values.")
        yield number, dict(row)


def _read_file(path: Path) -> Records:
    name = path.name.removesuffix(".gz")
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file.")
    if name.endswith(".json"):
        start = next((line.lstrip()[:1] for line in text_lines(path) if line.strip()), "")
        return json_array(path) if start == "[" else json_lines(path)
    if name.endswith((".jsonl", ".ndjson")):
        return json_lines(path)
    if name.endswith((".csv", ".tsv")):
        return table(path, delimiter="\t" if name.endswith(".tsv") else ",")
    if path.name.endswith(".parquet"):
        return _read_parquet(path)
    raise fault(path, None, f"expected a name that ends in {', '.join(ENDINGS)}, all but the last also with .gz.")


def _read_parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    arrow, parquet = require("pyarrow", extra="train"), require("pyarrow.parquet", extra="train")
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            check_columns(path, None, file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=4096):
                for record in batch.to_pylist():
                    yield (number := number + 1), record
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:  # OSError: a damaged page
        raise fault(path, number + 1, f"not a parquet file ({error}); is it cut?") from error


def _name(source: Any) -> str | Path:
    """Return where the faults of ``source`` are: its path, or what it is."""
    return source if isinstance(source, str | Path) else type(source).__name__
