"""Which tokens say the same again, so that a budget is not spent on them twice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def repeated(tokens: RaggedTokens, terms: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark tokens whose term stands earlier in their segment: bool ``[T]``.

    >>> repeated(RaggedTokens.from_lists([[5, 6, 5], [5]]), np.array([5, 6, 5, 5])).tolist()
    [False, False, True, False]
    """
    # (segment, term) pairs [T] -> first place of each pair
    _, first = np.unique(tokens.segment_ids() * (2**31) + terms, return_index=True)
    marks = np.ones(tokens.num_tokens, dtype=bool)
    marks[first] = False
    return marks
