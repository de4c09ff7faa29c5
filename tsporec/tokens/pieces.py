"""Read what each vocabulary id spells, as bytes.

Tokenizers mark spaces and write bytes each in their own way. As bytes, the pieces of a text simply follow each other.
So offsets are exact, and a character that is split over two tokens stays whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple
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

    def __init__(self, vocabulary: dict[str, int], parts: _Parts) -> None:
        self.fingerprint, self.spelling = parts.fingerprint, parts.spelling
        size = max(vocabulary.values(), default=-1) + 1
        self.special: NDArray[np.bool_] = np.ones(size, dtype=bool)
        self.special[list(vocabulary.values())] = False
        special = [i for i in parts.special if i < size]
        self.special[special] = True
        self.protected: NDArray[np.bool_] = np.zeros(size, dtype=bool)
        self.protected[[i for i in special if i != parts.unknown]] = True
        self.bytes, added = [b""] * size, dict(parts.added)
        if parts.unknown is not None:
            self.bytes[parts.unknown] = self.spelling.read("\ufffd")
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

    @cached_property
    def terms(self) -> NDArray[np.int64]:
        """Number each id so that ids which differ in case or surrounding space have one number: int64 ``[V]``.

        Parts of a character and special tokens have numbers of their own.

        >>> from tsporec.data.synthetic import word_tokenizer
        >>> tokenizer = word_tokenizer("Pen gel pen".split())
        >>> terms = read_pieces(tokenizer).terms[tokenizer("Pen gel pen", add_special_tokens=False)["input_ids"]]
        >>> bool(terms[0] == terms[2] != terms[1])
        True
        """
        spelled = [
            f"special {index}" if special else "=" + piece.decode("utf-8", errors="surrogateescape").strip().casefold()
            for index, (piece, special) in enumerate(zip(self.bytes, self.special.tolist(), strict=True))
        ]
        numbers: NDArray[np.int64] = np.unique(np.array(spelled, dtype=object), return_inverse=True)[1].astype(np.int64)
        return numbers

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
        try:
            text = joined.decode()
        except UnicodeDecodeError:
            texts = [piece.decode(errors="replace") for piece in pieces]
            return "".join(texts), _spans(texts)
        spans = _spans(pieces)
        if len(text) == len(joined):
            return text, spans
        # Character of each byte: "aé" -> [0, 1, 1], and then 2 for the end. Bytes within a character are 0b10......
        begins = np.frombuffer(joined, np.uint8) & 0xC0 != 0x80
        character = np.append(np.cumsum(begins) - 1, len(text))
        start, end = spans.T
        stop = np.where(end > start, character[end - 1] + 1, character[start])
        return text, np.stack([character[start], stop], axis=1)


def _spans(parts: Sequence[str | bytes]) -> NDArray[np.int64]:
    """Return start and end of each part in all parts joined, int64 ``[L, 2]``: ["ab", "c"] -> [[0, 2], [2, 3]]."""
    lengths = np.fromiter(map(len, parts), np.int64, len(parts))
    ends = np.cumsum(lengths)
    return np.stack([ends - lengths, ends], axis=1)


def special_token_ids(tokenizer: Any) -> list[int]:
    """Return the ids of special tokens, with added tokens that are marked special (such as chat markers).

    The unknown token is not among them: it stands for text.

    >>> from tsporec.data.synthetic import word_tokenizer
    >>> special_token_ids(word_tokenizer(["gel", "pen"]))
    [0, 1, 2]
    """
    unknown = _unknown_id(tokenizer)
    return [i for i in _special(tokenizer, getattr(tokenizer, "added_tokens_decoder", {})) if i != unknown]


class _Parts(NamedTuple):
    """Everything but the vocabulary that pieces are made from."""

    fingerprint: str
    spelling: Spelling
    special: tuple[int, ...]
    unknown: int | None
    added: tuple[tuple[int, bool], ...]
    """Ids of the tokens that the model lacks, which are found in a text as they are written; and whether each takes the
    space before it along."""


_KNOWN: WeakKeyDictionary[Any, tuple[tuple[str, Spelling | None], Pieces]] = WeakKeyDictionary()
_SHARED: WeakValueDictionary[_Parts, Pieces] = WeakValueDictionary()


def read_pieces(tokenizer: Any) -> Pieces:
    """Get the :class:`Pieces` of ``tokenizer``. They are cached, and equal tokenizers share them.

    Thousands of added tokens take far longer to read than a text takes to tokenise. They are read again only if the
    tokenizer grew, or has other named special tokens, another normalizer or another pre-tokenizer.
    """
    core = getattr(tokenizer, "backend_tokenizer", None)
    state = tokenizer_fingerprint(tokenizer), None if core is None else spelling_of(core)
    known = _KNOWN.get(tokenizer)
    if known is None or known[0] != state:
        vocabulary, tokens = tokenizer.get_vocab(), getattr(tokenizer, "added_tokens_decoder", {})
        spelling = state[1] or spelling_by_marks(vocabulary)
        space, size = "" if core is None else spelling.space, getattr(tokenizer, "vocab_size", 0)
        added = {int(i): takes_space(core, space, token) for i, token in tokens.items() if int(i) >= size}
        special = tuple(_special(tokenizer, tokens))
        parts = _Parts(state[0], spelling, special, _unknown_id(tokenizer), tuple(sorted(added.items())))
        pieces = _SHARED.get(parts)
        if pieces is None:
            pieces = _SHARED[parts] = Pieces(vocabulary, parts)
        known = _KNOWN[tokenizer] = state, pieces
    return known[1]


def _special(tokenizer: Any, added: Mapping[int, Any]) -> list[int]:
    marked = {int(i) for i, token in added.items() if getattr(token, "special", False)}
    return sorted(marked | {int(i) for i in getattr(tokenizer, "all_special_ids", [])})


def _unknown_id(tokenizer: Any) -> int | None:
    """Return the id of the unknown token; None if it marks something else too, as GPT-2's."""
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "cls_token_id", "mask_token_id")
    unknown = getattr(tokenizer, "unk_token_id", None)
    return None if unknown in [getattr(tokenizer, name, None) for name in names] else unknown


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
