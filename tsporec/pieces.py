"""What the entries of a vocabulary spell, as bytes.

Tokenizers mark the starts of words and the bytes of a character each in their own way. Read as bytes, the pieces of
a text simply follow each other: their offsets are exact, and a character that is split over two tokens stays whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec.fingerprint import tokenizer_fingerprint
from tsporec.spelling import spelling_by_marks, spelling_of


class Pieces:
    """The pieces of one tokenizer.

    Parameters
    ----------
    tokenizer : a Hugging Face tokenizer
    """

    def __init__(self, tokenizer: Any) -> None:
        vocabulary = tokenizer.get_vocab()
        size = max(vocabulary.values(), default=-1) + 1
        self.special: NDArray[np.bool_] = np.ones(size, dtype=bool)
        self.special[list(vocabulary.values())] = False
        self.special[[i for i in special_token_ids(tokenizer) if i < size]] = True
        core, added = getattr(tokenizer, "backend_tokenizer", None), _added_ids(tokenizer)
        self.spelling = spelling_by_marks(vocabulary) if core is None else spelling_of(core)
        self.bytes = [b""] * size
        for entry, index in vocabulary.items():
            if not self.special[index]:
                self.bytes[index] = self.spelling.read(entry, index in added)
        self.fingerprint = tokenizer_fingerprint(tokenizer)

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
    added = getattr(tokenizer, "added_tokens_decoder", {})
    marked = {int(i) for i, token in added.items() if getattr(token, "special", False)}
    return sorted(marked | {int(i) for i in getattr(tokenizer, "all_special_ids", [])})


def read_pieces(tokenizer: Any) -> Pieces:
    """The :class:`Pieces` of ``tokenizer``, remembered by all that they are made of."""
    return _cached(_Key(tokenizer))


@lru_cache(maxsize=4)
def _cached(key: _Key) -> Pieces:
    return Pieces(key.tokenizer)


class _Key:
    """A tokenizer that is hashed by what its pieces are made of, not by its identity."""

    def __init__(self, tokenizer: Any) -> None:
        core = getattr(tokenizer, "backend_tokenizer", None)
        self.tokenizer = tokenizer
        self.parts = (
            tokenizer_fingerprint(tokenizer),
            None if core is None else spelling_of(core),  # a slow one's is read from its entries
            tuple(special_token_ids(tokenizer)),
            _added_ids(tokenizer),
        )

    def __hash__(self) -> int:
        return hash(self.parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.parts == self.parts


def _added_ids(tokenizer: Any) -> frozenset[int]:
    """The ids of tokens that the model lacks: they are looked for in a text as they are written."""
    size = getattr(tokenizer, "vocab_size", 0)
    return frozenset(int(i) for i in getattr(tokenizer, "added_tokens_decoder", {}) if int(i) >= size)


def _width(character: str) -> int:
    code = ord(character)
    return 1 if code < 0x80 else 2 if code < 0x800 else 3 if code < 0x10000 else 4
