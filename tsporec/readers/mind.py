"""MIND (Microsoft News): ``news.tsv`` and ``behaviors.tsv``, both without a header."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from tsporec.items import Interactions, Item
from tsporec.readers.common import by_user, convert, fault, open_text

_NEWS = ("news_id", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities")
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
    """One sequence a user from ``behaviors.tsv``: the history of the first impression, then clicks in time order."""
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
            if clicked == "1":
                clicks.append((user, when.timestamp(), item))
    later = {sequence.user_id: sequence.item_ids for sequence in by_user(clicks)}
    return [Interactions(user, (*history, *later.get(user, ()))) for user, (_, history) in first.items()]


def _rows(path: Path, columns: tuple[str, ...]) -> list[tuple[int, list[str]]]:
    rows = []
    with open_text(path) as stream:
        for number, line in enumerate(stream, start=1):
            row = line.rstrip("\r\n").split("\t")
            if len(row) != len(columns):
                raise fault(path, number, f"{len(row)} tab-separated fields, expected {len(columns)}: {columns}.")
            rows.append((number, row))
    return rows
