"""Text in, the best of it out: as text for models behind an API, as token ids for engines that take them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tsporec.budget import Budget
from tsporec.scorers.base import Scorer
from tsporec.selection import select
from tsporec.tokens.pieces import read_pieces
from tsporec.tokens.ragged import RaggedTokens

Bools = NDArray[np.bool_]

# Scripts without spaces between words, in which a character is about a word: kana and Chinese characters.
_WIDE = ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))


def compress_ids(scorer: Scorer, tokenizer: Any, text: str, budget: Budget, granularity: str = "word") -> list[int]:
    """The ids of ``text`` that are worth keeping, in order, as the tokenizer gave them.

    Parameters
    ----------
    scorer : Scorer
        For ids of ``tokenizer``.
    tokenizer : a Hugging Face tokenizer
    text : str
        Special tokens written in it are always kept; none are added.
    budget : Budget
        In tokens.
    granularity : "word" or "token"
        Words whole (what white space surrounds; in scripts without spaces a token, and never less than a
        character): best first by the mean of their tokens' scores, the earlier among equals, as long as they fit into
        what is left; so at most the budget's tokens are kept, and at least one word. Or the best tokens, exactly as
        many as the budget says: a character whose bytes are spread over tokens may then lose some, and decodes to
        U+FFFD.

    Raises
    ------
    ValueError
        For another granularity.
    """
    read = _read(tokenizer, text)
    return [int(i) for i in read.tokens.ids[_kept(scorer, read, budget, granularity)]]


def compress_text(scorer: Scorer, tokenizer: Any, text: str, budget: Budget, granularity: str = "word") -> str:
    """As :func:`compress_ids`, spelled: words with one space where there was any white space between them.

    By tokens it is what the tokenizer decodes the kept ids to.
    """
    read = _read(tokenizer, text)
    kept = _kept(scorer, read, budget, granularity)
    tokens, special, word, spelled, spans = read
    if granularity == "token":
        return str(tokenizer.decode(tokens.ids[kept].tolist(), clean_up_tokenization_spaces=False))
    out, before = "", 0
    for number in np.unique(word[kept]).tolist():
        own = np.flatnonzero(word == number)
        start, end = int(spans[own[0], 0]), int(spans[own[-1], 1])
        marks = own[special[own]]
        if len(marks):  # spelled by its name; what else is in its word is white space
            start = end = int(spans[marks[0], 0])
            name = tokenizer.convert_ids_to_tokens(int(tokens.ids[marks[0]]))
        else:
            name = spelled[start:end].strip()
            start = spelled.index(name, start)
            end = start + len(name)
        apart = any(c.isspace() for c in spelled[before:start])
        out += (" " if apart and out else "") + name
        before = end
    return out


def word_of_tokens(text: str, spans: NDArray[np.int64], special: Bools | None = None) -> NDArray[np.int64]:
    """int64 ``[L]``: the number of the word each token belongs to, from its span ``[L, 2]`` in ``text``.

    A token begins a word where it holds white space before its first other character, where such stood right before
    it, and beside a ``special`` token or a character of a script without spaces. A token of white space alone, or one
    that shares a character with the token before it, belongs to the word before it (the text's first: behind it).

    >>> word_of_tokens("gel pen", np.array([[0, 1], [1, 3], [3, 5], [5, 7]])).tolist()
    [0, 0, 1, 1]
    """
    numbers = np.zeros(len(spans), dtype=np.int64)
    current, ends, filled, after_break = 0, 0, False, False
    for i, (start, end) in enumerate(spans.tolist()):
        piece, alone = text[start:end], special is not None and bool(special[i])
        solid = piece.strip()
        begins = after_break or piece[:1].isspace() or _is_wide(solid[:1])
        if filled and (alone or (solid and begins and start >= ends)):
            current += 1
        numbers[i] = current
        filled = filled or alone or bool(solid)
        if alone or piece:
            after_break = alone or piece[-1:].isspace() or _is_wide(piece[-1:])
        ends = end
    return numbers


class _Read(NamedTuple):
    """A text of L tokens.

    Parameters
    ----------
    tokens : RaggedTokens
        One segment.
    special : bool ``[L]``
    word : int64 ``[L]``
        The number of each token's word.
    spelled : str
        The text as its tokens spell it.
    spans : int64 ``[L, 2]``
        Where in that each token stands.
    """

    tokens: RaggedTokens
    special: Bools
    word: NDArray[np.int64]
    spelled: str
    spans: NDArray[np.int64]


def _read(tokenizer: Any, text: str) -> _Read:
    tokens = RaggedTokens.from_lists([tokenizer(text, add_special_tokens=False)["input_ids"]])
    unknown, pieces = getattr(tokenizer, "unk_token_id", None), read_pieces(tokenizer)
    special = pieces.special[tokens.ids] & (tokens.ids != (-1 if unknown is None else unknown))
    spelled, spans = pieces.text(tokens.ids)
    return _Read(tokens, special, word_of_tokens(spelled, spans, special), spelled, spans)


def _kept(scorer: Scorer, read: _Read, budget: Budget, granularity: str) -> NDArray[np.int64]:
    """The kept places ``[K]``, ascending."""
    tokens, special, word, *_ = read
    if granularity not in ("word", "token"):
        raise ValueError(f"granularity must be 'word' or 'token'; found {granularity!r}.")
    if granularity == "token" or not tokens.num_tokens:
        return select(scorer, tokens, budget, protected=special).kept
    scores = np.nan_to_num(scorer.score(tokens).astype(np.float64), nan=-np.inf, neginf=-np.inf)
    counts = np.bincount(word)
    means = np.bincount(word, weights=scores) / np.maximum(counts, 1)
    chosen = np.zeros(len(counts), dtype=bool)
    chosen[word[special]] = True
    room = int(budget.resolve(scores, tokens.cu_seqlens, None, special)[0]) - int(counts[chosen].sum())
    free = np.flatnonzero(~chosen & (counts > 0))
    some = False
    for candidate in free[np.argsort(-means[free], kind="stable")].tolist():
        if counts[candidate] <= room or not some:
            chosen[candidate] = some = True
            room -= int(counts[candidate])
    return np.flatnonzero(chosen[word])


def _is_wide(character: str) -> bool:
    return bool(character) and any(first <= ord(character) <= last for first, last in _WIDE)
