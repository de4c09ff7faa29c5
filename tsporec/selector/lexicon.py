"""Words that a selector knows, however a tokenizer splits them.

The pieces of a split word are spelled unlike the word, so what is learned of it with a tokenizer that keeps it whole
says nothing about them. A lexicon is a list of words. Bound to a tokenizer, each is one entry, the vocabulary's own or
a new one behind those, and the run of tokens that spells it is scored as that entry: a *unit*. Other tokens are units
alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as the torch documentation writes it

from tsporec.tokens.fingerprint import tokenizer_fingerprint
from tsporec.tokens.pieces import Pieces
from tsporec.tokens.ragged import RaggedTokens, ranges

_WORD = re.compile(r"[^\W\d_]+|\d+|[^\w\s]|_")
_CHUNK = 1024  # words tokenised as one text
_LETTER, _DIGIT, _SIGN = 1, 2, 4
_BROKEN = "\ufffd"  # what part of a character's bytes reads as
_SIGNS = (0xC2, 0xE2, 0xEF, 0xF0)  # first bytes of characters most of which are neither letters nor digits
_POWERS = np.cumprod(np.full(64, 0x9E3779B97F4A7C15, dtype=np.uint64), dtype=np.uint64).view(np.int64)


def frequent_words(texts: Iterable[str], count: int) -> bytes:
    """The ``count`` most frequent words of ``texts``, one space apart, as UTF-8.

    A word is a run of letters or of digits, or another character. Among equals the first by spelling.

    Raises
    ------
    ValueError
        If ``texts`` is one string or has no word, or ``count`` is below 1.

    Examples
    --------
    >>> frequent_words(["a gel pen, a pen", "a3"], 3)
    b'a pen ,'
    """
    if isinstance(texts, str):
        raise ValueError(f"expected texts; found one string, {texts[:20]!r}. Give a list: [text].")
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_WORD.findall(text))
    if not counts or count < 1:
        raise ValueError(
            f"found {len(counts)} words in the texts, and count={count}; give texts and a count from 1 on."
        )
    best = sorted(counts, key=lambda word: (-counts[word], word))[:count]
    return " ".join(best).encode("utf-8", errors="replace")


class Units(NamedTuple):
    """U units of N segments of T tokens, in numpy or in torch.

    Parameters
    ----------
    ids : int ``[U]``
        Entries.
    cu_seqlens : int ``[N + 1]``
    of_token : int64 ``[T]``
        The unit of each token.
    """

    ids: Any
    cu_seqlens: Any
    of_token: Any


@dataclass(frozen=True, eq=False)
class Words:
    """The words of a lexicon in the ids of a tokenizer of V entries.

    Parameters
    ----------
    head, tail : uint8 ``[V]``
        What an entry begins with: 1 a letter, 2 a digit, 4 another sign, 3 part of a character, 0 white space; and
        what may go on behind it: letters, digits, neither, or all behind a space alone. A run goes on where both sides
        of a joint have a bit in common.
    alone : int32 ``[V]``
        The entry that stands for a run of this one token.
    codes : int64 ``[V]``
        Random. The key of a longer run is the sum of its codes, each times the power of its place, modulo 2**64.
    keys : int64 ``[K]``
        Those of known runs, ascending.
    entries : int32 ``[K]``
        What stands for them.
    """

    head: NDArray[np.uint8]
    tail: NDArray[np.uint8]
    alone: NDArray[np.int32]
    codes: NDArray[np.int64]
    keys: NDArray[np.int64]
    entries: NDArray[np.int32]

    def begins(self, ids: NDArray[np.int32], cu_seqlens: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Whether a token begins a run: bool ``[T]``."""
        begins = np.empty(len(ids) + 1, dtype=np.bool_)
        np.equal(self.tail[ids[:-1]] & self.head[ids[1:]], 0, out=begins[1:-1])
        begins[cu_seqlens] = True
        return begins[:-1]

    def key(self, ids: NDArray[np.int32], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """int64 ``[R]``: the keys of runs, R above 0."""
        ends = np.cumsum(lengths)
        place = np.arange(ends[-1]) - (ends - lengths).repeat(lengths)
        codes = self.codes[ids[place + starts.repeat(lengths)]] * _POWERS[np.minimum(place, len(_POWERS) - 1)]
        keys: NDArray[np.int64] = np.add.reduceat(codes, ends - lengths)
        return keys

    def units(self, ids: NDArray[np.int32], cu_seqlens: NDArray[np.int32]) -> Units:
        """The units of segments ``ids [T]``, ``cu_seqlens [N + 1]``."""
        begins = self.begins(ids, cu_seqlens)
        starts = begins.nonzero()[0]
        lengths = np.diff(starts, append=len(ids))
        read = ids.copy()
        read[starts] = self.alone[ids[starts]]
        several = (lengths > 1).nonzero()[0]
        if len(several):
            starts, lengths = starts[several], lengths[several]
            keys = self.key(ids, starts, lengths)
            at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
            known = self.keys[at] == keys
            read[starts] = np.where(known, self.entries[at], ids[starts])
            begins[ranges(starts[~known], lengths[~known])] = True
        ends = np.zeros(len(ids) + 1, dtype=np.int64)
        np.cumsum(begins, out=ends[1:])
        return Units(read[begins], ends[cu_seqlens].astype(np.int32), ends[1:] - 1)


class TensorWords(nn.Module):
    """:class:`Words` as buffers, for ``torch.compile`` and ``torch.export``: no shape depends on the ids.

    Parameters
    ----------
    words : Words
    """

    head: Tensor
    tail: Tensor
    alone: Tensor
    codes: Tensor
    keys: Tensor
    entries: Tensor
    powers: Tensor

    def __init__(self, words: Words) -> None:
        super().__init__()
        for name, value in {**vars(words), "powers": _POWERS}.items():
            self.register_buffer(name, torch.from_numpy(value.copy()))

    def forward(self, ids: Tensor, cu_seqlens: Tensor, absent: int) -> Units:
        """T units in N + 1 segments, int64; the last segment holds what is left of T, all ``absent``."""
        size, ids, offsets = ids.shape[0], ids.long(), cu_seqlens.long()
        before = F.pad(self.tail.index_select(0, ids), (1, 0))[:size]
        begins = F.pad((before & self.head.index_select(0, ids)) == 0, (0, 1)).index_fill(0, offsets, True)[:size]
        place = torch.arange(size, device=ids.device)
        place = place - torch.cummax(place * begins, 0).values
        run, none = begins.cumsum(0) - 1, torch.zeros_like(ids)
        codes = self.codes.index_select(0, ids) * self.powers.index_select(0, place.clamp(max=len(_POWERS) - 1))
        keys = none.scatter_add(0, run, codes).index_select(0, run)
        several = none.scatter_add(0, run, torch.ones_like(run)).index_select(0, run) > 1
        at = torch.searchsorted(self.keys, keys).clamp(max=self.keys.shape[0] - 1)
        known = several & (self.keys.index_select(0, at) == keys)
        read = torch.where(several, ids, self.alone.index_select(0, ids).long())
        read = torch.where(known, self.entries.index_select(0, at).long(), read)
        begins = begins | (several & ~known)
        ends = begins.cumsum(0)
        units = torch.full_like(F.pad(ids, (0, 1)), absent).scatter(0, torch.where(begins, ends - 1, size), read)[:size]
        offsets = F.pad(ends, (1, 0)).index_select(0, offsets)
        return Units(units, torch.cat([offsets, torch.full_like(offsets[:1], size)]), ends - 1)


_KNOWN: WeakKeyDictionary[Any, tuple[tuple[str, bytes], RaggedTokens]] = WeakKeyDictionary()


def tokenize_words(tokenizer: Any, lexicon: bytes) -> RaggedTokens:
    """The words of ``lexicon``, one space apart, in ids: each behind a space, then each at the start of a line.

    They are remembered while the tokenizer is there, and made anew once it has grown. One that keeps the best of a text
    (:func:`tsporec.wrap_tokenizer`) is asked for the whole.
    """
    state = tokenizer_fingerprint(tokenizer), lexicon
    known = _KNOWN.get(tokenizer)
    if known is None or known[0] != state:
        known = _KNOWN[tokenizer] = state, _tokenize(getattr(tokenizer, "unwrapped", tokenizer), lexicon)
    return known[1]


def _tokenize(tokenizer: Any, lexicon: bytes) -> RaggedTokens:
    words = lexicon.decode("utf-8").split(" ")
    parts = [words[at : at + _CHUNK] for at in range(0, len(words), _CHUNK)]
    texts = [" " + " ".join(part) for part in parts] + ["\n".join(part) for part in parts]
    return RaggedTokens.from_lists(tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"])


def bind_words(pieces: Pieces, lexicon: bytes, tokens: RaggedTokens) -> tuple[Words, list[str]]:
    """The words of ``lexicon`` in the ids of a tokenizer; and how the new entries are spelled.

    A word is looked for as it is spelled behind a space and, where that differs, at the start of a line: both are one
    entry.

    Parameters
    ----------
    pieces : Pieces
        The tokenizer's.
    lexicon : bytes
        Words, one space apart.
    tokens : RaggedTokens
        What :func:`tokenize_words` makes of them.
    """
    size, words = len(pieces), lexicon.decode("utf-8").split(" ")
    codes = np.random.default_rng(0).integers(-(2**63), 2**63, size)
    none = np.zeros(1, dtype=np.int64)
    known = Words(*_sides(pieces), np.arange(size, dtype=np.int32), codes, none, none.astype(np.int32))
    starts = known.begins(tokens.ids, tokens.cu_seqlens).nonzero()[0]
    lengths = np.diff(starts, append=tokens.num_tokens)
    spelled = [pieces.bytes[i] for i in tokens.ids.tolist()]
    runs = [b"".join(spelled[at : at + n]) for at, n in zip(starts.tolist(), lengths.tolist(), strict=True)]
    if pieces.spelling.ends_words:  # the space behind a word is the one before the next
        behind = [True, *(run.endswith(b" ") for run in runs[:-1])]
        runs = [b" " * space + run.removesuffix(b" ") for space, run in zip(behind, runs, strict=True)]
    entry_of: dict[bytes, int] = {}
    new: list[str] = []
    listed = {spelled.encode() for word in words for spelled in (word, word.lower())}
    behind_space = int(np.searchsorted(starts, tokens.cu_seqlens[len(tokens) // 2]))
    follows = [*runs[1:behind_space], b" "]
    for word, then, start, length in zip(runs, follows, starts.tolist(), lengths.tolist(), strict=False):
        # What a tokenizer cannot spell of a word spells nothing, and the rest is no word.
        whole = word.startswith(b" ") and word.strip() and (then.startswith(b" ") or word[1:] in listed)
        if whole and word not in entry_of:
            entry_of[word] = int(tokens.ids[start]) if length == 1 else size + len(new)
            new += [word.decode("utf-8", errors="replace")] * (length > 1)
    bare = {piece: i for i, piece in enumerate(pieces.bytes)}
    for word, entry in entry_of.items():
        if word[1:] in bare:
            known.alone[bare[word[1:]]] = entry
    entries = np.array([entry_of.get(w if w.startswith(b" ") else b" " + w, -1) for w in runs], dtype=np.int32)
    several = (lengths > 1) & (entries >= 0)
    if several.any():
        keys, first = np.unique(known.key(tokens.ids, starts[several], lengths[several]), return_index=True)
        known = replace(known, keys=keys, entries=entries[several][first])
    return known, new


def _sides(pieces: Pieces) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """``Words.head`` and ``Words.tail``. A space alone belongs to the word behind it."""
    heads, tails = ([text[at] if text else "" for text in pieces.texts] for at in (0, -1))
    kinds = {character: _kind(character) for character in {*heads, *tails}}
    head, tail = (np.array([kinds[c] for c in side], dtype=np.uint8) for side in (heads, tails))
    tail &= _LETTER | _DIGIT
    for i, text in enumerate(pieces.texts):
        if text[:1] == _BROKEN and pieces.bytes[i][0] in _SIGNS:
            head[i] = _SIGN
        if text == " ":
            tail[i] = _LETTER | _DIGIT | _SIGN
    return head, tail


def _kind(character: str) -> int:
    if character.isalpha() or (character and unicodedata.category(character) in ("Mn", "Mc")):
        return _LETTER
    if character.isdigit():
        return _DIGIT
    if character == _BROKEN:
        return _LETTER | _DIGIT
    return _SIGN if character.strip() else 0
