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
    (0x1B00, 0x1B7F),  # Balinese
    (0x2E80, 0x2FDF),  # parts of Chinese characters
    (0x3005, 0x3007),  # marks that repeat a Chinese character, and zero
    (0x3021, 0x312F),  # numerals, kana, Bopomofo
    (0x3190, 0x33FF),  # Bopomofo and kana, extended; characters in circles and squares
    (0x3400, 0x4DBF),  # Chinese characters, extension A
    (0x4E00, 0xA4CF),  # Chinese characters, Yi
    (0xA980, 0xA9FF),  # Javanese; Burmese, extended
    (0xAA60, 0xAADF),  # Burmese, extended; Tai Viet
    (0xF900, 0xFAFF),  # Chinese characters, compatibility
    (0xFF01, 0xFF9F),  # full-width letters, half-width kana
    (0xFFE0, 0xFFE6),  # full-width signs
    (0x16FE0, 0x1B2FF),  # Tangut, Khitan, Nushu, kana, supplements
    (0x20000, 0x3FFFF),  # Chinese characters, further extensions
)
"""Scripts without spaces between words. A character and its marks (a grapheme cluster) is their smallest unit."""

_BLANK, _WIDE, _EXTENDS, _JOINS, _FLAG, _UNREAD = 1, 2, 4, 8, 16, 255
_KINDS = np.full(0x110000, _UNREAD, dtype=np.uint8)  # the flags of each code point that was met
# Marks of other categories than M: ZWNJ and ZWJ, Thai and Lao am, half-width voice marks, tones of emoji, tags of
# flags, vowels and finals of decomposed Hangul.
_MARKS = (
    (0x200C, 0x200D), (0x0E33, 0x0E33), (0x0EB3, 0x0EB3), (0xFF9E, 0xFF9F), (0x1F3FB, 0x1F3FF), (0xE0020, 0xE007F),
    (0x1160, 0x11FF), (0xD7B0, 0xD7FF),
)  # fmt: skip
_LETTERS_OF_FLAGS = (0x1F1E6, 0x1F1FF)  # each two are one flag
_SILENT = "\u0e3a\u0eba\u103a\u0bcd"  # viramas that are shown, and join nothing: Thai, Lao, Burmese, Tamil


def words_of(tokens: RaggedTokens, pieces: Pieces, clusters: bool = False) -> Ints:
    """Return the number of the word that each token belongs to, read from what the tokens spell: int64 ``[T]``.

    It needs no text, so every way in finds the same words. BERT's tokens do not show where a space was, so a sign
    between letters is a word of its own there. Numbers ascend from 0; no word reaches over two segments. With
    ``clusters`` a word is as short as it can be without splitting a grapheme cluster (a character with its marks).

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
    alone = pieces.protected[tokens.ids]
    return word_of_tokens("".join(texts), np.concatenate(spans), alone, tokens.cu_seqlens, clusters)


def word_of_tokens(text: str, spans: Ints, alone: Bools, cu_seqlens: NDArray[np.int32], clusters: bool = False) -> Ints:
    """Return the number of the word of each of L tokens, from where they stand in a text, ``spans [L, 2]``.

    A token begins a word if it is the first with a visible character behind white space, behind or at a character of a
    script without spaces, or beside a token that is a word ``alone [L]``. It does not if it begins inside a character
    or with a mark on the character before. Tokens of white space belong to the word before them; at the start of the
    text, to the first. The texts of N segments stand one behind the other in ``text``. With ``clusters`` every token
    begins a word that does not begin inside a character or with a mark.

    >>> spans = np.array([[0, 1], [1, 3], [3, 5], [5, 7]])
    >>> word_of_tokens("gel pen", spans, np.zeros(4, dtype=bool), np.int32([0, 4])).tolist()
    [0, 0, 1, 1]
    """
    if not len(spans):
        return np.zeros(0, dtype=np.int64)
    opens = np.repeat(cu_seqlens[:-1], np.diff(cu_seqlens))  # the first token of each token's segment
    start, end = spans[:, 0], spans[:, 1]
    kinds = np.append(_kinds(text, start[opens == np.arange(len(spans))]), np.uint8(0))
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
    begins = clusters | broken | (first & _BLANK != 0) | (kinds[visible] & _WIDE != 0)
    joined = (first & _EXTENDS != 0) | ((before >= 0) & (last[before] & _JOINS != 0) & (first & _BLANK == 0))
    whole = np.concatenate([[True], start[1:] >= end[:-1]])
    # No word starts before the first visible or special token.
    latest = np.maximum.accumulate(np.where(alone | solid, np.arange(len(spans)), -1))
    seen = np.concatenate([[-1], latest[:-1]]) >= opens
    first_of_all = np.arange(len(spans)) == opens
    words: Ints = np.cumsum(first_of_all | (seen & (alone | (solid & begins & whole & ~joined)))) - 1
    return words


def _kinds(text: str, starts: Ints) -> NDArray[np.uint8]:
    """Return what each character of ``text`` is, as flags: uint8 ``[len(text)]``; segments begin at ``starts``."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    kinds: NDArray[np.uint8] = _KINDS[codes]
    if len(new := np.unique(codes[kinds == _UNREAD])):
        _KINDS[new] = [_kind(code) for code in new.tolist()]
        kinds = _KINDS[codes]
    letters = kinds & _FLAG != 0
    if letters.any():  # the second of each two belongs to the first: places in a run 0, 1, 2, 3 -> 1 and 3
        places = np.arange(len(kinds))
        run = np.where(letters, 0, places + 1)
        starts = starts[starts < len(kinds)]
        run[starts] = np.maximum(run[starts], starts)
        kinds[letters & ((places - np.maximum.accumulate(run)) % 2 == 1)] |= _EXTENDS
    return kinds


def _kind(code: int) -> int:
    character = chr(code)
    extends = unicodedata.category(character).startswith("M") or _is_in(code, _MARKS)
    virama = unicodedata.combining(character) == 9 and character not in _SILENT
    joins = virama or character == "\u200d" or 0x1100 <= code <= 0x115F or 0xA960 <= code <= 0xA97C  # initial Hangul
    return (
        _BLANK * character.isspace()
        | _WIDE * _is_in(code, _UNSPACED)
        | _EXTENDS * extends
        | _JOINS * joins
        | _FLAG * _is_in(code, (_LETTERS_OF_FLAGS,))
    )


def _is_in(code: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= code <= last for first, last in ranges)
