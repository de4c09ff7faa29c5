"""Read what each vocabulary id spells, as bytes.

Tokenizers mark spaces and write bytes each in their own way. As bytes, the pieces of a text simply follow each other.
So offsets are exact, and a character that is split over two tokens stays whole.
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
    """The bytes that each id of one tokenizer spells. Get it from :func:`read_pieces`.

    Attributes
    ----------
    bytes : list of bytes
        The spelling of each id; empty for special tokens, U+FFFD for the unknown token.
    special : bool ``[V]``
        True for special tokens and for ids that no token has.
    protected : bool ``[V]``
        True for the special tokens that are always kept: all but the unknown token (:func:`special_token_ids`).
    fingerprint : str
        Fingerprint of the tokenizer.

    Examples
    --------
    >>> from tsporec.data.synthetic import word_tokenizer
    >>> pieces = read_pieces(word_tokenizer(["gel", "pen"]))
    >>> pieces.bytes[4:], pieces.special.tolist()
    ([b' gel', b' pen'], [True, True, True, True, False, False])
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
        self.protected: NDArray[np.bool_] = np.zeros(size, dtype=bool)
        self.protected[[i for i in special_token_ids(tokenizer) if i < size]] = True
        self.bytes = [b""] * size
        if (unknown := _unknown_id(tokenizer)) is not None:
            self.bytes[unknown] = self.spelling.read("\ufffd")
        for token, index in vocabulary.items():
            if not self.special[index]:
                before = b" " if added.get(index) else b""
                self.bytes[index] = before + self.spelling.read(token, index in added)

    def __len__(self) -> int:
        return len(self.bytes)

    @cached_property
    def texts(self) -> list[str]:
        """Text that each id spells; a part of a character is U+FFFD."""
        return [piece.decode("utf-8", errors="replace") for piece in self.bytes]

    @property
    def surfaces(self) -> list[str]:
        """Like :attr:`texts`, with a space before what starts a word.

        Tokenizers that only mark ends of words spell "pen " for a token that ends one; here it is " pen".
        """
        if not self.spelling.ends_words:
            return self.texts
        return [" " + text[:-1] if text.endswith(" ") else text for text in self.texts]

    def text(self, ids: Sequence[int] | NDArray[np.integer]) -> tuple[str, NDArray[np.int64]]:
        """Spell ``ids [L]``: (text, start and end of each token in it, in characters, int64 ``[L, 2]``).

        A token with a part of a character spans the whole character. Bytes that are not UTF-8 become U+FFFD.

        >>> from tsporec.data.synthetic import word_tokenizer
        >>> text, spans = read_pieces(word_tokenizer(["gel", "pen"])).text([5, 4])
        >>> text, spans.tolist()
        (' pen gel', [[0, 4], [4, 8]])
        """
        pieces = [self.bytes[i] for i in ids]
        joined = b"".join(pieces)
        ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64) if pieces else np.zeros(0, np.int64)
        starts = ends - np.fromiter(map(len, pieces), np.int64, len(pieces))
        text = joined.decode("utf-8", errors="replace")
        if len(text) == len(joined):
            return text, np.stack([starts, ends], axis=1)
        # Character of each byte: "aé" has widths [1, 2] -> character [0, 1, 1], and then 2 for the end.
        widths = np.fromiter((_width(c) for c in text), np.int64, len(text))
        if widths.sum() != len(joined):
            return self._replaced(pieces)
        character = np.repeat(np.arange(len(text)), widths)
        character = np.append(character, len(text))
        ends_at = np.where(ends > starts, character[np.maximum(ends - 1, 0)] + 1, character[starts])
        return text, np.stack([character[starts], ends_at], axis=1)

    def _replaced(self, pieces: list[bytes]) -> tuple[str, NDArray[np.int64]]:
        """Decode each piece by itself. Used if the bytes of the whole text are not UTF-8."""
        texts = [piece.decode("utf-8", errors="replace") for piece in pieces]
        ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
        starts = ends - np.fromiter(map(len, texts), np.int64, len(texts))
        return "".join(texts), np.stack([starts, ends], axis=1)


def special_token_ids(tokenizer: Any) -> list[int]:
    """Return the ids of special tokens, with added tokens that are marked special (such as chat markers).

    The unknown token is not among them: it stands for text.

    >>> from tsporec.data.synthetic import word_tokenizer
    >>> special_token_ids(word_tokenizer(["gel", "pen"]))
    [0, 1, 2]
    """
    special, unknown = _special(tokenizer, getattr(tokenizer, "added_tokens_decoder", {})), _unknown_id(tokenizer)
    return [i for i in special if i != unknown]


def _unknown_id(tokenizer: Any) -> int | None:
    """Return the id of the unknown token; None if it marks something else too, as GPT-2's."""
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "cls_token_id", "mask_token_id")
    unknown = getattr(tokenizer, "unk_token_id", None)
    return None if unknown in [getattr(tokenizer, name, None) for name in names] else unknown


_KNOWN: WeakKeyDictionary[Any, tuple[tuple[str, Spelling | None], Pieces]] = WeakKeyDictionary()
_SHARED: WeakValueDictionary[tuple[Any, ...], Pieces] = WeakValueDictionary()
"""Pieces by everything they are made from, so that equal tokenizers share them."""


def read_pieces(tokenizer: Any) -> Pieces:
    """Get the :class:`Pieces` of ``tokenizer``. They are cached, and equal tokenizers share them.

    Thousands of added tokens take far longer to read than a text takes to tokenise. They are read again only if the
    tokenizer grew, or has other named special tokens, another normalizer or another pre-tokenizer.
    """
    fingerprint, core = tokenizer_fingerprint(tokenizer), getattr(tokenizer, "backend_tokenizer", None)
    state = fingerprint, None if core is None else spelling_of(core)  # the vocabulary decides a slow one
    known = _KNOWN.get(tokenizer)
    if known is None or known[0] != state:
        special, added = _read_added(tokenizer, state[1])
        parts = state, _unknown_id(tokenizer), tuple(special), tuple(sorted(added.items()))
        pieces = _SHARED.get(parts)
        if pieces is None:
            pieces = _SHARED[parts] = Pieces(tokenizer)
        known = _KNOWN[tokenizer] = state, pieces
    return known[1]


def _read_added(tokenizer: Any, spelling: Spelling | None) -> tuple[list[int], dict[int, bool]]:
    """Read the added tokens: (ids of special tokens, id -> whether the token takes the space before it along).

    The second holds the tokens that the model lacks, which are found in a text as they are written.
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


def ids_in_prompt(tokenizer: Any, text: str) -> list[int]:
    """Return the ids that ``text`` has behind other text of a prompt.

    A text alone gets the space that Llama 2's and RoBERTa's tokenizers put before every text. Here it is tokenised
    behind a mark, and the ids of the mark are taken off. If every mark merges with the text, it is tokenised alone.
    """
    for mark in ("\n", ":", ","):
        alone, both = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (mark, mark + text))
        if both[: len(alone)] == alone:
            return list(both[len(alone) :])
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
