"""Term frequency times inverse document frequency: the strongest rule that needs no model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec.scorers.base import BaseScorer, Scores
from tsporec.tokens.ragged import RaggedTokens


class TfidfScorer(BaseScorer):
    """Score a token id by ``tf * (log((1 + N) / (1 + df)) + 1)``, with the smoothed idf of scikit-learn.

    ``tf`` counts the token in its text, ``df`` the texts that hold it, and N all texts. The first occurrence in a text
    gets the score. Later occurrences get -1, below every first one.

    Examples
    --------
    >>> corpus = RaggedTokens.from_lists([[1, 2, 1], [2, 3], [2]])
    >>> TfidfScorer().fit(corpus).score(corpus.take([0])).round(2).tolist()
    [3.390000104904175, 1.0, -1.0]
    """

    name = "tfidf"

    def __init__(self) -> None:
        self.idf: NDArray[np.float32] | None = None
        self.unseen = np.float32(0)

    def fit(self, corpus: RaggedTokens) -> TfidfScorer:
        """Count document frequencies; every segment is a document. Ids that never occur get the idf of ``df = 0``."""
        _check(corpus)
        size = int(corpus.ids.max(initial=-1)) + 1
        # Texts [[1, 2, 1], [2]] -> distinct (text, id) pairs (0, 1), (0, 2), (1, 2) -> df [0, 1, 2]
        pairs = np.unique(corpus.segment_ids() * size + corpus.ids)
        df = np.bincount(pairs % size if size else pairs, minlength=size)
        self.idf = (np.log((1 + len(corpus)) / (1 + df)) + 1).astype(np.float32)
        self.unseen = np.float32(np.log(1 + len(corpus)) + 1)
        return self

    def config(self) -> dict[str, Any]:
        """Return the fitted frequencies."""
        return {"idf": np.zeros(0, np.float32) if self.idf is None else self.idf, "unseen": float(self.unseen)}

    def score(self, tokens: RaggedTokens) -> Scores:
        """Return the scores, float32 ``[T]``. A scorer that is not fitted, or a negative id, is a ValueError."""
        if self.idf is None:
            raise ValueError(
                "the tfidf scorer has no document frequencies; call scorer.fit(corpus) with the catalogue first."
            )
        _check(tokens)
        idf = np.append(self.idf, self.unseen)[np.minimum(tokens.ids, len(self.idf))]
        # Texts [[1, 2, 1]] -> first occurrences [0, 1], counts [2, 1]
        _, first, counts = np.unique(tokens.segment_ids() * (2**31) + tokens.ids, return_index=True, return_counts=True)
        scores = np.full(tokens.num_tokens, -1.0, dtype=np.float32)
        scores[first] = (counts * idf[first]).astype(np.float32)
        return scores


def _check(tokens: RaggedTokens) -> None:
    if (low := int(tokens.ids.min(initial=0))) < 0:
        raise ValueError(f"token id {low} is negative; leave ignored labels and padding out.")
