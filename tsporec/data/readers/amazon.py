"""Amazon reviews, the 2018 and 2023 crawls: metadata and reviews, one JSON object on each line, plain or gzipped."""

from __future__ import annotations

from pathlib import Path

from tsporec.data.items import Interactions, Item
from tsporec.data.readers.common import by_user, convert, field, identifier, instant, json_lines, make_item

_FIELDS = {
    2018: ("title", "description", "feature", "brand", "category"),
    2023: ("title", "description", "features", "store", "categories"),
}


def read_items_2018(path: str | Path) -> list[Item]:
    """Read the items of ``meta_X.json(.gz)`` of the 2018 crawl. The id is ``asin``."""
    return _read_items(Path(path), "asin", 2018)


def read_items_2023(path: str | Path) -> list[Item]:
    """Read the items of ``meta_X.jsonl(.gz)`` of the 2023 crawl. The id is ``parent_asin``."""
    return _read_items(Path(path), "parent_asin", 2023)


def read_sequences_2018(path: str | Path) -> list[Interactions]:
    """Read one sequence for each user from 2018 reviews: ``reviewerID``, ``asin``, ``unixReviewTime``."""
    return _read_sequences(Path(path), "reviewerID", "asin", "unixReviewTime")


def read_sequences_2023(path: str | Path) -> list[Interactions]:
    """Read one sequence for each user from 2023 reviews: ``user_id``, ``parent_asin``, ``timestamp``."""
    return _read_sequences(Path(path), "user_id", "parent_asin", "timestamp")


def _read_items(path: Path, key: str, crawl: int) -> list[Item]:
    items: dict[str, Item] = {}  # the 2018 crawl holds some items twice, with equal fields; the first is kept
    for line, record in json_lines(path):
        item_id = identifier(path, line, field(path, line, record, key))
        if item_id not in items:
            items[item_id] = make_item(path, line, item_id, {name: record.get(name) for name in _FIELDS[crawl]})
    return list(items.values())


def _read_sequences(path: Path, user: str, item: str, time: str) -> list[Interactions]:
    events = []
    for line, record in json_lines(path):
        when = convert(path, line, str(field(path, line, record, time)), instant, "a time")
        names = (identifier(path, line, field(path, line, record, name)) for name in (user, item))
        events.append((next(names), when, next(names)))
    return by_user(events)
