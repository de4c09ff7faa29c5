"""Read texts as their letters and digits alone, and hash runs of them.

One text stands in prompts in many forms: behind a list number, in quotes, in capitals, with accents written in another
way, cut at its end. Its letters and digits keep their order in all of them. The functions here read that string from
token ids, whatever the tokenizer, and hash it in numpy.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.digest import short_digests
from tsporec.tokens.pieces import Pieces
from tsporec.tokens.ragged import RaggedTokens, ranges

Hashes = NDArray[np.uint64]
Ints = NDArray[np.int64]

LENGTH = 12  # letters that one hash of a run covers
HEAD = 96  # letters at the beginning of a segment of which every run is kept: its title
_ONE_IN_8 = np.uint64(7)
_BASE, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)  # odd, so they have inverses modulo 2**64


def normalise(text: str) -> str:
    """Keep the letters and digits of ``text``, in lower case and without accents.

    Lone surrogates stay: they stand for bytes of a character that is spread over tokens.

    >>> normalise(" Café-Crème, 2 pcs")
    'cafecreme2pcs'
    """
    if text.isascii():
        return "".join(filter(str.isalnum, text.lower()))
    folded = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in folded if c.isalnum() or "\ud800" <= c <= "\udfff")


@dataclass(frozen=True, eq=False)
class Alphabet:
    """The letters and digits that each of V vocabulary ids spells: id ``v`` has ``codes[starts[v]:starts[v + 1]]``."""

    codes: Hashes  # [C]: their code points
    starts: Ints  # [V + 1]
    begins: NDArray[np.bool_]  # [C]: a sign or a space stands before the letter, in the same vocabulary id
    breaks: NDArray[np.bool_]  # [V]: the next token's letter begins a word, as this one ends with a sign or a space
    signs: Hashes  # [V]: a hash of what the id spells, for ids without a letter


_ALPHABETS: WeakKeyDictionary[Pieces, Alphabet] = WeakKeyDictionary()


def alphabet_of(pieces: Pieces) -> Alphabet:
    """Read the letters of every vocabulary id; they are cached while ``pieces`` is there."""
    if pieces not in _ALPHABETS:
        spelled = [piece.decode("utf-8", errors="surrogateescape") for piece in pieces.bytes]
        texts, begins = [], []
        for piece in spelled:
            letters = normalise(piece)
            texts.append(letters)
            begins += _begins(piece, letters)
        codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(
            np.uint64
        ) + np.uint64(1)
        starts = np.append(0, np.cumsum([len(text) for text in texts], dtype=np.int64))
        breaks = np.array([bool(piece) and not normalise(piece[-1]) for piece in spelled], dtype=bool)
        signs = short_digests(piece.strip() for piece in pieces.bytes)
        _ALPHABETS[pieces] = Alphabet(codes, starts, np.array(begins, dtype=bool), breaks, signs.astype(np.uint64))
    return _ALPHABETS[pieces]


def _begins(piece: str, letters: str) -> list[bool]:
    """Return whether each of the ``letters`` of ``piece`` stands behind a sign or a space: " a-b" -> [True, True]."""
    if letters == piece.lower():
        return [False] * len(letters)
    found: list[bool] = []
    after = False
    for character in piece:
        spelled = normalise(character)
        found += [after, *[False] * (len(spelled) - 1)] if spelled else []
        after = not spelled and not unicodedata.combining(character)
    return (found + [False] * len(letters))[: len(letters)]


class Letters:
    """The letters of N segments of T tokens, ready to be hashed; ``pieces`` are those of the tokens' tokenizer."""

    def __init__(self, tokens: RaggedTokens, pieces: Pieces) -> None:
        self.tokens, self.alphabet = tokens, alphabet_of(pieces)
        self.counts = np.diff(self.alphabet.starts)[tokens.ids]
        self.ends = np.append(0, np.cumsum(self.counts))  # letters before each token
        self.where = ranges(self.alphabet.starts[tokens.ids], self.counts)
        bounds = self.ends[tokens.cu_seqlens]
        self.starts, self.lengths = bounds[:-1], np.diff(bounds)
        self.place = np.arange(len(self.where)) - np.repeat(self.starts, self.lengths)
        powers, self._inverse = _powers(int(self.lengths.max(initial=0)) + 1)
        # sums[j] - sums[i] is the sum of code * BASE**place over the letters i to j. Divided by BASE**place of i it is
        # a hash of the letters alone: equal runs have equal hashes wherever they stand.
        self._sums = np.append(np.uint64(0), np.cumsum(self.alphabet.codes[self.where] * powers[self.place]))

    def hash_runs(self, first: Ints, last: Ints) -> Hashes:
        """Hash the letters ``first[m]`` to ``last[m]`` (not included), each run within one segment: uint64 ``[M]``."""
        place = np.append(self.place, 0)[first]
        values = (self._sums[last] - self._sums[first]) * self._inverse[place] + (last - first).astype(np.uint64)
        return mixed(values)

    def hash_segments(self) -> Hashes:
        """Hash all letters of each segment: uint64 ``[N]``."""
        ends = self.starts + self.lengths
        return np.where(self.lengths > 0, self.hash_runs(self.starts, ends), np.uint64(0))

    def sampled_runs(self) -> tuple[Hashes, Ints]:
        """Hash a sample of all runs of LENGTH letters: hashes uint64 ``[H]`` and the segment of each, int64 ``[H]``.

        All runs that begin in the first HEAD letters are kept, and one in eight behind them. The hashes themselves say
        which, so equal runs are kept or left out wherever they stand. A segment of fewer letters has one hash.
        """
        width = np.minimum(self.lengths, LENGTH)
        runs = np.where(self.lengths > 0, self.lengths - width + 1, 0)
        first, segment = ranges(self.starts, runs), np.repeat(np.arange(len(runs)), runs)
        hashes = self.hash_runs(first, first + width[segment])
        keep = (self.place[first] < HEAD) | (hashes & _ONE_IN_8 == 0)
        return hashes[keep], segment[keep]

    @cached_property
    def begins_word(self) -> NDArray[np.bool_]:
        """Whether a word begins with each token: bool ``[T]``. A token without letters is a word of its own."""
        ids, bare = self.tokens.ids, self.counts == 0
        begins: NDArray[np.bool_] = bare | np.append(True, (self.alphabet.breaks[ids] | bare)[:-1])[: len(ids)]
        begins[self.tokens.cu_seqlens[:-1][self.tokens.lengths > 0]] = True
        first = self.ends[:-1][~bare]  # the first letter of each token that has one
        begins[~bare] |= self.alphabet.begins[self.where[first]]
        return begins

    @cached_property
    def of_tokens(self) -> Hashes:
        """Hash each token with the letters of its word before it: uint64 ``[T]``.

        The two tokens of " pen|s" have the hashes of "pen" and of "pens". A token without letters has the hash of its
        signs. So a token is found again wherever its word stands.
        """
        lettered = np.flatnonzero(self.counts)
        begins = self.alphabet.begins[self.where]
        begins[self.ends[lettered]] |= self.begins_word[lettered]
        word = np.maximum.accumulate(np.where(begins, np.arange(len(begins)), 0))  # first letter of each letter's word
        hashes = self.alphabet.signs[self.tokens.ids]
        hashes[lettered] = self.hash_runs(word[self.ends[lettered]], self.ends[lettered + 1])
        return hashes


def mixed(values: Hashes) -> Hashes:
    """Spread the bits of uint64 ``[M]`` (the finaliser of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * _MIX
    spread: Hashes = values ^ (values >> np.uint64(27))
    return spread


def _powers(count: int) -> tuple[Hashes, Hashes]:
    """Compute ``BASE**0 … BASE**(count - 1)`` and their inverses modulo 2**64."""
    inverse = np.uint64(pow(int(_BASE), -1, 2**64))
    one = np.ones(1, dtype=np.uint64)
    up, down = (np.cumprod(np.append(one, np.full(count - 1, b)), dtype=np.uint64) for b in (_BASE, inverse))
    return up, down
