"""The first tokens: what recommenders keep today."""

from __future__ import annotations

import numpy as np

from tsporec.scorers.base import BaseScorer, Scores
from tsporec.tokens.ragged import RaggedTokens


class HeadScorer(BaseScorer):
    """Earlier is better."""

    name = "head"

    def score(self, tokens: RaggedTokens) -> Scores:
        """float32 ``[T]``: minus the token's place in its text."""
        return -tokens.offsets().astype(np.float32)
