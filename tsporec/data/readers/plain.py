"""The plain format: ``items.jsonl`` (``{"id": ..., "title": ..., ...}``) and ``interactions.csv``."""

from __future__ import annotations

from pathlib import Path

from tsporec.data.items import Interactions, Item
from tsporec.data.readers.common import by_user, convert, field, identifier, instant, json_lines, table


def read_items(path: str | Path) -> list[Item]:
    """Items of a json lines file; every key but ``id`` is a text field, in the line's order."""
    path = Path(path)
    items = []
    for line, record in json_lines(path):
        item_id = identifier(path, line, field(path, line, record, "id"))
        items.append(Item.from_raw(item_id, {name: text for name, text in record.items() if name != "id"}))
    return items


def read_sequences(path: str | Path) -> list[Interactions]:
    """One sequence a user from a csv with ``user_id,item_id`` and, to order by, ``timestamp``."""
    path = Path(path)
    events = []
    for line, row in table(path, ("user_id", "item_id")):
        time = convert(path, line, row.get("timestamp", "0"), instant, "a timestamp")
        events.append((field(path, line, row, "user_id"), time, field(path, line, row, "item_id")))
    return by_user(events)
