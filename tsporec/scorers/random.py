"""Random tokens: the floor that every rule must beat."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec.scorers.base import BaseScorer, Scores
from tsporec.tokens.ragged import RaggedTokens

_A, _B = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


class RandomScorer(BaseScorer):
    """Uniform scores that are a function of the seed and the text, so that they repeat in every batch and worker.

    Parameters
    ----------
    seed : int
    """

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def config(self) -> dict[str, Any]:
        """The seed."""
        return {"seed": self.seed}

    def score(self, tokens: RaggedTokens) -> Scores:
        """float32 ``[T]`` in [0, 1)."""
        place = tokens.offsets().astype(np.uint64)
        mixed = _mix(tokens.ids.astype(np.uint64) * _A + place)
        text = np.zeros(len(tokens) + 1, dtype=np.uint64)
        np.cumsum(mixed, out=mixed)  # wraps around; differences of the running sum are still exact
        text[1:] = np.append(np.uint64(0), mixed)[tokens.cu_seqlens[1:]]
        text = _mix(np.diff(text) + np.uint64(self.seed % 2**64))
        bits = _mix(np.repeat(text, tokens.lengths) + place * _B)
        return (bits >> np.uint64(40)).astype(np.float32) / np.float32(2**24)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * _B
    mixed: NDArray[np.uint64] = values ^ (values >> np.uint64(27))
    return mixed
