"""MIND (Microsoft News): ``news.tsv`` and ``behaviors.tsv``, both without a header."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from tsporec.data.items import Interactions, Item
from tsporec.data.readers.common import by_user, convert, fault, identifier, make_items, text_lines

_NEWS = ("news_id", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities")
_EPOCH = datetime(1970, 1, 1)  # MIND names no time zone, and none is needed to order
_BEHAVIOURS = ("impression_id", "user_id", "time", "history", "impressions")


def read_items(path: str | Path) -> list[Item]:
    """Read the items of ``news.tsv``: title, abstract (as ``description``), category and subcategory."""
    path = Path(path)
    records = (
        (line, {"news_id": news_id, "title": title, "description": text, "category": category, "subcategory": within})
        for line, (news_id, category, within, title, text, *_) in _rows(path, _NEWS)
    )
    return make_items(path, records, "news_id")


def read_sequences(path: str | Path) -> list[Interactions]:
    """Read one sequence for each user from ``behaviors.tsv``: the history of the first impression, then the clicks.

    Clicks are in time order. Users without history and clicks are left out. Impressions without labels (MIND's test
    split) are refused.
    """
    path = Path(path)
    first: dict[str, tuple[datetime, list[str]]] = {}
    clicks = []
    for line, (_, user, time, history, impressions) in _rows(path, _BEHAVIOURS):
        user = identifier(path, line, user)
        when = convert(path, line, time, _moment, "a time like 11/11/2019 9:05:58 AM")
        if user not in first or when < first[user][0]:
            first[user] = when, history.split()
        for shown in impressions.split():
            item, _, clicked = shown.rpartition("-")
            if not item or clicked not in ("0", "1"):
                raise fault(path, line, f"impression {shown!r} has no click label (-0 or -1); use a labelled split.")
            if clicked == "1":
                clicks.append((user, (when - _EPOCH).total_seconds(), item, time))
    later = {sequence.user_id: sequence.item_ids for sequence in by_user(path, clicks)}
    whole = {user: (*history, *later.get(user, ())) for user, (_, history) in first.items()}
    return [Interactions(user, items) for user, items in whole.items() if items]


def _moment(text: str) -> datetime:
    return datetime.strptime(text, "%m/%d/%Y %I:%M:%S %p")


def _rows(path: Path, columns: tuple[str, ...]) -> list[tuple[int, list[str]]]:
    rows = []
    for number, line in enumerate(text_lines(path), start=1):
        row = line.rstrip("\r\n").split("\t")
        if len(row) != len(columns):
            raise fault(path, number, f"{len(row)} tab-separated fields, expected {len(columns)}: {columns}.")
        rows.append((number, row))
    return rows
