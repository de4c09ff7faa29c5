"""Opening files and naming faults: every reader says which file and which line."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from tsporec.items import Interactions

csv.field_size_limit(2**27)


def fault(path: Path, line: int | None, found: str) -> ValueError:
    """The error for a malformed line (or, without one, file)."""
    return ValueError(f"{path}{f':{line}' if line else ''}: {found}")


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """A UTF-8 text file, gzipped if its name ends in .gz; a missing or cut file is a ValueError."""
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file.")
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8-sig")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8-sig", newline="") as stream
        ):
            yield stream
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise fault(path, None, f"the gzip stream is cut or damaged ({error}); fetch the file again.") from error
    except UnicodeDecodeError as error:
        raise fault(path, None, f"not UTF-8 text ({error}).") from error


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of a file with a JSON object a line; empty lines are passed over."""
    with open_text(path) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise fault(path, number, f"not a JSON object a line ({error.msg}).") from error
            if not isinstance(record, dict):
                raise fault(path, number, f"expected a JSON object, found {type(record).__name__}.")
            yield number, record


def json_object(path: Path) -> dict[str, Any]:
    """The one JSON object that a file holds."""
    with open_text(path) as stream:
        text = stream.read()
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise fault(path, error.lineno, f"not JSON ({error.msg}); is the file cut?") from error
    if not isinstance(value, dict):
        raise fault(path, None, f"expected one JSON object, found {type(value).__name__}.")
    return value


def table(path: Path, required: tuple[str, ...], delimiter: str = ",") -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) of a table with a header; the columns named must be there, and every row must be whole."""
    with open_text(path) as stream:
        # Tab-separated formats do not quote; a quote there is text.
        plain = delimiter == "\t"
        reader = csv.reader(
            stream, delimiter=delimiter, quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL, strict=not plain
        )
        header = next(reader, None)
        if header is None:
            raise fault(path, None, "the file is empty; expected a header.")
        missing = [name for name in required if name not in header]
        if missing:
            raise fault(path, 1, f"no column {missing[0]!r}; found {header}.")
        try:
            for row in reader:
                if len(row) != len(header):
                    raise fault(path, reader.line_num, f"{len(row)} fields, expected {len(header)}; is the file cut?")
                yield reader.line_num, dict(zip(header, row, strict=True))
        except csv.Error as error:
            raise fault(path, reader.line_num, f"not a CSV row ({error}); is the file cut?") from error


def field(path: Path, line: int, record: dict[str, Any], name: str) -> Any:
    """``record[name]``, or the fault that it is missing."""
    if record.get(name) in (None, ""):
        raise fault(path, line, f"no {name!r}; found {sorted(record)}.")
    return record[name]


def convert(path: Path, line: int, value: str, kind: Callable[[str], Any], expected: str) -> Any:
    """``kind(value)``, or the fault that it is not what was expected."""
    try:
        return kind(value)
    except (ValueError, SyntaxError) as error:
        shown = value if len(value) <= 60 else value[:60] + "…"
        raise fault(path, line, f"expected {expected}, found {shown!r}.") from error


def by_user(events: list[tuple[str, float, str]]) -> list[Interactions]:
    """(user, time, item) events as one time-ordered sequence a user; equal times keep the order of the file."""
    users: dict[str, list[tuple[float, str]]] = {}
    for user, time, item in events:
        users.setdefault(user, []).append((time, item))
    return [
        Interactions(user, tuple(item for _, item in sorted(touched, key=lambda event: event[0])))
        for user, touched in users.items()
    ]
