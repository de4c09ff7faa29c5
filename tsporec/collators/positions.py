"""What becomes of ``position_ids`` when tokens are dropped.

Positions may count through several sequences one after the other (packed batches): where they do not rise, a new
run begins, and each run is treated on its own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def renumber(positions: Ints, kept: Ints) -> Ints:
    """``[K]``: as if the dropped tokens had never been there: each less the tokens dropped before it in its run."""
    before, _ = _dropped(positions, kept)
    return positions[kept] - before


def keep(positions: Ints, kept: Ints) -> Ints:
    """``[K]``: each kept token where it was; the gaps stay."""
    return positions[kept]


def right_align(positions: Ints, kept: Ints) -> Ints:
    """``[K]``: moved up to the end of the run, so that its last token stays where it was."""
    _, after = _dropped(positions, kept)
    return positions[kept] + after


POLICIES: dict[str, Callable[[Ints, Ints], Ints]] = {"renumber": renumber, "keep": keep, "right_align": right_align}
"""Name of a policy -> ``(positions [L], kept [K]) -> positions [K]``."""


def policy(name: str) -> Callable[[Ints, Ints], Ints]:
    """The policy called ``name``."""
    if name not in POLICIES:
        raise ValueError(f"there is no position policy {name!r}; expected one of {', '.join(POLICIES)}.")
    return POLICIES[name]


def _dropped(positions: Ints, kept: Ints) -> tuple[Ints, Ints]:
    """Tokens dropped before and after each kept one, in its run: two ``[K]``."""
    dropped = np.ones(len(positions), dtype=np.int64)
    dropped[kept] = 0
    passed = np.concatenate([[0], np.cumsum(dropped)])
    starts = np.flatnonzero(np.concatenate([[True], np.diff(positions) <= 0]))
    run = np.searchsorted(starts, kept, side="right") - 1
    ends = np.append(starts[1:], len(positions))
    return passed[kept] - passed[starts[run]], passed[ends[run]] - passed[kept]
