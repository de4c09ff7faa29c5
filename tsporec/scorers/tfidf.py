"""Term frequency times inverse document frequency: the strongest rule that needs no model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec.scorers.base import BaseScorer, Corpus, Scores, read_corpus
from tsporec.tokens.fingerprint import tokenizer_fingerprint
from tsporec.tokens.pieces import read_pieces
from tsporec.tokens.ragged import RaggedTokens, check_ids


class TfidfScorer(BaseScorer):
    """Score a term by ``tf * (log((1 + N) / (1 + df)) + 1)``, with the smoothed idf of scikit-learn.

    ``tf`` counts the term in its text, ``df`` the texts that hold it, and N all texts. The first occurrence in a text
    gets the score. Later occurrences get -1, below every first one. With the ``tokenizer`` of the texts, tokens that
    differ in case or in a space before them are one term: " Pen" and "pen". Without, every token id is a term.

    >>> from tsporec.data.synthetic import word_tokenizer
    >>> tokenizer = word_tokenizer("Pen gel pen".split())
    >>> tokens = RaggedTokens.from_lists([tokenizer("Pen gel pen", add_special_tokens=False)["input_ids"]])
    >>> TfidfScorer().fit(tokens).score(tokens).tolist()
    [1.0, 1.0, 1.0]
    >>> TfidfScorer(tokenizer).fit(tokens).score(tokens).tolist()
    [2.0, 1.0, -1.0]
    """

    name = "tfidf"

    def __init__(self, tokenizer: Any = None) -> None:
        self.tokenizer = tokenizer
        self.terms = None if tokenizer is None else read_pieces(tokenizer).terms
        self.tokenizer_fingerprint = None if tokenizer is None else tokenizer_fingerprint(tokenizer)
        self.idf: NDArray[np.float32] | None = None
        self.unseen = np.float32(0)

    def fit(self, corpus: Corpus) -> TfidfScorer:
        """Count document frequencies; every text is a document. Terms that never occur get the idf of ``df = 0``.

        Texts, in place of token ids, are read with the scorer's ``tokenizer``.
        """
        corpus = read_corpus(corpus, self.tokenizer)
        terms = self._terms_of(corpus)
        size = int(terms.max(initial=-1)) + 1
        # Texts [[1, 2, 1], [2]] -> distinct (text, term) pairs (0, 1), (0, 2), (1, 2) -> df [0, 1, 2]
        pairs = np.unique(corpus.segment_ids() * size + terms)
        df = np.bincount(pairs % size if size else pairs, minlength=size)
        self.idf = (np.log((1 + len(corpus)) / (1 + df)) + 1).astype(np.float32)
        self.unseen = np.float32(np.log(1 + len(corpus)) + 1)
        return self

    def config(self) -> dict[str, Any]:
        """Return the fitted frequencies and the tokenizer."""
        idf = np.zeros(0, np.float32) if self.idf is None else self.idf
        return {"idf": idf, "unseen": float(self.unseen), "tokenizer": self.tokenizer_fingerprint}

    def score(self, tokens: RaggedTokens) -> Scores:
        """Return the scores, float32 ``[T]``. A scorer that is not fitted, or an unknown id, is a ValueError."""
        if self.idf is None:
            raise ValueError(
                "the tfidf scorer has no document frequencies; call scorer.fit(corpus) with the catalogue first."
            )
        terms = self._terms_of(tokens)
        idf = np.append(self.idf, self.unseen)[np.minimum(terms, len(self.idf))]
        # Texts [[1, 2, 1]] -> first occurrences [0, 1], counts [2, 1]
        _, first, counts = np.unique(tokens.segment_ids() * (2**31) + terms, return_index=True, return_counts=True)
        scores = np.full(tokens.num_tokens, -1.0, dtype=np.float32)
        scores[first] = (counts * idf[first]).astype(np.float32)
        return scores

    def _terms_of(self, tokens: RaggedTokens) -> NDArray[np.int64]:
        """Return the term of each token: int64 ``[T]``."""
        size = 2**31 if self.terms is None else len(self.terms)
        remedy = "give the tokenizer that made the ids, and leave ignored labels and padding out"
        check_ids(tokens.ids, size, "the tokenizer's vocabulary", remedy)
        return tokens.ids.astype(np.int64) if self.terms is None else self.terms[tokens.ids]
