"""Change ``position_ids`` when tokens are dropped.

A column may hold several documents one after the other, each counted from its start. A new run begins where the
positions do not rise, and each run is treated by itself. Positions ``[..., L]`` with several rows (Qwen-VL's M-RoPE has
three) share their runs: one begins where no row rises.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Reposition = Callable[[Ints, Ints], Ints]
"""``(positions [..., L], kept [K]) -> positions [..., K]``."""


def renumber(positions: Ints, kept: Ints) -> Ints:
    """Number the kept tokens as if the dropped ones had never been there: int64 ``[..., K]``.

    >>> renumber(np.array([5, 6, 7, 8]), np.array([0, 3])).tolist()
    [5, 6]
    """
    before, _ = _dropped(positions, kept)
    return positions[..., kept] - before


def right_align(positions: Ints, kept: Ints) -> Ints:
    """Number the kept tokens so that the last one of each run keeps its position: int64 ``[..., K]``.

    >>> right_align(np.array([5, 6, 7, 8]), np.array([0, 3])).tolist()
    [7, 8]
    """
    _, after = _dropped(positions, kept)
    return positions[..., kept] + after


POLICIES: dict[str, Reposition] = {"renumber": renumber, "right_align": right_align}


def policy(name: str) -> Reposition:
    """Return the policy called ``name``: "renumber" or "right_align"."""
    if name not in POLICIES:
        raise ValueError(f"there is no position policy {name!r}; expected one of {', '.join(POLICIES)}.")
    return POLICIES[name]


def _dropped(positions: Ints, kept: Ints) -> tuple[Ints, Ints]:
    """Count the tokens of its run that were dropped before and after each kept token: two int64 ``[K]``."""
    length = positions.shape[-1]
    dropped = np.ones(length, dtype=np.int64)
    dropped[kept] = 0
    # Dropped tokens before each place: [0, 1, 1, 0] -> [0, 0, 1, 2, 2].
    passed = np.concatenate([[0], np.cumsum(dropped)])
    # First place of each run, and the run of each kept token: positions [3, 4, 0, 1] -> starts [0, 2].
    falls = (np.diff(positions, axis=-1) <= 0).all(axis=tuple(range(positions.ndim - 1)))
    starts = np.flatnonzero(np.concatenate([[True], falls]))
    run = np.searchsorted(starts, kept, side="right") - 1
    ends = np.append(starts[1:], length)
    return passed[kept] - passed[starts[run]], passed[ends[run]] - passed[kept]
