"""What the entries of a vocabulary spell, as bytes.

Tokenizers mark the starts of words and the bytes of a character each in their own way. Read as bytes, the pieces of
a text simply follow each other: their offsets are exact, and a character that is split over two tokens stays whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from tsporec.tokens.fingerprint import tokenizer_fingerprint
from tsporec.tokens.spelling import Spelling, spelling_by_marks, spelling_of, takes_space


class Pieces:
    """The pieces of one tokenizer.

    Parameters
    ----------
    tokenizer : a Hugging Face tokenizer
    """

    def __init__(self, tokenizer: Any) -> None:
        self.fingerprint = tokenizer_fingerprint(tokenizer)
        vocabulary = tokenizer.get_vocab()
        size = max(vocabulary.values(), default=-1) + 1
        self.special: NDArray[np.bool_] = np.ones(size, dtype=bool)
        self.special[list(vocabulary.values())] = False
        core = getattr(tokenizer, "backend_tokenizer", None)
        self.spelling = spelling_by_marks(vocabulary) if core is None else spelling_of(core)
        special, added = _read_added(tokenizer, self.spelling)
        self.special[[i for i in special if i < size]] = True
        self.bytes = [b""] * size
        for entry, index in vocabulary.items():
            if not self.special[index]:
                before = b" " if added.get(index) else b""
                self.bytes[index] = before + self.spelling.read(entry, index in added)

    def __len__(self) -> int:
        return len(self.bytes)

    @cached_property
    def texts(self) -> list[str]:
        """What each entry spells, parts of characters as U+FFFD."""
        return [piece.decode("utf-8", errors="replace") for piece in self.bytes]

    @property
    def surfaces(self) -> list[str]:
        """As :attr:`texts`, a space before what starts a word. Where only ends are marked, what ends one starts it."""
        if not self.spelling.ends_words:
            return self.texts
        return [" " + text[:-1] if text.endswith(" ") else text for text in self.texts]

    def text(self, ids: Sequence[int] | NDArray[np.integer]) -> tuple[str, NDArray[np.int64]]:
        """The text of ``ids [L]`` and where each token starts and ends in it, in characters: int64 ``[L, 2]``.

        A token that holds part of a character spans the whole of it. Bytes that are no UTF-8 become U+FFFD.
        """
        pieces = [self.bytes[i] for i in ids]
        joined = b"".join(pieces)
        ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64) if pieces else np.zeros(0, np.int64)
        starts = ends - np.fromiter(map(len, pieces), np.int64, len(pieces))
        text = joined.decode("utf-8", errors="replace")
        if len(text) == len(joined):
            return text, np.stack([starts, ends], axis=1)
        # Byte -> character: a character begins at every byte that does not continue one.
        widths = np.fromiter((_width(c) for c in text), np.int64, len(text))
        if widths.sum() != len(joined):
            return self._replaced(pieces)
        character = np.repeat(np.arange(len(text)), widths)
        character = np.append(character, len(text))
        ends_at = np.where(ends > starts, character[np.maximum(ends - 1, 0)] + 1, character[starts])
        return text, np.stack([character[starts], ends_at], axis=1)

    def _replaced(self, pieces: list[bytes]) -> tuple[str, NDArray[np.int64]]:
        """Each piece decoded alone, where the bytes of the whole are not UTF-8."""
        texts = [piece.decode("utf-8", errors="replace") for piece in pieces]
        ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
        starts = ends - np.fromiter(map(len, texts), np.int64, len(texts))
        return "".join(texts), np.stack([starts, ends], axis=1)


def special_token_ids(tokenizer: Any) -> list[int]:
    """The ids of special tokens, the added ones that are marked special (chat markers) among them."""
    return _special(tokenizer, getattr(tokenizer, "added_tokens_decoder", {}))


_KNOWN: WeakKeyDictionary[Any, tuple[tuple[str, Spelling | None], Pieces]] = WeakKeyDictionary()
_SHARED: WeakValueDictionary[tuple[Any, ...], Pieces] = WeakValueDictionary()
"""By all that pieces are made of: tokenizers that are equal share them."""


def read_pieces(tokenizer: Any) -> Pieces:
    """The :class:`Pieces` of ``tokenizer``, remembered by all that they are made of.

    Its added tokens are read again only once it has grown, or has other named special tokens, or another normalizer or
    pre-tokenizer: with thousands of them that takes far longer than to tokenise a text.
    """
    fingerprint, core = tokenizer_fingerprint(tokenizer), getattr(tokenizer, "backend_tokenizer", None)
    state = fingerprint, None if core is None else spelling_of(core)  # a slow one's is read from its entries
    known = _KNOWN.get(tokenizer)
    if known is None or known[0] != state:
        special, added = _read_added(tokenizer, state[1])
        parts = state, tuple(special), tuple(sorted(added.items()))
        pieces = _SHARED.get(parts)
        if pieces is None:
            pieces = _SHARED[parts] = Pieces(tokenizer)
        known = _KNOWN[tokenizer] = state, pieces
    return known[1]


def _read_added(tokenizer: Any, spelling: Spelling | None) -> tuple[list[int], dict[int, bool]]:
    """The ids of special tokens; and those of tokens that the model lacks, each with whether it takes a space along.

    The latter are looked for in a text as they are written.
    """
    tokens, size = getattr(tokenizer, "added_tokens_decoder", {}), getattr(tokenizer, "vocab_size", 0)
    core = getattr(tokenizer, "backend_tokenizer", None)
    space = "" if core is None or spelling is None else spelling.space
    added = {int(i): takes_space(core, space, token) for i, token in tokens.items() if int(i) >= size}
    return _special(tokenizer, tokens), added


def _special(tokenizer: Any, added: Mapping[int, Any]) -> list[int]:
    marked = {int(i) for i, token in added.items() if getattr(token, "special", False)}
    return sorted(marked | {int(i) for i in getattr(tokenizer, "all_special_ids", [])})


def _width(character: str) -> int:
    code = ord(character)
    return 1 if code < 0x80 else 2 if code < 0x800 else 3 if code < 0x10000 else 4
