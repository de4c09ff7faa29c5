"""HLLM (bytedance/HLLM): ``information/X.csv`` with the items' text fields and ``dataset/X.csv`` with interactions."""

from __future__ import annotations

from pathlib import Path

from tsporec.data.items import Interactions, Item
from tsporec.data.readers.common import make_items, make_sequences, table

# HLLM reads this file with pandas and leaves out values that pandas takes for missing (trainset.py, line 199).
_MISSING = frozenset((
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
    "NaN", "None", "n/a", "nan", "null",
))  # fmt: skip


def read_items(path: str | Path) -> list[Item]:
    """Read the items of the information csv. Every column but ``item_id`` is a field, in the file's order."""
    rows = table(Path(path), ("item_id",))
    kept = (
        (line, {name: text for name, text in row.items() if name == "item_id" or text not in _MISSING})
        for line, row in rows
    )
    return make_items(path, kept, "item_id")


def read_sequences(path: str | Path) -> list[Interactions]:
    """Read one sequence for each user from ``item_id,user_id,timestamp``."""
    rows = table(Path(path), ("item_id", "user_id", "timestamp"))
    return make_sequences(path, rows, ("user_id",), ("item_id",), ("timestamp",))
