"""Which tokens say the same again, so that a budget is not spent on them twice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec.scorers.base import BaseScorer, Scorer, Scores, score_tokens
from tsporec.tokens.fingerprint import tokenizer_fingerprint
from tsporec.tokens.pieces import read_pieces
from tsporec.tokens.ragged import RaggedTokens


def spelled_terms(tokenizer: Any) -> NDArray[np.int64]:
    """Number the vocabulary so that tokens which differ in case or surrounding space have one number: int64 ``[V]``.

    >>> from tsporec.data.synthetic import word_tokenizer
    >>> tokenizer = word_tokenizer("Pen gel pen".split())
    >>> terms = spelled_terms(tokenizer)[tokenizer("Pen gel pen", add_special_tokens=False)["input_ids"]]
    >>> bool(terms[0] == terms[2] != terms[1])
    True
    """
    spelled = [text.strip().casefold() for text in read_pieces(tokenizer).texts]
    numbers: NDArray[np.int64] = np.unique(np.array(spelled, dtype=object), return_inverse=True)[1].astype(np.int64)
    return numbers


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
        if getattr(scorer, "fingerprint", None) is None:
            raise ValueError(f"{type(scorer).__name__} has no fingerprint; give it one that changes with its scores.")
        self.scorer, self.terms = scorer, spelled_terms(tokenizer)
        self.tokenizer_fingerprint = tokenizer_fingerprint(tokenizer)

    def config(self) -> dict[str, Any]:
        """Return the other scorer's fingerprint and the tokenizer's."""
        return {"scorer": self.scorer.fingerprint, "tokenizer": self.tokenizer_fingerprint}  # type: ignore[attr-defined]

    def score(self, tokens: RaggedTokens) -> Scores:
        """Return the scores, float32 ``[T]``."""
        scores = np.full(tokens.num_tokens, np.finfo(np.float32).min)
        # (segment, term) pairs [T] -> first place of each pair
        _, first = np.unique(tokens.segment_ids() * (2**31) + self.terms[tokens.ids], return_index=True)
        scores[first] = score_tokens(self.scorer, tokens)[first]
        return scores
