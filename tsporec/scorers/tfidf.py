"""Term frequency times inverse document frequency: the strongest rule that needs no model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec.scorers.base import BaseScorer, Scores
from tsporec.tokens.ragged import RaggedTokens


class TfidfScorer(BaseScorer):
    """``tf * (log((1 + N) / (1 + df)) + 1)``, the smoothed idf of scikit-learn, over token ids.

    A repeated token counts once: its first occurrence carries the score, the others rank below everything.
    """

    name = "tfidf"

    def __init__(self) -> None:
        self.idf: NDArray[np.float32] | None = None
        self.unseen = np.float32(0)

    def fit(self, corpus: RaggedTokens) -> TfidfScorer:
        """Count document frequencies; a segment is a document."""
        size = int(corpus.ids.max(initial=-1)) + 1
        pairs = np.unique(corpus.segment_ids() * size + corpus.ids)
        df = np.bincount(pairs % size if size else pairs, minlength=size)
        self.idf = (np.log((1 + len(corpus)) / (1 + df)) + 1).astype(np.float32)
        self.unseen = np.float32(np.log(1 + len(corpus)) + 1)
        return self

    def config(self) -> dict[str, Any]:
        """The fitted frequencies."""
        return {"idf": np.zeros(0, np.float32) if self.idf is None else self.idf, "unseen": float(self.unseen)}

    def score(self, tokens: RaggedTokens) -> Scores:
        """float32 ``[T]``.

        Raises
        ------
        ValueError
            If the scorer has not been fitted, or a token id is negative.
        """
        if self.idf is None:
            raise ValueError(
                "the tfidf scorer has no document frequencies; call scorer.fit(corpus) with the catalogue first."
            )
        if tokens.ids.min(initial=0) < 0:
            raise ValueError(f"token id {tokens.ids.min()} is negative; expected ids of a tokenizer's vocabulary.")
        idf = np.append(self.idf, self.unseen)[np.minimum(tokens.ids, len(self.idf))]
        pairs = tokens.segment_ids() * (2**31) + tokens.ids
        _, first, counts = np.unique(pairs, return_index=True, return_counts=True)
        scores = np.full(tokens.num_tokens, -1.0, dtype=np.float32)
        scores[first] = (counts * idf[first]).astype(np.float32)
        return scores
