"""What becomes of ``position_ids`` when tokens are dropped."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def renumber(positions: Ints, kept: Ints) -> Ints:
    """``[K]``: from the first position on, without gaps, as if the dropped tokens had never been there."""
    return np.arange(len(kept)) + (positions[0] if len(positions) else 0)


def keep(positions: Ints, kept: Ints) -> Ints:
    """``[K]``: each kept token where it was; the gaps stay."""
    return positions[kept]


def right_align(positions: Ints, kept: Ints) -> Ints:
    """``[K]``: without gaps and up to the last position, so that the last token stays where it was."""
    return np.arange(len(kept)) - len(kept) + 1 + (positions[-1] if len(positions) else 0)


POLICIES: dict[str, Callable[[Ints, Ints], Ints]] = {"renumber": renumber, "keep": keep, "right_align": right_align}
"""Name of a policy -> ``(positions [L], kept [K]) -> positions [K]``."""


def policy(name: str) -> Callable[[Ints, Ints], Ints]:
    """The policy called ``name``."""
    if name not in POLICIES:
        raise ValueError(f"there is no position policy {name!r}; expected one of {', '.join(POLICIES)}.")
    return POLICIES[name]
