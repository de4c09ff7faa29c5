"""HLLM (bytedance/HLLM): ``information/X.csv`` with an item's text fields and ``dataset/X.csv`` with interactions."""

from __future__ import annotations

from pathlib import Path

from tsporec.data.items import Interactions, Item
from tsporec.data.readers.common import by_user, convert, field, instant, table


def read_items(path: str | Path) -> list[Item]:
    """Items of the information csv; every column but ``item_id`` is a field, in the file's order."""
    path = Path(path)
    items = []
    for line, row in table(path, ("item_id",)):
        item_id = field(path, line, row, "item_id")
        items.append(Item.from_raw(item_id, {name: text for name, text in row.items() if name != "item_id"}))
    return items


def read_sequences(path: str | Path) -> list[Interactions]:
    """One sequence a user from ``item_id,user_id,timestamp``."""
    path = Path(path)
    events = []
    for line, row in table(path, ("item_id", "user_id", "timestamp")):
        time = convert(path, line, row["timestamp"], instant, "a timestamp")
        events.append((field(path, line, row, "user_id"), time, field(path, line, row, "item_id")))
    return by_user(events)
