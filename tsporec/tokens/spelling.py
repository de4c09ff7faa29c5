"""Find out how a tokenizer writes text in its vocabulary.

Tokenizers mark where words start, or where they end, or keep spaces. They write characters, or the bytes of each
character. A fast tokenizer is asked: its normalizer and pre-tokenizer show what becomes of a space and of a character
in two short texts, and its model names its marks. A slow tokenizer only shows its vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, NamedTuple

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_LEAST = 20  # a slow tokenizer's mark must be on one token in so many; a rare one is not a mark
_SUPPORTED = (
    "supported are spaces that are kept or marked (byte-level, Metaspace), a continuing_subword_prefix as WordPiece's "
    "'##', an end_of_word_suffix as '</w>', and WordLevel"
)


class Spelling(NamedTuple):
    """How the tokens of a vocabulary are written."""

    space: str  # character that stands for a space; "" if spaces are dropped
    prefix: str = ""  # mark at the start of tokens inside a word, such as WordPiece's ##
    suffix: str = ""  # mark at the end of tokens that end a word, such as CLIP's </w>
    byte_level: bool = False  # each character stands for a byte, as in GPT-2
    byte_fallback: bool = False  # <0x41> stands for a byte

    @property
    def ends_words(self) -> bool:
        """True if only the ends of words are marked."""
        return bool(not self.space and not self.prefix and self.suffix)

    def read(self, token: str, added: bool = False) -> bytes:
        r"""Return the bytes that ``token`` stands for.

        If spaces are dropped, a space is put before a token that starts a word, or, if only ends are marked, after a
        token that ends one. Tokens ``added`` to the vocabulary are written as they are; see also :func:`takes_space`.

        >>> Spelling("Ġ", byte_level=True).read("ĠcafÃ©").decode()
        ' café'
        >>> metaspace = Spelling("▁", byte_fallback=True)
        >>> metaspace.read("▁pen"), metaspace.read("s"), metaspace.read("<0x0A>")
        (b' pen', b's', b'\n')
        >>> Spelling("", prefix="##").read("pen"), Spelling("", prefix="##").read("##s")
        (b' pen', b's')
        >>> Spelling("", suffix="</w>").read("pen"), Spelling("", suffix="</w>").read("s</w>")
        (b'pen', b's ')
        """
        starts = ends = True
        if not added:
            byte = _BYTE.fullmatch(token) if self.byte_fallback else None
            if byte is not None:
                return bytes([int(byte[1], 16)])
            if self.prefix and len(token) > len(self.prefix) and token.startswith(self.prefix):
                starts, token = False, token[len(self.prefix) :]
            ends = bool(self.suffix) and len(token) > len(self.suffix) and token.endswith(self.suffix)
            token = token[: -len(self.suffix)] if ends else token
        if added or not self.byte_level:
            spelled = (token.replace(self.space, " ") if self.space and not added else token).encode()
        else:
            spelled = _from_byte_level(token)
        if self.ends_words:
            return spelled + b" " if ends else spelled
        return b" " + spelled if starts and not self.space else spelled


def spelling_of(core: Any) -> Spelling:
    """Find the spelling of a fast tokenizer from its ``backend_tokenizer``.

    If its tokens do not show where words start or end: a ValueError.

    >>> from tsporec.data.synthetic import word_tokenizer
    >>> spelling_of(word_tokenizer(["gel"]).backend_tokenizer)
    Spelling(space='Ġ', prefix='', suffix='', byte_level=True, byte_fallback=False)
    """
    pieces = _pre_tokens(core, "a b")
    between = re.fullmatch(r"[^a]*a([^ab]?)b[^b]*", "".join(pieces), re.IGNORECASE)
    kind = type(core.model).__name__
    space = between[1] if between is not None else ""
    prefix = getattr(core.model, "continuing_subword_prefix", None) or ""
    suffix = getattr(core.model, "end_of_word_suffix", None) or ""
    if between is None or not (space or prefix or suffix or kind == "WordLevel"):
        raise ValueError(
            f"the tokens of this tokenizer do not show where words start or end: its pre-tokenizer makes {pieces} of "
            f"'a b', and its {kind} model has no continuing_subword_prefix and no end_of_word_suffix; {_SUPPORTED}."
        )
    fallback = getattr(core.model, "byte_fallback", False)  # a Unigram model has no such option; its decoder shows it
    fallback = fallback or (core.decoder is not None and b'"ByteFallback"' in core.decoder.__getstate__())
    return Spelling(space, prefix, suffix, _is_byte_level(core), fallback)


def spelling_by_marks(vocabulary: Collection[str]) -> Spelling:
    """Find the spelling of a slow tokenizer from the marks on its tokens; if too few have one: a ValueError.

    >>> spelling_by_marks(["pen", "##s", "##il"])
    Spelling(space='', prefix='##', suffix='', byte_level=False, byte_fallback=False)
    """
    in_bytes = all(character in vocabulary for character in _byte_table())
    kinds = (
        Spelling("Ġ", byte_level=True), Spelling("▁", byte_fallback=True), Spelling(" "),
        Spelling("", prefix="##"), Spelling("", suffix="</w>", byte_level=in_bytes),
    )  # fmt: skip
    marks = {
        kind: sum(token.startswith(kind.space + kind.prefix) and token.endswith(kind.suffix) for token in vocabulary)
        for kind in kinds
    }
    best = max(marks, key=lambda spelling: marks[spelling])
    if marks[best] * _LEAST < max(len(vocabulary), 1):
        raise ValueError(
            f"the {len(vocabulary)} tokens of this tokenizer do not show where words start or end: it has no "
            f"backend_tokenizer, and too few tokens begin with 'Ġ', '▁', ' ' or '##' or end with '</w>' ({marks[best]} "
            "at most). If the model has a fast tokenizer, give that: "
            "AutoTokenizer.from_pretrained(..., use_fast=True)."
        )
    return best


def takes_space(core: Any, space: str, token: Any) -> bool:
    """Check whether an added ``token`` also stands for the space before it. Spaces are written as ``space``.

    There are three ways: the token strips the space (``lstrip``), the normalizer puts a space mark before the token, or
    the pre-tokenizer drops a space at the end of the text before it.
    """
    if not space or token.content.startswith(space):
        return False
    matched = core.normalizer is not None and token.normalized
    return bool(
        token.lstrip
        or (matched and core.normalizer.normalize_str(token.content).startswith(space))
        or not "".join(_pre_tokens(core, "a ")).endswith(space)
    )


def _pre_tokens(core: Any, text: str) -> list[str]:
    """Return the pieces of ``text`` that the model gets."""
    if core.normalizer is not None:
        text = core.normalizer.normalize_str(text)
    return [text] if core.pre_tokenizer is None else [piece for piece, _ in core.pre_tokenizer.pre_tokenize_str(text)]


def _is_byte_level(core: Any) -> bool:
    written = "".join(_pre_tokens(core, "墨")).translate(_SPELLED)
    try:
        return "墨" in written.encode("latin-1").decode()
    except UnicodeError:
        return False


def _from_byte_level(token: str) -> bytes:
    try:
        return token.translate(_SPELLED).encode("latin-1")
    except UnicodeEncodeError:  # it does not spell bytes, so the model never makes it from a text
        return token.encode()


def _byte_table() -> dict[str, int]:
    """Build GPT-2's map from printable characters to the bytes they stand for (openai/gpt-2, encoder.py)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(b): b for b in printable}
    table.update({chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in set(printable))})
    return table


# Characters that spell no byte become U+FFFF, which latin-1 lacks.
_SPELLED = {**dict.fromkeys(range(256), "\uffff"), **{ord(c): chr(byte) for c, byte in _byte_table().items()}}
