"""Helpers of all readers: open files, read tables and JSON, and name the file and line of every fault."""

from __future__ import annotations

import csv
import gzip
import json
import math
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from datetime import date, datetime, time, timezone
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

from tsporec.data.cleaning import MISSING
from tsporec.data.items import Interactions, Item
from tsporec.data.stored_lists import read_printed_list

csv.field_size_limit(2**27)
# A small gzipped file can expand to any size. Texts expand tenfold at most.
_LONGEST_LINE = 2**25  # bytes of a gzipped line
_MOST_EXPANDED = 100  # times the size of the file
_SMALL = 2**20  # bytes to which any file may expand
_MISSING = MISSING | {""}
HISTORY = "history_item_id"
"""The column of a row's history. MiniOneRec and LC-Rec write a printed list there."""

_TIME = "a timestamp (a number such as 1717180200, or an ISO date such as 2024-05-31 or 2024-05-31T18:30:00Z)"

Path_: TypeAlias = str | Path
"""A file, or the name of a table in memory: where a fault is."""
Event: TypeAlias = tuple[str, float | None, str, Any]
"""User, time, item, and the time as it was written."""
Records: TypeAlias = Iterable[tuple[int, dict[str, Any]]]
"""The line or row number of each record, and its columns."""


def fault(path: Path_, line: int | None, found: str) -> ValueError:
    """Make the error for a malformed line, or file if ``line`` is None."""
    return ValueError(f"{path}{f':{line}' if line else ''}: {found}")


def text_lines(path: Path) -> Iterator[str]:
    """Read the lines of a UTF-8 file, with their ends. A name that ends in .gz means gzip.

    Raises
    ------
    ValueError
        If the file is missing, cut or not UTF-8, a gzipped line is longer than 32 MiB, or a gzipped file expands to
        more than 1 MiB and 100 times its size. The line is named.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file.")
    packed = path.suffix == ".gz"
    longest, room, number = _LONGEST_LINE if packed else -1, max(_SMALL, _MOST_EXPANDED * path.stat().st_size), 0
    try:
        with cast(BinaryIO, gzip.open(path) if packed else path.open("rb")) as stream:
            for number, raw in enumerate(iter(partial(stream.readline, longest), b""), start=1):
                room -= len(raw)
                if packed and (len(raw) == longest or room < 0):
                    raise fault(
                        path, number, f"the line is longer than {longest} bytes, or the file expands to more than "
                        f"{_MOST_EXPANDED} times its size; unpack the file first if you trust it.",
                    )  # fmt: skip
                yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise fault(path, number + 1, f"gzip data is cut or damaged ({error}); fetch the file again.") from error
    except UnicodeDecodeError as error:
        raise fault(path, number, f"not UTF-8 text ({error.reason}); save the file as UTF-8.") from error


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read (line number, object) from a file with one JSON object on each line; empty lines are skipped."""
    for number, line in enumerate(text_lines(path), start=1):
        if line.strip():
            yield number, _object(path, number, _json(path, line, number))


def json_array(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read (place, object) from a file that holds one JSON array of objects."""
    for number, record in enumerate(_json(path, "".join(text_lines(path))), start=1):
        yield number, _object(path, number, record)


def json_object(path: Path) -> dict[str, Any]:
    """Read the one JSON object of a file."""
    return _object(path, None, _json(path, "".join(text_lines(path))))


def _object(path: Path, number: int | None, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise fault(path, number, f"expected a JSON object, found {type(value).__name__}.")
    return value


def _json(path: Path, text: str, number: int | None = None) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        expected = "a JSON object a line" if number else "JSON"
        raise fault(path, number or error.lineno, f"not {expected} ({error.msg}); is the file cut?") from error
    except (ValueError, RecursionError) as error:
        raise fault(path, number, f"not usable JSON ({error}).") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"the key {_twice(name for name, _ in pairs)!r} stands there twice")
    return found


def _twice(names: Iterable[str]) -> str:
    return Counter(names).most_common(1)[0][0]


def check_columns(path: Path_, line: int | None, names: Iterable[str]) -> None:
    """Refuse a name that stands in a header twice: one of the two columns would be lost."""
    listed = list(names)
    if len(set(listed)) < len(listed):
        raise fault(path, line, f"the column {_twice(listed)!r} stands in the header twice.")


def table(path: Path, required: tuple[str, ...] = (), delimiter: str = ",") -> Iterator[tuple[int, dict[str, str]]]:
    """Read (line number, row) from a table with a header. Empty lines are skipped.

    The ``required`` columns must be there, and every row must have as many fields as the header. A row that spans
    several lines is named by its last.
    """
    # Tab-separated formats do not quote; a quote there is text.
    plain = delimiter == "\t"
    lines = (line.replace("\0", "") for line in text_lines(path))  # Python 3.10 refuses it, newer ones read it
    reader = csv.reader(
        lines, delimiter=delimiter, quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL, strict=not plain
    )
    try:
        header = next(reader, None)
        if header is None:
            raise fault(path, None, "the file is empty; expected a header.")
        check_columns(path, 1, header)
        if delimiter == "," and len(header) == 1 and (other := next((one for one in ";\t|" if one in header[0]), None)):
            raise fault(path, 1, f"the columns are separated by {other!r}, expected ',': {header[0]!r:.60}.")
        missing = [name for name in required if name not in header]
        if missing:
            raise fault(path, 1, f"no column {missing[0]!r}; found {header}.")
        for row in reader:
            if row[1:] == header[1:] and row and row[0].removeprefix("\ufeff") == header[0]:
                raise fault(path, reader.line_num, "the header stands there again; are two files joined?")
            if len(row) == len(header):
                yield reader.line_num, dict(zip(header, row, strict=True))
            elif row:
                raise fault(path, reader.line_num, f"{len(row)} fields, expected {len(header)}; is the file cut?")
    except csv.Error as error:
        raise fault(path, reader.line_num, f"not a CSV row ({error}); is the file cut?") from error


def field(path: Path_, line: int, record: Mapping[str, Any], *names: str) -> Any:
    """Get the first of the columns ``names`` that has a value; raise the fault that there is none."""
    for name in names:
        value = record.get(name)
        if not (value is None or (isinstance(value, str | float) and str(value) in _MISSING)):
            return value
    if empty := [name for name in names if name in record]:
        raise fault(path, line, f"the column {empty[0]!r} has no value here.")
    remedy = "rename one, or name that of the items' ids with id_field=… (--id-field)"
    raise fault(path, line, f"no column {' or '.join(map(repr, names))}; found {list(record)}: {remedy}.")


def identifier(path: Path_, line: int | None, value: Any) -> str:
    """Turn text or a whole number into an id. Anything else, such as ``1.0``, would equal no other id."""
    if isinstance(value, bool) or not isinstance(value, str | Integral) or value in _MISSING:
        raise fault(path, line, f"expected an id (text or a whole number), found {value!r:.60}.")
    return sys.intern(str(value))  # one text for all places where an id stands


def make_item(path: Path_, line: int | None, item_id: Any, fields: Mapping[str, Any]) -> Item:
    """Make an item from raw fields; raise a fault that names file and line if an id or field is malformed."""
    name = identifier(path, line, item_id)
    try:
        return Item.from_raw(name, fields)
    except ValueError as error:
        raise fault(path, line, f"item {name!r}: {error}") from error


def make_items(path: Path_, records: Records, *ids: str) -> list[Item]:
    """Make an item of each record. The id is the first of the columns ``ids`` with a value, all others are fields.

    An id that comes twice is a fault.
    """
    items: list[Item] = []
    lines: dict[str, int] = {}
    for line, record in records:
        item_id = field(path, line, record, *ids)
        fields = {name: value for name, value in record.items() if not (name in ids and value == item_id)}
        items.append(make_item(path, line, item_id, fields))
        first = lines.setdefault(items[-1].id, line)
        if first != line:
            raise fault(path, line, f"item {items[-1].id!r} stands at {path}:{first} already; ids must be unique.")
    return items


def make_sequences(
    path: Path_, records: Records, user: tuple[str, ...], item: tuple[str, ...], time: tuple[str, ...]
) -> list[Interactions]:
    """Make sequences of records with a user, an item and, in all of them or in none, a time.

    Each argument names the columns to look in. Records with a history (:data:`HISTORY`, a list) make one row each;
    others make one time-ordered sequence for each user.
    """
    events: list[Event] = []
    rows = []
    for line, record in records:
        who, target = (identifier(path, line, field(path, line, record, *names)) for names in (user, item))
        if HISTORY in record:
            history = convert(path, line, record[HISTORY], _history, "a literal list of item ids")
            rows.append(Interactions(who, (*(identifier(path, line, one) for one in history), target), row=True))
        else:
            written = field(path, line, record, *time) if any(name in record for name in time) else None
            when = None if written is None else convert(path, line, written, instant, _TIME)
            events.append((who, when, target, written))
    if rows and events:
        raise fault(path, None, f"{len(rows)} records have {HISTORY!r} and {len(events)} have none; expected one kind.")
    return rows or by_user(path, events)


def _history(value: Any) -> list[Any]:
    history = read_printed_list(value, repair=False) if isinstance(value, str) else value
    if history is None or isinstance(history, bytes | Mapping | Set):
        raise ValueError("not a list")
    return list(history)


def instant(value: Any) -> float:
    """Read a time: a number, a date, or text of either. ISO dates give seconds since 1970, in UTC unless they say.

    >>> instant("1970-01-02"), instant("1970-01-01 00:00:05"), instant("1970-01-01T01:00:00+01:00"), instant("7.5")
    (86400.0, 5.0, 0.0, 7.5)
    """
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
    if isinstance(value, date):
        moment = value if isinstance(value, datetime) else datetime.combine(value, time())
        value = (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    if isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{value} is not a time")
    return float(value)


def convert(path: Path_, line: int, value: Any, kind: Callable[[Any], Any], expected: str) -> Any:
    """Call ``kind(value)``; raise the fault that it is not what was expected."""
    try:
        return kind(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, OverflowError) as error:
        text = str(value)
        raise fault(
            path, line, f"expected {expected}, found {text if len(text) <= 60 else text[:60] + '…'!r}."
        ) from error


def by_user(path: Path_, events: list[Event]) -> list[Interactions]:
    """Group events into one time-ordered sequence for each user.

    Events of equal times, or without times, keep the order of the file. Times become seconds: the largest one shows
    whether the file has milliseconds, microseconds or nanoseconds since 1970.
    """
    times = [when for _, when, _, _ in events if when is not None]
    if times and len(times) < len(events):
        raise fault(path, None, f"{len(times)} of {len(events)} interactions have a time; expected all or none.")
    largest = max(map(abs, times), default=0)
    unit = next((10.0**power for power in (9, 6, 3) if largest >= 10.0 ** (power + 8)), 1.0)
    users: dict[str, list[tuple[float, str, Any]]] = {}
    for user, when, item, written in events:
        users.setdefault(user, []).append(((when or 0) / unit, item, written))
    sequences = []
    for user, touched in users.items():
        touched.sort(key=lambda event: event[0])
        moments, items, written = zip(*touched, strict=True)
        if all(str(one) == spelled(moment) for one, moment in zip(written, moments, strict=True)):
            written = ()
        sequences.append(Interactions(user, items, moments, written=written) if times else Interactions(user, items))
    return sequences


def spelled(seconds: float) -> str:
    """Write a time: 3.0 as "3", 4.5 as "4.5". A spelling that differs is kept in ``Interactions.written``."""
    return f"{seconds:.0f}" if seconds.is_integer() else str(seconds)
