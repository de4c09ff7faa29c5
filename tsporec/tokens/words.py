"""Which tokens of a text belong to one word."""

from __future__ import annotations

import unicodedata

import numpy as np
from numpy.typing import NDArray

from tsporec.tokens.pieces import Pieces
from tsporec.tokens.ragged import RaggedTokens

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

_UNSPACED = (
    (0x0E00, 0x0FFF),  # Thai, Lao, Tibetan
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x3040, 0x312F),  # kana, Bopomofo
    (0x31A0, 0x31FF),  # Bopomofo and kana, extended
    (0x3400, 0x4DBF),  # Chinese characters, extension A
    (0x4E00, 0x9FFF),  # Chinese characters
    (0xA9E0, 0xA9FF),  # Burmese, extended
    (0xAA60, 0xAADF),  # Burmese, extended; Tai Viet
    (0xF900, 0xFAFF),  # Chinese characters, compatibility
    (0xFF01, 0xFF9F),  # full-width letters, half-width kana
    (0x1B000, 0x1B16F),  # kana, supplements
    (0x20000, 0x3FFFF),  # Chinese characters, further extensions
)
"""Scripts without spaces between words. A character and its marks (a grapheme cluster) is their smallest unit."""

_BLANK, _WIDE, _EXTENDS, _JOINS, _UNREAD = 1, 2, 4, 8, 255
_KINDS = np.full(0x110000, _UNREAD, dtype=np.uint8)  # the flags of each code point that was met
_VOICED = "\uff9e\uff9f"  # half-width marks, which Unicode counts as letters
_JOINERS = "\u200d\u0f84\u1039\u17d2"  # the next character is written into the one before: ZWJ, Tibetan, Burmese, Khmer


def words_of(tokens: RaggedTokens, pieces: Pieces) -> Ints:
    """Return the number of the word that each token belongs to, read from what the tokens spell: int64 ``[T]``.

    It needs no text, so every way in finds the same words. BERT's tokens do not show where a space was, so a sign
    between letters is a word of its own there. Numbers ascend from 0; no word reaches over two segments.

    >>> from tsporec.data.synthetic import word_tokenizer
    >>> from tsporec.tokens.pieces import read_pieces
    >>> words_of(RaggedTokens.from_lists([[4, 5], [4]]), read_pieces(word_tokenizer(["gel", "pen"]))).tolist()
    [0, 1, 2]
    """
    texts, spans, length = [], [np.zeros((0, 2), dtype=np.int64)], 0
    for segment in tokens:
        text, places = pieces.text(segment)
        texts.append(text)
        spans.append(places + length)
        length += len(text)
    return word_of_tokens("".join(texts), np.concatenate(spans), pieces.protected[tokens.ids], tokens.cu_seqlens)


def word_of_tokens(text: str, spans: Ints, alone: Bools, cu_seqlens: NDArray[np.int32]) -> Ints:
    """Return the number of the word of each of L tokens, from where they stand in a text, ``spans [L, 2]``.

    A token begins a word if it is the first with a visible character behind white space, behind or at a character of a
    script without spaces, or beside a token that is a word ``alone [L]``. It does not if it begins inside a character
    or with a mark on the character before. Tokens of white space belong to the word before them; at the start of the
    text, to the first. The texts of N segments stand one behind the other in ``text``.

    >>> spans = np.array([[0, 1], [1, 3], [3, 5], [5, 7]])
    >>> word_of_tokens("gel pen", spans, np.zeros(4, dtype=bool), np.int32([0, 4])).tolist()
    [0, 0, 1, 1]
    """
    if not len(spans):
        return np.zeros(0, dtype=np.int64)
    opens = np.repeat(cu_seqlens[:-1], np.diff(cu_seqlens))  # the first token of each token's segment
    start, end = spans[:, 0], spans[:, 1]
    kinds = np.append(_kinds(text), np.uint8(0))
    # First visible character at or behind each place, and whether a token has one.
    places = np.where(kinds[:-1] & _BLANK, len(text), np.arange(len(text)))
    visible = np.append(np.minimum.accumulate(places[::-1])[::-1], len(text))[start]
    solid, first, last = visible < end, kinds[start], kinds[np.maximum(end - 1, 0)]
    # A break behind a token holds until the next token that is not empty: -> break before each token.
    counts = alone | (end > start)
    behind = alone | ((last & (_BLANK | _WIDE) != 0) & (last & _JOINS == 0))
    latest = np.maximum.accumulate(np.where(counts, np.arange(len(spans)), -1))
    before = np.concatenate([[-1], latest[:-1]])
    before[before < opens] = -1
    broken = (before >= 0) & behind[before]
    begins = broken | (first & _BLANK != 0) | (kinds[visible] & _WIDE != 0)
    joined = (first & _EXTENDS != 0) | ((before >= 0) & (last[before] & _JOINS != 0))
    whole = np.concatenate([[True], start[1:] >= end[:-1]])
    # No word starts before the first visible or special token.
    latest = np.maximum.accumulate(np.where(alone | solid, np.arange(len(spans)), -1))
    seen = np.concatenate([[-1], latest[:-1]]) >= opens
    first_of_all = np.arange(len(spans)) == opens
    words: Ints = np.cumsum(first_of_all | (seen & (alone | (solid & begins & whole & ~joined)))) - 1
    return words


def _kinds(text: str) -> NDArray[np.uint8]:
    """Return what each character of ``text`` is, as flags: uint8 ``[len(text)]``."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    kinds: NDArray[np.uint8] = _KINDS[codes]
    if len(new := np.unique(codes[kinds == _UNREAD])):
        _KINDS[new] = [_kind(code) for code in new.tolist()]
        kinds = _KINDS[codes]
    return kinds


def _kind(code: int) -> int:
    character = chr(code)
    extends = unicodedata.category(character).startswith("M") or character in _VOICED or 0x1F3FB <= code <= 0x1F3FF
    return (
        _BLANK * character.isspace()
        | _WIDE * any(first <= code <= last for first, last in _UNSPACED)
        | _EXTENDS * (extends or character in _JOINERS)
        | _JOINS * (character in _JOINERS)
    )
