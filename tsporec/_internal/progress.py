"""Show progress: a bar on a terminal, and elsewhere a log line a minute, with the time that is left."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm.auto import tqdm

T = TypeVar("T")

_log = logging.getLogger("tsporec")
_SECONDS = 60.0  # between two lines


def progress(items: Iterable[T], description: str) -> Iterator[T]:
    """Yield ``items`` and show how many are done. Lines have level INFO of the logger "tsporec".

    >>> list(progress([3, 4], "encode"))
    [3, 4]
    """
    if sys.stderr.isatty():
        yield from tqdm(items, desc=description, leave=False)
        return
    began = told = time.monotonic()
    for number, item in enumerate(items):
        now = time.monotonic()
        if now - told >= _SECONDS:
            rest = ""
            if isinstance(items, Sized) and number:
                rest = f" of {len(items)}, {duration((now - began) / number * (len(items) - number))} left"
            _log.info("%s: %d%s", description, number, rest)
            told = now
        yield item


def duration(seconds: float) -> str:
    """Write a time roughly, for people.

    >>> duration(4.2), duration(100), duration(5000)
    ('about 5 seconds', 'about 2 minutes', 'about 1.4 hours')
    """
    if seconds < 60:
        return f"about {math.ceil(seconds)} seconds"
    return f"about {math.ceil(seconds / 60)} minutes" if seconds < 3600 else f"about {seconds / 3600:.1f} hours"
