"""MiniOneRec and LC-Rec: ``X.item.json`` and ``X.{train,valid,test}.csv`` with literal lists, or ``X.inter.json``."""

from __future__ import annotations

from pathlib import Path

from tsporec.data.items import Interactions, Item
from tsporec.data.readers.common import HISTORY, fault, identifier, json_object, make_item, make_sequences, table


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


def read_sequences(path: str | Path) -> list[Interactions]:
    """Read the rows of a csv, or the sequences of ``X.inter.json``: ``{"user": [item, ...]}``, oldest first.

    A row of a csv is a history (``history_item_id``, a printed list), then the target (``item_id``).
    """
    path = Path(path)
    if ".json" not in path.suffixes:
        rows = table(path, ("user_id", HISTORY, "item_id"))
        return make_sequences(path, rows, ("user_id",), ("item_id",), ())
    sequences = []
    for user, items in json_object(path).items():
        if not isinstance(items, list) or not items:
            raise fault(path, None, f"user {user!r} has {items!r:.60}, expected a list of items.")
        sequences.append(
            Interactions(identifier(path, None, user), tuple(identifier(path, None, item) for item in items))
        )
    return sequences
