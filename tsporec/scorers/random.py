"""Keep random tokens: the baseline that every rule must beat."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec.scorers.base import BaseScorer, Scores
from tsporec.tokens.ragged import RaggedTokens

_A, _B = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


class RandomScorer(BaseScorer):
    """Score tokens uniformly at random in [0, 1), as a function of seed, text and place.

    The scores of a text are equal in every batch and worker.

    Parameters
    ----------
    seed : int
        Random seed. Default: 0.

    Examples
    --------
    >>> scores = RandomScorer(seed=1).score(RaggedTokens.from_lists([[5, 6], [7], [5, 6]]))
    >>> scores[:2].tolist() == scores[3:].tolist()
    True
    """

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def config(self) -> dict[str, Any]:
        """Return the seed."""
        return {"seed": self.seed}

    def score(self, tokens: RaggedTokens) -> Scores:
        """Return scores in [0, 1): float32 ``[T]``."""
        # Hash each text (a sum over its tokens), then hash the text with each place.
        place = tokens.offsets().astype(np.uint64)
        mixed = _mix(tokens.ids.astype(np.uint64) * _A + place)
        text = np.zeros(len(tokens) + 1, dtype=np.uint64)
        np.cumsum(mixed, out=mixed)  # the sum wraps around, but its differences are exact
        text[1:] = np.append(np.uint64(0), mixed)[tokens.cu_seqlens[1:]]
        text = _mix(np.diff(text) + np.uint64(self.seed % 2**64))
        bits = _mix(np.repeat(text, tokens.lengths) + place * _B)
        return (bits >> np.uint64(40)).astype(np.float32) / np.float32(2**24)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix the bits of each value (from splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * _B
    mixed: NDArray[np.uint64] = values ^ (values >> np.uint64(27))
    return mixed
