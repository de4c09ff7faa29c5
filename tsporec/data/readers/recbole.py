"""RecBole atomic files: tab-separated, with a type behind each name of the header (``item_id:token``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tsporec.data.items import Interactions, Item
from tsporec.data.readers.common import by_user, convert, fault, field, instant, table


def read_items(path: str | Path) -> list[Item]:
    """Items of ``X.item``: every column beside ``item_id`` is a field, but for vectors (``float_seq``)."""
    path = Path(path)
    items = []
    for line, record in _records(path, ("item_id",)):
        item_id = field(path, line, record, "item_id")
        items.append(Item.from_raw(item_id, {name: text for name, text in record.items() if name != "item_id"}))
    return items


def read_sequences(path: str | Path) -> list[Interactions]:
    """Sequences of ``X.inter``.

    Events (``user_id``, ``item_id``) give one a user, by ``timestamp`` where there is one, else in file order. A file
    with ``item_id_list:token_seq``, as LC-Rec writes and RecBole reads its benchmarks, gives one a row: the history
    and then the target. LC-Rec writes a user's training rows with the longest history first.
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
    """(line number, row) with the columns named without their types."""
    for line, row in table(path, (), delimiter="\t"):
        record = {}
        for column, value in row.items():
            name, _, kind = column.partition(":")
            if kind != "float_seq":
                record[name] = value
        for name in required:
            if name not in record:
                raise fault(path, 1, f"no column {name!r}; found {list(row)}. Is it an atomic file?")
        yield line, record
