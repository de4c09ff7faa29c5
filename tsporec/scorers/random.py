"""Keep random tokens: the baseline that every rule must beat."""

from __future__ import annotations

from typing import Any

import numpy as np

from tsporec._internal.types import is_whole
from tsporec.scorers.base import BaseScorer, Scores
from tsporec.tokens.letter_hashes import mixed
from tsporec.tokens.ragged import RaggedTokens

_A, _B = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


class RandomScorer(BaseScorer):
    """Score tokens uniformly at random in [0, 1), as a function of seed, text and place: equal in every batch.

    >>> scores = RandomScorer(seed=1).score(RaggedTokens.from_lists([[5, 6], [7], [5, 6]]))
    >>> scores[:2].tolist() == scores[3:].tolist()
    True
    """

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        if not is_whole(seed):
            raise TypeError(f"seed must be a whole number; found {seed!r}.")
        self.seed = seed

    def config(self) -> dict[str, Any]:
        """Return the seed."""
        return {"seed": self.seed}

    def score(self, tokens: RaggedTokens) -> Scores:
        """Return scores in [0, 1): float32 ``[T]``."""
        # Hash each text (a sum over its tokens), then hash the text with each place.
        place = tokens.offsets().astype(np.uint64)
        # The sums wrap around, but their differences are exact.
        sums = np.append(np.uint64(0), np.cumsum(mixed(tokens.ids.astype(np.uint64) * _A + place)))
        text = mixed(np.diff(sums[tokens.cu_seqlens]) + np.uint64(self.seed % 2**64))
        bits = mixed(np.repeat(text, tokens.lengths) + place * _B)
        return (bits >> np.uint64(40)).astype(np.float32) / np.float32(2**24)
