"""HLLM (bytedance/HLLM): ``information/X.csv`` with the items' text fields and ``dataset/X.csv`` with interactions."""

from __future__ import annotations

from pathlib import Path

from tsporec.data.items import Interactions, Item
from tsporec.data.readers.common import by_user, convert, field, instant, make_item, table

# HLLM reads this file with pandas and leaves out values that pandas takes for missing (trainset.py, line 199).
_MISSING = frozenset((
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
    "NaN", "None", "n/a", "nan", "null",
))  # fmt: skip


def read_items(path: str | Path) -> list[Item]:
    """Read the items of the information csv. Every column but ``item_id`` is a field, in the file's order."""
    path = Path(path)
    items = []
    for line, row in table(path, ("item_id",)):
        fields = {name: text for name, text in row.items() if name != "item_id" and text not in _MISSING}
        items.append(make_item(path, line, field(path, line, row, "item_id"), fields))
    return items


def read_sequences(path: str | Path) -> list[Interactions]:
    """Read one sequence for each user from ``item_id,user_id,timestamp``."""
    path = Path(path)
    events = []
    for line, row in table(path, ("item_id", "user_id", "timestamp")):
        time = convert(path, line, row["timestamp"], instant, "a timestamp")
        events.append((field(path, line, row, "user_id"), time, field(path, line, row, "item_id")))
    return by_user(events)
