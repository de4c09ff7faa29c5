"""MiniOneRec and LC-Rec: ``X.item.json`` and ``X.{train,valid,test}.csv`` with literal lists, or ``X.inter.json``."""

from __future__ import annotations

import ast
from pathlib import Path

from tsporec.data.items import Interactions, Item
from tsporec.data.readers.common import convert, fault, field, identifier, json_object, table


def read_items(path: str | Path) -> list[Item]:
    """Items of ``X.item.json``: ``{"0": {"title", "description", "brand", "categories"}}``.

    ``description`` is the printed form of a list; it is read as a literal.
    """
    path = Path(path)
    items = []
    for item_id, fields in json_object(path).items():
        if not isinstance(fields, dict):
            raise fault(path, None, f"item {item_id!r} is {type(fields).__name__}, expected an object of fields.")
        items.append(Item.from_raw(item_id, fields))
    return items


def read_rows(path: str | Path) -> list[Interactions]:
    """The rows of a csv: the history (``history_item_id``, a literal list) and then the target (``item_id``)."""
    path = Path(path)
    rows = []
    for line, row in table(path, ("user_id", "history_item_id", "item_id")):
        history = convert(path, line, row["history_item_id"], ast.literal_eval, "a literal list of item ids")
        if not isinstance(history, list):
            raise fault(path, line, f"history_item_id: expected a list, found {type(history).__name__}.")
        items = [identifier(path, line, item) for item in (*history, field(path, line, row, "item_id"))]
        rows.append(Interactions(field(path, line, row, "user_id"), tuple(items)))
    return rows


def read_sequences(path: str | Path) -> list[Interactions]:
    """The sequences of ``X.inter.json``: ``{"user": [item, ...]}``, oldest first."""
    path = Path(path)
    sequences = []
    for user, items in json_object(path).items():
        if not isinstance(items, list):
            raise fault(path, None, f"user {user!r} has {type(items).__name__}, expected a list of items.")
        sequences.append(Interactions(user, tuple(identifier(path, None, item) for item in items)))
    return sequences
