"""Measure how long a call takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any


def median_seconds(call: Callable[[], Any], rounds: int) -> float:
    """Return the median seconds of a call."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def median_ms(call: Callable[[], Any], rounds: int) -> float:
    """Return the median milliseconds of a call, to the microsecond."""
    return round(1000 * median_seconds(call, rounds), 3)
