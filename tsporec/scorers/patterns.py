"""Keep numbers, identifiers or whatever a pattern matches, before all else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.digest import fingerprint_of
from tsporec.scorers.base import BaseScorer, Scorer, Scores, score_tokens
from tsporec.tokens.fingerprint import tokenizer_fingerprint
from tsporec.tokens.pieces import read_pieces
from tsporec.tokens.ragged import RaggedTokens

PATTERNS = {
    "numbers": r"\d+(?:[.,/:]\d+)*",
    # Words of letters and digits: G2, 210-B, MX500.
    "identifiers": r"\b(?:\d+[^\W\d_]|[^\W\d_]+\d)\w*(?:-\w+)*|\b\w+-\d\w*",
}
"""Name -> regular expression."""


def join_patterns(keep: Sequence[str]) -> re.Pattern[str]:
    """Make one pattern of names of :data:`PATTERNS` and regular expressions.

    >>> join_patterns(["numbers", "[A-Z]{2,}"]).findall("HP 74 ink")
    ['HP', '74']
    """
    if not isinstance(keep, list | tuple) or not all(isinstance(one, str) and one for one in keep):
        raise ValueError(
            f"keep=… (--keep) takes a list of patterns, none of them empty, such as ['numbers']; found {keep!r}."
        )
    try:
        return re.compile("|".join(f"(?:{PATTERNS.get(one, one)})" for one in keep))
    except re.error as error:
        raise ValueError(
            f"keep=… (--keep) takes {', '.join(PATTERNS)} or regular expressions; found {list(keep)}: {error}."
        ) from error


class Keeping(BaseScorer):
    """Score tokens as ``scorer`` does, but rank those of matching text above all others.

    A budget holds as before: if more matches than it has room for, the best of it is kept. ``keep`` are names of
    :data:`PATTERNS` or regular expressions; they match the text that the tokens spell. The scorer must have a
    ``fingerprint``, and ``tokenizer`` is that of the texts.

    >>> from tsporec.data.synthetic import word_tokenizer
    >>> from tsporec.scorers.head import HeadScorer
    >>> from tsporec.selection import select
    >>> tokenizer = word_tokenizer("gel pen pack of 12".split())
    >>> tokens = RaggedTokens.from_lists(tokenizer(["gel pen pack of 12"], add_special_tokens=False)["input_ids"])
    >>> scorer = Keeping(HeadScorer(), tokenizer, ["numbers", "identifiers"])
    >>> tokenizer.decode(select(scorer, tokens, 3).apply(tokens)[0]).strip()
    'gel pen 12'
    """

    name = "keeping"

    def __init__(self, scorer: Scorer, tokenizer: Any, keep: Sequence[str]) -> None:
        fingerprint_of(scorer)  # refuse one that has none
        self.pattern = join_patterns(keep)
        self.scorer, self.pieces = scorer, read_pieces(tokenizer)
        self.item_weights = getattr(scorer, "item_weights", None)
        self.frequencies = getattr(scorer, "frequencies", "")
        self.tokenizer_fingerprint = tokenizer_fingerprint(tokenizer)

    def config(self) -> dict[str, Any]:
        """Return the pattern, the other scorer's fingerprint and the tokenizer's."""
        return {
            "scorer": fingerprint_of(self.scorer),
            "tokenizer": self.tokenizer_fingerprint,
            "pattern": self.pattern.pattern,
        }

    def marks(self, tokens: RaggedTokens) -> NDArray[np.bool_]:
        """Mark the tokens that spell a part of a match: bool ``[T]``."""
        marks = []
        for ids in tokens:
            text, spans = self.pieces.text(ids)
            inside = np.zeros(len(text) + 1, dtype=bool)
            for match in self.pattern.finditer(text):
                inside[match.start() : match.end()] = True
            before = np.append(0, np.cumsum(inside))  # matched characters before each place
            marks.append(before[spans[:, 1]] > before[spans[:, 0]])
        return np.concatenate(marks) if marks else np.zeros(0, dtype=bool)

    def score(self, tokens: RaggedTokens) -> Scores:
        """Return the scores, float32 ``[T]``. A match has a rank above its text's best score, so order stays exact."""
        return self.score_and_mark(tokens)[0]

    def score_and_mark(self, tokens: RaggedTokens) -> tuple[Scores, NDArray[np.bool_]]:
        """Return :meth:`score` and :meth:`marks`."""
        scores, marks = score_tokens(self.scorer, tokens).copy(), self.marks(tokens)
        for start, end in zip(tokens.cu_seqlens[:-1], tokens.cu_seqlens[1:], strict=True):
            places = start + np.flatnonzero(marks[start:end])
            if len(places):
                part = scores[start:end]
                order = np.lexsort((-places, scores[places]))  # worst first; of equal scores, the later is worse
                best = np.ceil(part.max(initial=0))
                scores[places[order]] = best + 1 + np.arange(len(places))
        return scores, marks
