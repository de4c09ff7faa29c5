"""Show progress: a bar on a terminal, and a log line a minute elsewhere."""

from __future__ import annotations

import logging
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
    of = f" of {len(items)}" if isinstance(items, Sized) else ""
    told = time.monotonic()
    for number, item in enumerate(items):
        if time.monotonic() - told >= _SECONDS:
            _log.info("%s: %d%s", description, number, of)
            told = time.monotonic()
        yield item
