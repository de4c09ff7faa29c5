"""Which tokens say the same again, so that a budget is not spent on them twice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.digest import fingerprint_of
from tsporec.scorers.base import BaseScorer, Scorer, Scores, score_tokens
from tsporec.tokens.fingerprint import tokenizer_fingerprint
from tsporec.tokens.pieces import read_pieces
from tsporec.tokens.ragged import RaggedTokens


def repeated(tokens: RaggedTokens, terms: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark tokens whose term, of ``terms [T]``, stands earlier in their segment: bool ``[T]``.

    >>> repeated(RaggedTokens.from_lists([[5, 6, 5], [5]]), np.array([5, 6, 5, 5])).tolist()
    [False, False, True, False]
    """
    # (segment, term) pairs [T] -> first place of each pair
    _, first = np.unique(tokens.segment_ids() * (2**31) + terms, return_index=True)
    marks = np.ones(tokens.num_tokens, dtype=bool)
    marks[first] = False
    return marks


class WithoutRepeats(BaseScorer):
    """Score tokens as ``scorer`` does, but rank repeated ones below all others.

    It makes a baseline as strong as tf-idf in this respect: a token that stands earlier in its text, in another case or
    with another space, is kept only if the budget has room for all tokens before it. The scorer must have a
    ``fingerprint``; ``tokenizer`` is that of the texts.

    >>> from tsporec.data.synthetic import word_tokenizer
    >>> from tsporec.scorers.head import HeadScorer
    >>> tokenizer = word_tokenizer("Pen gel pen".split())
    >>> tokens = RaggedTokens.from_lists([tokenizer("Pen pen gel", add_special_tokens=False)["input_ids"]])
    >>> WithoutRepeats(HeadScorer(), tokenizer).score(tokens).argsort().tolist()
    [1, 2, 0]
    """

    name = "without_repeats"

    def __init__(self, scorer: Scorer, tokenizer: Any) -> None:
        fingerprint_of(scorer)  # refuse one that has none
        self.scorer, self.terms = scorer, read_pieces(tokenizer).terms
        self.tokenizer_fingerprint = tokenizer_fingerprint(tokenizer)

    def config(self) -> dict[str, Any]:
        """Return the other scorer's fingerprint and the tokenizer's."""
        return {"scorer": fingerprint_of(self.scorer), "tokenizer": self.tokenizer_fingerprint}

    def score(self, tokens: RaggedTokens) -> Scores:
        """Return the scores, float32 ``[T]``."""
        scores = score_tokens(self.scorer, tokens).copy()
        scores[repeated(tokens, self.terms[tokens.ids])] = np.finfo(np.float32).min
        return scores
