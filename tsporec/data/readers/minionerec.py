"""MiniOneRec and LC-Rec: ``X.item.json`` and ``X.{train,valid,test}.csv`` with literal lists, or ``X.inter.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tsporec.data.items import Interactions, Item
from tsporec.data.printed import read_printed_list
from tsporec.data.readers.common import convert, fault, field, identifier, json_object, make_item, table


def read_items(path: str | Path) -> list[Item]:
    """Read the items of ``X.item.json``: ``{"0": {"title", "description", "brand", "categories"}}``.

    ``description`` is a printed list, which :func:`~tsporec.data.cleaning.clean_text` reads.
    """
    path = Path(path)
    items = []
    for item_id, fields in json_object(path).items():
        if not isinstance(fields, dict):
            raise fault(path, None, f"item {item_id!r} is {type(fields).__name__}, expected an object of fields.")
        items.append(make_item(path, None, item_id, fields))
    return items


def read_rows(path: str | Path) -> list[Interactions]:
    """Read the rows of a csv: the history (``history_item_id``, a printed list), then the target (``item_id``)."""
    path = Path(path)
    rows = []
    for line, row in table(path, ("user_id", "history_item_id", "item_id")):
        history = convert(path, line, row["history_item_id"], _history, "a literal list of item ids")
        items = [identifier(path, line, item) for item in (*history, field(path, line, row, "item_id"))]
        rows.append(Interactions(field(path, line, row, "user_id"), tuple(items)))
    return rows


def read_sequences(path: str | Path) -> list[Interactions]:
    """Read the sequences of ``X.inter.json``: ``{"user": [item, ...]}``, oldest first."""
    path = Path(path)
    sequences = []
    for user, items in json_object(path).items():
        if not isinstance(items, list):
            raise fault(path, None, f"user {user!r} has {type(items).__name__}, expected a list of items.")
        sequences.append(Interactions(user, tuple(identifier(path, None, item) for item in items)))
    return sequences


def _history(text: str) -> list[Any]:
    history = read_printed_list(text, repair=False)
    if history is None:
        raise ValueError("not a list")
    return history
