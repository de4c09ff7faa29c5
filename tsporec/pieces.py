"""What the entries of a vocabulary spell, as bytes.

Tokenizers mark the starts of words and the bytes of a character each in their own way. Read as bytes, the pieces of
a text simply follow each other: their offsets are exact, and a character that is split over two tokens stays whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property, lru_cache
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec.fingerprint import tokenizer_fingerprint


def entry_bytes(entries: Sequence[str]) -> list[bytes]:
    """The bytes each entry stands for, a leading space where it starts a word.

    Byte-level BPE (``Ġ``), metaspace (``▁``, with ``<0x41>`` for bytes) and WordPiece (``##`` inside words) are told
    apart by the marks that the entries carry.

    >>> entry_bytes(["Ġpen", "s", "ĠcafÃ©"])[2].decode()
    ' café'
    >>> entry_bytes(["pen", "##s"]), entry_bytes(["▁pen", "s", "<0x41>"])
    ([b' pen', b's'], [b' pen', b's', b'A'])
    """
    begin = Counter(map(itemgetter(slice(2)), entries))
    marks = {mark: sum(n for start, n in begin.items() if start.startswith(mark)) for mark in ("Ġ", "▁", "##")}
    mark = max(marks, key=lambda m: marks[m])
    read = {"Ġ": _byte_level, "▁": _metaspace, "##": _wordpiece}[mark]
    return [read(entry) for entry in entries]


class Pieces:
    """The pieces of one tokenizer.

    Parameters
    ----------
    tokenizer : a Hugging Face tokenizer
    """

    def __init__(self, tokenizer: Any) -> None:
        vocabulary = tokenizer.get_vocab()
        size = max(vocabulary.values(), default=-1) + 1
        entries = [""] * size
        self.special: NDArray[np.bool_] = np.ones(size, dtype=bool)
        for entry, index in vocabulary.items():
            entries[index], self.special[index] = entry, False
        self.special[[i for i in tokenizer.all_special_ids if i < size]] = True
        self.bytes = [
            b"" if special else piece for piece, special in zip(entry_bytes(entries), self.special, strict=True)
        ]
        self.fingerprint = tokenizer_fingerprint(tokenizer)

    def __len__(self) -> int:
        return len(self.bytes)

    @cached_property
    def texts(self) -> list[str]:
        """What each entry spells, parts of characters as U+FFFD."""
        return [piece.decode("utf-8", errors="replace") for piece in self.bytes]

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


@lru_cache(maxsize=4)
def _cached(key: _Key) -> Pieces:
    return Pieces(key.tokenizer)


class _Key:
    """A tokenizer that is hashed by what it is, not by its identity."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.fingerprint = tokenizer, tokenizer_fingerprint(tokenizer)

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.fingerprint == self.fingerprint


def read_pieces(tokenizer: Any) -> Pieces:
    """The :class:`Pieces` of ``tokenizer``, remembered by its fingerprint."""
    return _cached(_Key(tokenizer))


def _byte_level(entry: str) -> bytes:
    try:
        return entry.translate(_SPELLED).encode("latin-1")
    except UnicodeEncodeError:  # an added token is not spelled in bytes
        return entry.encode()


def _metaspace(entry: str) -> bytes:
    if len(entry) == 6 and entry.startswith("<0x") and entry.endswith(">"):
        return bytes([int(entry[3:5], 16)])
    return entry.replace("▁", " ").encode()


def _wordpiece(entry: str) -> bytes:
    return entry[2:].encode() if entry.startswith("##") and len(entry) > 2 else b" " + entry.encode()


def _width(character: str) -> int:
    code = ord(character)
    return 1 if code < 0x80 else 2 if code < 0x800 else 3 if code < 0x10000 else 4


def _byte_table() -> dict[str, int]:
    """GPT-2's map from printable characters to the bytes they stand for (openai/gpt-2, encoder.py)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(b): b for b in printable}
    table.update({chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in set(printable))})
    return table


# Characters that spell no byte become one that latin-1 lacks.
_SPELLED = {**dict.fromkeys(range(256), "\uffff"), **{ord(c): chr(byte) for c, byte in _byte_table().items()}}
