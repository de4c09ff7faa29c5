"""Selection that keeps words whole, for readers of text rather than of token ids."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec.budget import Budget
from tsporec.pieces import read_pieces
from tsporec.ragged import RaggedTokens
from tsporec.scorers.base import Scorer


def compress_text(scorer: Scorer, tokenizer: Any, text: str, budget: Budget) -> str:
    """The words of ``text`` with the best scores that fit the budget, in order, one space apart.

    A word is what white space surrounds; its score is the mean of its tokens'. Words are taken best first (the earlier
    among equals) as long as their tokens fit into what is left; so at most the budget's tokens are kept, and at
    least one word.

    Parameters
    ----------
    scorer : Scorer
        For ids of ``tokenizer``.
    tokenizer : a Hugging Face tokenizer
    text : str
    budget : Budget
        In tokens.
    """
    tokens = RaggedTokens.from_lists([tokenizer(text, add_special_tokens=False)["input_ids"]])
    if not tokens.num_tokens:
        return ""
    spelled, spans = read_pieces(tokenizer).text(tokens[0])
    scores = np.nan_to_num(scorer.score(tokens).astype(np.float64), nan=-np.inf, neginf=-np.inf)
    word = word_of_tokens(spelled, spans)
    counts = np.bincount(word)
    room = int(budget.resolve(scores, tokens.cu_seqlens)[0])
    means = np.full(len(counts), -np.inf)
    np.divide(np.bincount(word, weights=scores), counts, out=means, where=counts > 0)
    kept: list[int] = []
    for candidate in np.argsort(-means, kind="stable").tolist():
        if counts[candidate] and (counts[candidate] <= room or not kept):
            kept.append(candidate)
            room -= int(counts[candidate])
    words = []
    for number in sorted(kept):
        own = spans[word == number]
        words.append(spelled[own[0, 0] : own[-1, 1]].strip())
    return " ".join(part for part in words if part)


def word_of_tokens(text: str, spans: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 ``[L]``: the number of the word each token belongs to, from its span ``[L, 2]`` in ``text``.

    A token begins a word where it holds white space before its first other character, or where such stood
    right before it. A token of white space alone belongs to the word before it.

    >>> word_of_tokens("gel pen", np.array([[0, 1], [1, 3], [3, 5], [5, 7]])).tolist()
    [0, 0, 1, 1]
    """
    numbers = np.zeros(len(spans), dtype=np.int64)
    current, after_space = 0, False
    for i, (start, end) in enumerate(spans.tolist()):
        piece = text[start:end]
        blank = not piece.strip()
        if i and not blank and (piece[:1].isspace() or after_space):
            current += 1
        numbers[i] = current
        after_space = piece[-1:].isspace() if piece else after_space
    return numbers
