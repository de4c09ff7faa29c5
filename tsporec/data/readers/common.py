"""Opening files and naming faults: every reader says which file and which line."""

from __future__ import annotations

import csv
import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from tsporec.data.items import Interactions

csv.field_size_limit(2**27)


def fault(path: Path, line: int | None, found: str) -> ValueError:
    """The error for a malformed line (or, without one, file)."""
    return ValueError(f"{path}{f':{line}' if line else ''}: {found}")


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, with their ends; gzipped if its name ends in .gz.

    Raises
    ------
    ValueError
        If the file is missing, cut or not UTF-8; the line that could not be read is named.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file.")
    number = 0
    try:
        with cast(BinaryIO, gzip.open(path) if path.suffix == ".gz" else path.open("rb")) as stream:
            for number, raw in enumerate(stream, start=1):
                yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise fault(path, number + 1, f"the gzip stream is cut or damaged ({error}); fetch the file again.") from error
    except UnicodeDecodeError as error:
        raise fault(path, number, f"not UTF-8 text ({error.reason}); is the file cut?") from error


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of a file with a JSON object a line; empty lines are passed over."""
    for number, line in enumerate(text_lines(path), start=1):
        if not line.strip():
            continue
        record = _json(path, line, number)
        if not isinstance(record, dict):
            raise fault(path, number, f"expected a JSON object, found {type(record).__name__}.")
        yield number, record


def json_object(path: Path) -> dict[str, Any]:
    """The one JSON object that a file holds."""
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
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands there twice")
    return found


def table(path: Path, required: tuple[str, ...], delimiter: str = ",") -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) of a table with a header; the columns named must be there, and every row must be whole.

    Empty lines are passed over. A row over several lines is named by its last.
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
    """``record[name]``, or the fault that it is missing."""
    if record.get(name) in (None, ""):
        raise fault(path, line, f"no {name!r}; found {sorted(record)}.")
    return record[name]


def identifier(path: Path, line: int | None, value: Any) -> str:
    """``value`` as an id: text or a whole number; anything else, such as ``1.0``, would meet no other id."""
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise fault(path, line, f"expected an id (text or a whole number), found {value!r}.")
    return str(value)


def instant(text: str) -> float:
    """A time as a finite number; NaN has no place in an order."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a time")
    return value


def convert(path: Path, line: int, value: str, kind: Callable[[str], Any], expected: str) -> Any:
    """``kind(value)``, or the fault that it is not what was expected."""
    try:
        return kind(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        shown = value if len(value) <= 60 else value[:60] + "…"
        raise fault(path, line, f"expected {expected}, found {shown!r}.") from error


def by_user(events: list[tuple[str, float, str]]) -> list[Interactions]:
    """(user, time, item) events as one time-ordered sequence a user; equal times keep the order of the file."""
    users: dict[str, list[tuple[float, str]]] = {}
    for user, time, item in events:
        users.setdefault(user, []).append((time, item))
    sequences = []
    for user, touched in users.items():
        touched.sort(key=lambda event: event[0])
        times, items = zip(*touched, strict=True)
        sequences.append(Interactions(user, items, times))
    return sequences
