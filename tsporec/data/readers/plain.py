"""The plain format: ``items.jsonl`` (``{"id": ..., "title": ..., ...}``) and ``interactions.csv``."""

from __future__ import annotations

from pathlib import Path

from tsporec.data.items import Interactions, Item
from tsporec.data.readers.common import by_user, convert, field, instant, json_lines, make_item, table


def read_items(path: str | Path) -> list[Item]:
    """Read the items of a json lines file. Every key but ``id`` is a text field, in the line's order."""
    path = Path(path)
    items = []
    for line, record in json_lines(path):
        fields = {name: text for name, text in record.items() if name != "id"}
        items.append(make_item(path, line, field(path, line, record, "id"), fields))
    return items


def read_sequences(path: str | Path) -> list[Interactions]:
    """Read one sequence for each user from a csv with ``user_id,item_id`` and, for the order, ``timestamp``."""
    path = Path(path)
    events = []
    for line, row in table(path, ("user_id", "item_id")):
        time = convert(path, line, row.get("timestamp", "0"), instant, "a timestamp")
        events.append((field(path, line, row, "user_id"), time, field(path, line, row, "item_id")))
    return by_user(events)
