"""Amazon reviews, the 2018 and 2023 crawls: metadata and reviews, one JSON object on each line, plain or gzipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tsporec.data.items import Interactions, Item
from tsporec.data.readers.common import Records, json_lines, make_items, make_sequences

_FIELDS = {
    2018: ("asin", "title", "description", "feature", "brand", "category"),
    2023: ("parent_asin", "title", "description", "features", "store", "categories"),
}
_COLUMNS = {2018: ("reviewerID", "asin", "unixReviewTime"), 2023: ("user_id", "parent_asin", "timestamp")}


def item_reader(crawl: int) -> Callable[[str | Path], list[Item]]:
    """Return the reader of ``meta_X.json(.gz)`` (2018) or ``meta_X.jsonl(.gz)`` (2023)."""

    def read(path: str | Path) -> list[Item]:
        names = _FIELDS[crawl]
        records = ((line, {name: record.get(name) for name in names}) for line, record in json_lines(Path(path)))
        return make_items(path, _first(records, names[0]), names[0])

    return read


def _first(records: Records, name: str) -> Records:
    """Yield the first record of each id. The 2018 crawl holds some items twice, with equal fields."""
    seen: set[str] = set()
    for line, record in records:
        if str(record[name]) not in seen:
            seen.add(str(record[name]))
            yield line, record


def sequence_reader(crawl: int) -> Callable[[str | Path], list[Interactions]]:
    """Return the reader of reviews: one sequence for each user."""

    def read(path: str | Path) -> list[Interactions]:
        user, item, time = _COLUMNS[crawl]
        return make_sequences(path, json_lines(Path(path)), (user,), (item,), (time,))

    return read
