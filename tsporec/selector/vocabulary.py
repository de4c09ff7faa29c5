"""The features of a tokenizer's vocabulary: the spelling of each id, in a form that fits every tokenizer.

A selector whose table is indexed by token id serves one tokenizer. Here an id is described by its spelling: hashed
character n-grams, whether it starts a word, its case, digits and punctuation. So one set of weights serves every
tokenizer. ``TokenSelector.for_tokenizer`` reads the features once and keeps them.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tsporec.tokens.pieces import Pieces, read_pieces
from tsporec.tokens.ragged import RaggedTokens, check_ids

CLASSES = ("word_start", "lower", "capitalised", "upper", "digit", "punctuation", "other", "length", "special")
"""The columns of ``Vocabulary.classes``."""

_LONGEST = 20  # characters that are read of a spelling; longer ones are rare, and these characters differ
_GRAMS = (2, 3, 4)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The features of the V ids of a tokenizer.

    >>> from tsporec.data.synthetic import word_tokenizer
    >>> vocabulary = read_vocabulary(word_tokenizer("gel Pen".split()), gram_buckets=64, surface_buckets=64)
    >>> [name for name, value in zip(CLASSES, vocabulary.classes[-1]) if value]
    ['word_start', 'capitalised', 'length']
    """

    grams: NDArray[np.int64]
    """``[G]``: hash buckets of the character n-grams of all ids, packed."""
    gram_offsets: NDArray[np.int64]
    """``[V + 1]``: the n-grams of id ``v`` are ``grams[gram_offsets[v]:gram_offsets[v + 1]]``, at least one."""
    surface: NDArray[np.int64]
    """``[V]``: hash bucket of the whole spelling, lower-cased, without its word start, for document frequencies."""
    classes: NDArray[np.float32]
    """``[V, len(CLASSES)]``: flags, and the length in units of 8 characters. A special token, or an id that spells
    nothing, has only ``special`` set."""
    pieces: Pieces

    def __len__(self) -> int:
        """V."""
        return len(self.surface)

    @property
    def fingerprint(self) -> str:
        """The tokenizer's fingerprint."""
        return self.pieces.fingerprint

    def check(self, ids: NDArray[np.int32]) -> None:
        """Raise a ValueError if an id is negative or not below V."""
        remedy = "bind the selector to the tokenizer that made the ids: selector.for_tokenizer(tokenizer)"
        check_ids(ids, len(self), "the vocabulary", remedy)


_CACHE: OrderedDict[tuple[Pieces, int, int], Vocabulary] = OrderedDict()
_CACHED_VOCABULARIES = 4


def read_vocabulary(tokenizer: Any, gram_buckets: int, surface_buckets: int) -> Vocabulary:
    """Read the features of every id of ``tokenizer``; the last four vocabularies are cached."""
    key = read_pieces(tokenizer), gram_buckets, surface_buckets
    if key not in _CACHE:
        _CACHE[key] = _features(*key)
        if len(_CACHE) > _CACHED_VOCABULARIES:
            _CACHE.popitem(last=False)
    _CACHE.move_to_end(key)
    return _CACHE[key]


def count_texts(vocabulary: Vocabulary, tokens: RaggedTokens, buckets: int) -> NDArray[np.int64]:
    """Count the texts that have each spelling: int64 ``[buckets]``."""
    vocabulary.check(tokens.ids)
    # (segment, bucket) of each token, each pair once -> texts of each bucket.
    pairs = tokens.segment_ids() * buckets + vocabulary.surface[tokens.ids]
    return np.bincount(np.unique(pairs) % buckets, minlength=buckets)


Counted: TypeAlias = tuple[Vocabulary, NDArray[np.int64], int]
"""A part of a corpus: its vocabulary, its :func:`count_texts` and its number of texts."""


def inverse_frequencies(parts: Iterable[Counted], buckets: int, prior: float) -> tuple[NDArray[np.float64], int]:
    """Return ``log((prior + N) / (prior + df)) + 1``, float64 ``[buckets]``, and the number of all texts.

    For each bucket, N counts the texts of the vocabularies that have its spelling, or all texts if none has it.
    """
    if not 0 < prior < math.inf:
        raise ValueError(f"prior is a number of texts above 0; found {prior}.")
    total, (texts, df) = 0, np.zeros((2, buckets), dtype=np.int64)
    for vocabulary, found, count in parts:
        df += found
        texts[vocabulary.surface] += count  # once for a bucket, however many ids are in it
        total += count
    texts[texts == 0] = total
    return np.log((prior + texts) / (prior + df)) + 1, total


def _features(pieces: Pieces, gram_buckets: int, surface_buckets: int) -> Vocabulary:
    texts, special, size = pieces.surfaces, pieces.special, len(pieces)
    starts = np.fromiter((text.startswith(" ") and len(text) > 1 for text in texts), bool, size) & ~special
    surfaces = [text.lstrip(" ") for text in texts]
    codes, lengths = _codepoints([s.lower() for s in surfaces])
    # Texts are counted by spelling, whether a token starts a word or not: a stem is no rarer for standing inside words.
    surface = _hash_rows(codes, lengths) % np.uint64(surface_buckets)
    # A leading 1 marks "pen" at a word's start, a leading 2 "pen" inside "open": [V, 20] -> [V, 21].
    marked = np.concatenate([np.where(starts, 1, 2)[:, None].astype(np.uint64), codes], axis=1)
    whole = _hash_rows(marked, lengths + 1)
    # Column 0 is the whole spelling; each other column is one n-gram at one place, hashed where the spelling reaches
    # that far: "pen" -> whole, (start)p, pe, en, (start)pe, pen, (start)pen.
    windows = [(start, start + n) for n in _GRAMS for start in range(_LONGEST + 1 - n)]
    mask = np.ones((size, 1 + len(windows)), dtype=bool)
    table = np.zeros(mask.shape, dtype=np.uint64)
    table[:, 0] = whole
    for column, (start, end) in enumerate(windows, start=1):
        mask[:, column] = end <= lengths + 1
        rows = np.flatnonzero(mask[:, column])
        table[rows, column] = _hash_rows(marked[rows, start:end])
    # [V, columns] and its mask -> packed [G], row by row.
    grams = table[mask] % np.uint64(gram_buckets)
    gram_offsets = np.zeros(size + 1, dtype=np.int64)
    np.cumsum(mask.sum(axis=1), out=gram_offsets[1:])
    return Vocabulary(
        grams=grams.astype(np.int64),
        gram_offsets=gram_offsets,
        surface=surface.astype(np.int64),
        classes=_classes(surfaces, starts, special),
        pieces=pieces,
    )


def _codepoints(surfaces: list[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Code points uint64 ``[V, 20]`` and lengths int64 ``[V]``: "pen" -> [112, 101, 110, 0, 0 ...], 3."""
    cut = [s[:_LONGEST] for s in surfaces]
    lengths = np.fromiter(map(len, cut), dtype=np.int64, count=len(cut))
    codes = np.zeros((len(cut), _LONGEST), dtype=np.uint64)
    flat = np.frombuffer("".join(cut).encode("utf-32-le", errors="surrogatepass"), dtype="<u4")
    codes[np.arange(_LONGEST) < lengths[:, None]] = flat
    return codes, lengths


def _hash_rows(codes: NDArray[np.uint64], lengths: NDArray[np.int64] | None = None) -> NDArray[np.uint64]:
    """Compute a multiply-xor hash, uint64 ``[V]``, of the first ``lengths`` codes of each row, by default of all."""
    state = np.full(len(codes), _MULTIPLIER, dtype=np.uint64)
    for column in range(codes.shape[1]):
        mixed = (state ^ codes[:, column]) * _MULTIPLIER
        mixed ^= mixed >> _SHIFT
        state = mixed if lengths is None else np.where(column < lengths, mixed, state)
    return state


def _classes(surfaces: list[str], starts: NDArray[np.bool_], special: NDArray[np.bool_]) -> NDArray[np.float32]:
    rows = np.zeros((len(surfaces), len(CLASSES)), dtype=np.float32)
    column = {name: i for i, name in enumerate(CLASSES)}
    kinds = np.fromiter((_kind(s, column) for s in surfaces), dtype=np.int64, count=len(surfaces))
    rows[np.arange(len(surfaces)), kinds] = 1.0
    rows[:, column["word_start"]] = starts
    rows[:, column["length"]] = np.minimum([len(s) for s in surfaces], _LONGEST) / 8.0
    rows[special] = 0.0
    rows[special, column["special"]] = 1.0
    return rows


def _kind(surface: str, column: dict[str, int]) -> int:
    """Return the column of a spelling's class: "Pen" -> capitalised, "74x" -> digit."""
    if not surface.isalpha():  # most are letters alone and need no look at each character
        if any(c.isdigit() for c in surface):
            return column["digit"]
        if not any(c.isalpha() for c in surface):
            return column["punctuation"] if surface.strip() else column["other"]
    if surface.islower():
        return column["lower"]
    if surface.isupper() and len(surface) > 1:
        return column["upper"]
    return column["capitalised"] if surface[:1].isupper() else column["other"]


def is_pair(part: object) -> bool:
    """Say whether an element of a corpus is a pair (tokenizer, texts), and not a text or its ids."""
    return isinstance(part, tuple) and len(part) == 2 and not isinstance(part[0], Integral)
