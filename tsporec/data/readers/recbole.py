"""RecBole atomic files: tab-separated, with a type after each name of the header (``item_id:token``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tsporec.data.items import Interactions, Item
from tsporec.data.readers.common import HISTORY, check_columns, fault, make_items, make_sequences, table

_TYPES = ("token", "token_seq", "float", "float_seq")


def read_items(path: str | Path) -> list[Item]:
    """Read the items of ``X.item``. Every column but ``item_id`` and vectors (``float_seq``) is a field."""
    return make_items(path, _records(Path(path), ("item_id",)), "item_id")


def read_sequences(path: str | Path) -> list[Interactions]:
    """Read the sequences of ``X.inter``.

    Events (``user_id``, ``item_id``) give one sequence for each user, by ``timestamp`` if there is one, else in file
    order. A file with ``item_id_list:token_seq``, as LC-Rec writes it, gives one row for each line: the history, then
    the target. LC-Rec writes a user's training rows with the longest history first.
    """
    records = _records(Path(path), ("user_id", "item_id"))
    return make_sequences(path, records, ("user_id",), ("item_id",), ("timestamp",))


def _records(path: Path, required: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read (line number, row), with the types taken off the names of the columns."""
    for line, row in table(path, delimiter="\t"):
        check_columns(path, 1, (column.partition(":")[0] for column in row))
        record: dict[str, Any] = {}
        for column, value in row.items():
            name, colon, kind = column.partition(":")
            if colon and kind not in _TYPES:
                raise fault(
                    path,
                    1,
                    f"column {column!r} has no type of RecBole {_TYPES}; is another mark than a tab between columns?",
                )
            if kind != "float_seq":
                record[name] = value
        for name in required:
            if name not in record:
                raise fault(path, 1, f"no column {name!r}; found {list(row)}. Is it an atomic file?")
        if "item_id_list" in record:
            record[HISTORY] = record.pop("item_id_list").split()
        yield line, record
