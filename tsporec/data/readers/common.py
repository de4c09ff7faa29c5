"""Helpers of all readers: open files, read tables and JSON, and name the file and line of every fault."""

from __future__ import annotations

import csv
import gzip
import json
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from tsporec.data.items import Interactions, Item

csv.field_size_limit(2**27)
_LONGEST_LINE = 2**27  # bytes of a gzipped line: a small file can expand to any size
_MISSING = frozenset({"nan", "NaN", "<NA>", "NaT"})
"""How pandas and numpy write a missing value."""


def fault(path: Path, line: int | None, found: str) -> ValueError:
    """Make the error for a malformed line, or file if ``line`` is None."""
    return ValueError(f"{path}{f':{line}' if line else ''}: {found}")


def text_lines(path: Path) -> Iterator[str]:
    """Read the lines of a UTF-8 file, with their ends. A name that ends in .gz means gzip.

    Raises
    ------
    ValueError
        If the file is missing, cut or not UTF-8, or a gzipped line is longer than 128 MiB; the line is named.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file.")
    number = 0
    try:
        with cast(BinaryIO, gzip.open(path) if path.suffix == ".gz" else path.open("rb")) as stream:
            longest = _LONGEST_LINE if path.suffix == ".gz" else -1
            for number, raw in enumerate(iter(partial(stream.readline, longest), b""), start=1):
                if len(raw) == longest:
                    raise fault(path, number, f"the line is longer than {_LONGEST_LINE} bytes; unpack the file first.")
                yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise fault(path, number + 1, f"the gzip stream is cut or damaged ({error}); fetch the file again.") from error
    except UnicodeDecodeError as error:
        raise fault(path, number, f"not UTF-8 text ({error.reason}); is the file cut?") from error


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read (line number, object) from a file with one JSON object on each line; empty lines are skipped."""
    for number, line in enumerate(text_lines(path), start=1):
        if not line.strip():
            continue
        record = _json(path, line, number)
        if not isinstance(record, dict):
            raise fault(path, number, f"expected a JSON object, found {type(record).__name__}.")
        yield number, record


def json_object(path: Path) -> dict[str, Any]:
    """Read the one JSON object of a file."""
    value = _json(path, "".join(text_lines(path)))
    if not isinstance(value, dict):
        raise fault(path, None, f"expected one JSON object, found {type(value).__name__}.")
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
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice!r} stands there twice")
    return found


def table(path: Path, required: tuple[str, ...], delimiter: str = ",") -> Iterator[tuple[int, dict[str, str]]]:
    """Read (line number, row) from a table with a header. Empty lines are skipped.

    The ``required`` columns must be there, and every row must have as many fields as the header. A row that spans
    several lines is named by its last.
    """
    # Tab-separated formats do not quote; a quote there is text.
    plain = delimiter == "\t"
    reader = csv.reader(
        text_lines(path), delimiter=delimiter, quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL, strict=not plain
    )
    try:
        header = next(reader, None)
        if header is None:
            raise fault(path, None, "the file is empty; expected a header.")
        missing = [name for name in required if name not in header]
        if missing:
            raise fault(path, 1, f"no column {missing[0]!r}; found {header}.")
        for row in reader:
            if len(row) == len(header):
                yield reader.line_num, dict(zip(header, row, strict=True))
            elif row:
                raise fault(path, reader.line_num, f"{len(row)} fields, expected {len(header)}; is the file cut?")
    except csv.Error as error:
        raise fault(path, reader.line_num, f"not a CSV row ({error}); is the file cut?") from error


def field(path: Path, line: int, record: dict[str, Any], name: str) -> Any:
    """Get ``record[name]``; raise the fault that it is missing."""
    if record.get(name) in (None, "", *_MISSING):
        raise fault(path, line, f"no {name!r}; found {sorted(record)}.")
    return record[name]


def identifier(path: Path, line: int | None, value: Any) -> str:
    """Turn text or a whole number into an id. Anything else, such as ``1.0``, would equal no other id."""
    if isinstance(value, bool) or not isinstance(value, str | int) or value in ("", *_MISSING):
        raise fault(path, line, f"expected an id (text or a whole number), found {value!r}.")
    return str(value)


def make_item(path: Path, line: int | None, item_id: Any, fields: Mapping[str, Any]) -> Item:
    """Make an item from raw fields; raise a fault that names file and line if an id or field is malformed."""
    name = identifier(path, line, item_id)
    try:
        return Item.from_raw(name, fields)
    except ValueError as error:
        raise fault(path, line, f"item {name!r}: {error}") from error


def instant(text: str) -> float:
    """Read a time as a finite number."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a time")
    return value


def convert(path: Path, line: int, value: str, kind: Callable[[str], Any], expected: str) -> Any:
    """Call ``kind(value)``; raise the fault that it is not what was expected."""
    try:
        return kind(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        shown = value if len(value) <= 60 else value[:60] + "…"
        raise fault(path, line, f"expected {expected}, found {shown!r}.") from error


def by_user(events: list[tuple[str, float, str]]) -> list[Interactions]:
    """Group (user, time, item) events into one time-ordered sequence for each user.

    Events of equal times keep the order of the file.
    """
    users: dict[str, list[tuple[float, str]]] = {}
    for user, time, item in events:
        users.setdefault(user, []).append((time, item))
    sequences = []
    for user, touched in users.items():
        touched.sort(key=lambda event: event[0])
        times, items = zip(*touched, strict=True)
        sequences.append(Interactions(user, items, times))
    return sequences
