"""RecBole atomic files: tab-separated, with a type after each name of the header (``item_id:token``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tsporec.data.items import Interactions, Item
from tsporec.data.readers.common import by_user, convert, fault, field, instant, make_item, table

_TYPES = ("token", "token_seq", "float", "float_seq")


def read_items(path: str | Path) -> list[Item]:
    """Read the items of ``X.item``. Every column but ``item_id`` and vectors (``float_seq``) is a field."""
    path = Path(path)
    items = []
    for line, record in _records(path, ("item_id",)):
        fields = {name: text for name, text in record.items() if name != "item_id"}
        items.append(make_item(path, line, field(path, line, record, "item_id"), fields))
    return items


def read_sequences(path: str | Path) -> list[Interactions]:
    """Read the sequences of ``X.inter``.

    Events (``user_id``, ``item_id``) give one sequence for each user, by ``timestamp`` if there is one, else in file
    order. A file with ``item_id_list:token_seq``, as LC-Rec writes it, gives one sequence for each row: the history,
    then the target. LC-Rec writes a user's training rows with the longest history first.
    """
    path = Path(path)
    events, rows = [], []
    for line, record in _records(path, ("user_id", "item_id")):
        user, item = field(path, line, record, "user_id"), field(path, line, record, "item_id")
        if "item_id_list" in record:
            rows.append(Interactions(user, (*record["item_id_list"].split(), item)))
        else:
            time = convert(path, line, record.get("timestamp", "0"), instant, "a timestamp")
            events.append((user, time, item))
    return rows or by_user(events)


def _records(path: Path, required: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Read (line number, row), with the types taken off the names of the columns."""
    for line, row in table(path, (), delimiter="\t"):
        record = {}
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
        yield line, record
