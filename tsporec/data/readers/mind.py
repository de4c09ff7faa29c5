"""MIND (Microsoft News): ``news.tsv`` and ``behaviors.tsv``, both without a header."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from tsporec.data.items import Interactions, Item
from tsporec.data.readers.common import by_user, convert, fault, text_lines

_NEWS = ("news_id", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities")
_EPOCH = datetime(1970, 1, 1)  # MIND names no time zone, and none is needed to order
_BEHAVIOURS = ("impression_id", "user_id", "time", "history", "impressions")


def read_items(path: str | Path) -> list[Item]:
    """Items of ``news.tsv``: title, then the abstract as ``description``, category and subcategory."""
    items = []
    for _, row in _rows(Path(path), _NEWS):
        record = dict(zip(_NEWS, row, strict=True))
        fields = {name: record[name] for name in ("title", "category", "subcategory")}
        ordered = {"title": fields.pop("title"), "description": record["abstract"], **fields}
        items.append(Item.from_raw(record["news_id"], ordered))
    return items


def read_sequences(path: str | Path) -> list[Interactions]:
    """One sequence a user from ``behaviors.tsv``: the history of the first impression, then clicks in time order.

    Users without a history and a click are left out; unlabelled impressions (MIND's test split) are refused.
    """
    path = Path(path)
    first: dict[str, tuple[datetime, list[str]]] = {}
    clicks = []
    for line, (_, user, time, history, impressions) in _rows(path, _BEHAVIOURS):
        when = convert(
            path,
            line,
            time,
            lambda text: datetime.strptime(text, "%m/%d/%Y %I:%M:%S %p"),
            "a time like 11/11/2019 9:05:58 AM",
        )
        if user not in first or when < first[user][0]:
            first[user] = when, history.split()
        for shown in impressions.split():
            item, _, clicked = shown.rpartition("-")
            if clicked not in ("0", "1"):
                raise fault(path, line, f"impression {shown!r} has no click label (-0 or -1); use a labelled split.")
            if clicked == "1":
                clicks.append((user, (when - _EPOCH).total_seconds(), item))
    later = {sequence.user_id: sequence.item_ids for sequence in by_user(clicks)}
    whole = {user: (*history, *later.get(user, ())) for user, (_, history) in first.items()}
    return [Interactions(user, items) for user, items in whole.items() if items]


def _rows(path: Path, columns: tuple[str, ...]) -> list[tuple[int, list[str]]]:
    rows = []
    for number, line in enumerate(text_lines(path), start=1):
        row = line.rstrip("\r\n").split("\t")
        if len(row) != len(columns):
            raise fault(path, number, f"{len(row)} tab-separated fields, expected {len(columns)}: {columns}.")
        rows.append((number, row))
    return rows
