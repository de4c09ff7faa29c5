"""Keep the first tokens, as recommenders do today."""

from __future__ import annotations

import numpy as np

from tsporec.scorers.base import BaseScorer, Scores
from tsporec.tokens.ragged import RaggedTokens


class HeadScorer(BaseScorer):
    """Score a token by minus its place in its text.

    >>> HeadScorer().score(RaggedTokens.from_lists([[9, 8, 7], [6]])).tolist()
    [-0.0, -1.0, -2.0, -0.0]
    """

    name = "head"

    def score(self, tokens: RaggedTokens) -> Scores:
        """Return minus each token's place: float32 ``[T]``."""
        return -tokens.offsets().astype(np.float32)
