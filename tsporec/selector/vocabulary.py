"""What a vocabulary entry is, read from its surface.

A selector whose table is indexed by token id serves one tokenizer. Here an entry is described by what it
spells: hashed character n-grams, whether it starts a word, its case, digits and punctuation. So one set of
weights serves every vocabulary: bind it with ``TokenSelector.for_tokenizer``.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tsporec._internal.digest import digest
from tsporec.selector.lexicon import Words, bind_words, tokenize_words
from tsporec.tokens.pieces import Pieces, read_pieces
from tsporec.tokens.ragged import RaggedTokens

CLASSES = (
    "word_start",
    "lower",
    "capitalised",
    "upper",
    "digit",
    "punctuation",
    "other",
    "length",
    "special",
)
"""The dense features of an entry, in column order."""

TABLES = ("surface", "embeddings")
"""What token features are made of; see :class:`tsporec.selector.model.SelectorConfig`."""

_LONGEST = 20  # characters of an entry that are read; longer entries are rare and told apart by these
_GRAMS = (2, 3, 4)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The V entries of a tokenizer's vocabulary as features, and behind them those of a lexicon's words: M in all.

    Parameters
    ----------
    grams : int64 ``[G]``
        Hashed n-gram buckets of all entries, packed.
    gram_offsets : int64 ``[M + 1]``
        Entry ``m`` owns ``grams[gram_offsets[m]:gram_offsets[m + 1]]``; at least one.
    surface : int64 ``[M]``
        Hashed bucket of the whole surface (lower-cased, with its word start): the key of document
        frequencies.
    classes : float32 ``[M, len(CLASSES)]``
        Of special tokens, and of ids that no entry has, the last one alone.
    fingerprint : str
        The tokenizer's.
    words : Words, optional
        Those of the lexicon. Without, M is V.
    embeddings : Tensor ``[>= V, W]``, optional
        Those of a language model with this tokenizer; frozen.
    """

    grams: NDArray[np.int64]
    gram_offsets: NDArray[np.int64]
    surface: NDArray[np.int64]
    classes: NDArray[np.float32]
    fingerprint: str
    words: Words | None = None
    embeddings: Tensor | None = None

    def __len__(self) -> int:
        """V."""
        return len(self.surface) if self.words is None else len(self.words.alone)

    def check(self, ids: NDArray[np.int32]) -> None:
        """Refuse ids that are none of the tokenizer's, with a ValueError."""
        size = len(self)
        if len(ids) and ids.view(np.uint32).max() >= size:  # so read, a negative one is large
            bad = int(ids[(ids >= size) | (ids < 0)][0])
            raise ValueError(
                f"token id {bad} is outside the vocabulary of {size} entries this selector is bound to; "
                "bind it to the tokenizer that made the ids: selector.for_tokenizer(tokenizer)."
            )

    def embedded(self, entries: Tensor) -> Tensor:
        """float32 ``[M, W]``: the embeddings of ``entries [M]``."""
        assert self.embeddings is not None
        return self.embeddings[entries.to(self.embeddings.device)].float()


_CACHE: OrderedDict[tuple[Pieces, int, int, bytes, str], Vocabulary] = OrderedDict()
_CACHED_VOCABULARIES = 4


def read_vocabulary(tokenizer: Any, gram_buckets: int, surface_buckets: int, lexicon: bytes = b"") -> Vocabulary:
    """The features of every entry of ``tokenizer``, and of the words of ``lexicon``.

    They are remembered by the tokenizer's pieces and by the ids that it gives the words. Ids without an entry count as
    special.
    """
    pieces = read_pieces(tokenizer)
    tokens = tokenize_words(tokenizer, lexicon) if lexicon else RaggedTokens.from_lists([])
    key = (pieces, gram_buckets, surface_buckets, lexicon, digest(tokens.ids, tokens.cu_seqlens))
    if key not in _CACHE:
        words, new = bind_words(pieces, lexicon, tokens) if lexicon else (None, [])
        _CACHE[key] = _features(pieces, words, new, gram_buckets, surface_buckets)
        if len(_CACHE) > _CACHED_VOCABULARIES:
            _CACHE.popitem(last=False)
    _CACHE.move_to_end(key)
    return _CACHE[key]


def embeddings_fingerprint(embeddings: Tensor) -> str:
    """Digest of a matrix in bfloat16, so that it is the same whichever precision the model was loaded in."""
    return digest(embeddings.detach().to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy())


def with_embeddings(
    vocabulary: Vocabulary,
    embeddings: Tensor | None,
    width: int,
    fingerprint: str,
    before: Vocabulary | None = None,
) -> Vocabulary:
    """``vocabulary`` with the embeddings that a selector of this ``width`` and ``fingerprint`` asks for.

    Where none are given they are those of the vocabulary it was bound to ``before``, if that is the same tokenizer's.

    Raises
    ------
    ValueError
        If they are not given, not asked for (``width`` 0), too few, or those of another model.
    """
    if embeddings is None and before is not None and before.fingerprint == vocabulary.fingerprint:
        return replace(vocabulary, embeddings=before.embeddings)
    if embeddings is None:
        raise ValueError(
            "this selector reads a language model's input embeddings and is not bound to this tokenizer; bind it with "
            "selector.for_tokenizer(tokenizer, embeddings=model.get_input_embeddings().weight) before it is used."
        )
    if not width:
        raise ValueError('embeddings were given to a selector with a table of "surface"; leave them out.')
    if embeddings.shape[1] != width or len(embeddings) < len(vocabulary):
        raise ValueError(
            f"the embeddings are {list(embeddings.shape)}; expected a width of {width} and a row for each of the "
            f"{len(vocabulary)} entries of the tokenizer."
        )
    found = embeddings_fingerprint(embeddings)
    if found != fingerprint:
        raise ValueError(
            f"the embeddings have the fingerprint {found}, the selector was made for those of {fingerprint}; give the "
            'model it was made for, or take a selector with a table of "surface".'
        )
    return replace(vocabulary, embeddings=embeddings.detach())


def _features(
    pieces: Pieces, words: Words | None, new: list[str], gram_buckets: int, surface_buckets: int
) -> Vocabulary:
    texts, special = pieces.surfaces + new, np.append(pieces.special, np.zeros(len(new), dtype=np.bool_))
    size = len(texts)
    starts = np.fromiter((text.startswith(" ") and len(text) > 1 for text in texts), bool, size) & ~special
    surfaces = [text.lstrip(" ") for text in texts]
    codes, lengths = _codepoints([s.lower() for s in surfaces])
    # A leading mark tells "pen" at a word's start from "pen" inside "open".
    marked = np.concatenate([np.where(starts, 1, 2)[:, None].astype(np.uint64), codes], axis=1)
    whole = _hash_rows(marked, lengths + 1)
    # An n-gram of an entry is hashed only where the entry reaches that far: most are short.
    windows = [(start, start + n) for n in _GRAMS for start in range(_LONGEST + 1 - n)]
    mask = np.ones((size, 1 + len(windows)), dtype=bool)
    table = np.zeros(mask.shape, dtype=np.uint64)
    table[:, 0] = whole
    for column, (start, end) in enumerate(windows, start=1):
        mask[:, column] = end <= lengths + 1
        rows = np.flatnonzero(mask[:, column])
        table[rows, column] = _hash_rows(marked[rows, start:end])
    grams = table[mask] % np.uint64(gram_buckets)
    gram_offsets = np.zeros(size + 1, dtype=np.int64)
    np.cumsum(mask.sum(axis=1), out=gram_offsets[1:])
    return Vocabulary(
        grams=grams.astype(np.int64),
        gram_offsets=gram_offsets,
        surface=(whole % np.uint64(surface_buckets)).astype(np.int64),
        classes=_classes(surfaces, starts, special),
        fingerprint=pieces.fingerprint,
        words=words,
    )


def _codepoints(surfaces: list[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    cut = [s[:_LONGEST] for s in surfaces]
    lengths = np.fromiter(map(len, cut), dtype=np.int64, count=len(cut))
    codes = np.zeros((len(cut), _LONGEST), dtype=np.uint64)
    flat = np.frombuffer("".join(cut).encode("utf-32-le", errors="surrogatepass"), dtype="<u4")
    codes[np.arange(_LONGEST) < lengths[:, None]] = flat
    return codes, lengths


def _hash_rows(codes: NDArray[np.uint64], lengths: NDArray[np.int64] | None = None) -> NDArray[np.uint64]:
    """uint64 ``[V]``: a multiply-xor hash of the first ``lengths`` codes of each row, by default of all."""
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
    if not surface.isalpha():  # most are, and need no look at each character
        if any(c.isdigit() for c in surface):
            return column["digit"]
        if not any(c.isalpha() for c in surface):
            return column["punctuation"] if surface.strip() else column["other"]
    if surface.islower():
        return column["lower"]
    if surface.isupper() and len(surface) > 1:
        return column["upper"]
    return column["capitalised"] if surface[:1].isupper() else column["other"]
