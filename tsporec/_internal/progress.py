"""Show progress: a bar on a terminal, and elsewhere a log line a minute, with the time that is left."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from tqdm.auto import tqdm

T = TypeVar("T")

_log = logging.getLogger("tsporec")
_SECONDS = 60.0  # between two lines


def progress(items: Iterable[T], description: str, size: Callable[[T], int] = lambda _: 1) -> Iterator[T]:
    """Yield ``items`` and show how many are done. Lines have level INFO of the logger "tsporec".

    ``size`` returns how many an item counts for: a chunk of 1,024 texts counts for as many.

    >>> list(progress([3, 4], "encode"))
    [3, 4]
    """
    total = len(items) if isinstance(items, Sized) else None
    if sys.stderr.isatty():
        with tqdm(desc=description, total=total, leave=False) as bar:
            for item in items:
                yield item
                bar.update(size(item))
        return
    began = told = time.monotonic()
    done = 0
    for item in items:
        now = time.monotonic()
        if now - told >= _SECONDS:
            rest = f" of {total:,}, {duration((now - began) / done * (total - done))} left" if total and done else ""
            _log.info("%s: %s%s", description, f"{done:,}", rest)
            told = now
        yield item
        done += size(item)


def duration(seconds: float) -> str:
    """Write a time roughly, for people.

    >>> duration(4.2), duration(100), duration(5000)
    ('about 5 seconds', 'about 2 minutes', 'about 1.4 hours')
    """
    if seconds < 60:
        return f"about {math.ceil(seconds)} seconds"
    return f"about {math.ceil(seconds / 60)} minutes" if seconds < 3600 else f"about {seconds / 3600:.1f} hours"
