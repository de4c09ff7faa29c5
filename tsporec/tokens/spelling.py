"""How a tokenizer writes text in the entries of its vocabulary.

Tokenizers mark where words start, or where they end, or keep spaces as they are; and they write characters, or the
bytes of each. A fast tokenizer is asked: its normalizer and pre-tokenizer show on two short texts what becomes of a
space and of a character, and its model names its marks. Of a slow one only the entries are seen.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, NamedTuple

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_LEAST = 20  # one entry in so many has the mark that a slow tokenizer is known by; a stray one is no mark
_SUPPORTED = (
    "supported are spaces that are kept or marked (byte-level, Metaspace), a continuing_subword_prefix as WordPiece's "
    "'##', an end_of_word_suffix as '</w>', and WordLevel"
)


class Spelling(NamedTuple):
    """How entries are written.

    Parameters
    ----------
    space : str
        The character that stands for a space; "" where spaces are dropped.
    prefix : str
        What entries inside a word begin with.
    suffix : str
        What entries at the end of a word end with.
    byte_level : bool
        A character stands for a byte, as in GPT-2.
    byte_fallback : bool
        ``<0x41>`` stands for a byte.
    """

    space: str
    prefix: str = ""
    suffix: str = ""
    byte_level: bool = False
    byte_fallback: bool = False

    @property
    def ends_words(self) -> bool:
        """Whether ends of words are all that is known of spaces."""
        return bool(not self.space and not self.prefix and self.suffix)

    def read(self, entry: str, added: bool = False) -> bytes:
        r"""The bytes that ``entry`` stands for.

        Where spaces are dropped, one stands before an entry that starts a word or, if only ends are marked, behind one
        that ends it. What was ``added`` to the vocabulary is written as it is; see also :func:`takes_space`.

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
            byte = _BYTE.fullmatch(entry) if self.byte_fallback else None
            if byte is not None:
                return bytes([int(byte[1], 16)])
            if self.prefix and len(entry) > len(self.prefix) and entry.startswith(self.prefix):
                starts, entry = False, entry[len(self.prefix) :]
            ends = bool(self.suffix) and len(entry) > len(self.suffix) and entry.endswith(self.suffix)
            entry = entry[: -len(self.suffix)] if ends else entry
        if added or not self.byte_level:
            spelled = (entry.replace(self.space, " ") if self.space and not added else entry).encode()
        else:
            spelled = _from_byte_level(entry)
        if self.ends_words:
            return spelled + b" " if ends else spelled
        return b" " + spelled if starts and not self.space else spelled


def spelling_of(core: Any) -> Spelling:
    """That of a fast tokenizer, from its ``backend_tokenizer``.

    Raises
    ------
    ValueError
        If its entries do not tell where words start or end.
    """
    pieces = _pre_tokens(core, "a b")
    between = re.fullmatch(r"[^a]*a([^ab]?)b[^b]*", "".join(pieces), re.IGNORECASE)
    kind = type(core.model).__name__
    space = between[1] if between is not None else ""
    prefix = getattr(core.model, "continuing_subword_prefix", None) or ""
    suffix = getattr(core.model, "end_of_word_suffix", None) or ""
    if between is None or not (space or prefix or suffix or kind == "WordLevel"):
        raise ValueError(
            f"the entries of this tokenizer do not tell where words start or end: its pre-tokenizer makes {pieces} of "
            f"'a b', and its {kind} model has no continuing_subword_prefix and no end_of_word_suffix; {_SUPPORTED}."
        )
    fallback = getattr(core.model, "byte_fallback", False)  # a Unigram does not tell, but its decoder
    fallback = fallback or (core.decoder is not None and b'"ByteFallback"' in core.decoder.__getstate__())
    return Spelling(space, prefix, suffix, _is_byte_level(core), fallback)


def spelling_by_marks(entries: Collection[str]) -> Spelling:
    """That of a slow tokenizer, from the marks that its entries carry.

    Raises
    ------
    ValueError
        If too few carry one.
    """
    in_bytes = all(character in entries for character in _byte_table())
    marks = {
        Spelling("Ġ", byte_level=True): sum(entry.startswith("Ġ") for entry in entries),
        Spelling("▁", byte_fallback=True): sum(entry.startswith("▁") for entry in entries),
        Spelling(" "): sum(entry.startswith(" ") for entry in entries),
        Spelling("", prefix="##"): sum(entry.startswith("##") for entry in entries),
        Spelling("", suffix="</w>", byte_level=in_bytes): sum(entry.endswith("</w>") for entry in entries),
    }
    best = max(marks, key=lambda spelling: marks[spelling])
    if marks[best] * _LEAST < max(len(entries), 1):
        raise ValueError(
            f"the {len(entries)} entries of this tokenizer do not tell where words start or end: it has no "
            f"backend_tokenizer to ask, and too few begin with 'Ġ', '▁', ' ' or '##' or end with '</w>' ({marks[best]} "
            "at most), which is what is supported of such. Where the model has a fast tokenizer too, give that: "
            "AutoTokenizer.from_pretrained(..., use_fast=True)."
        )
    return best


def takes_space(core: Any, space: str, token: Any) -> bool:
    """Whether an added ``token`` stands for the space before it too, where spaces are written as ``space``.

    It is looked for in the text as the normalizer leaves it, spelled so itself, and that may put a mark before it;
    or it asks for what is before it; or a pre-tokenizer drops the space at the end of what stands before it.
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
    """What the model is given of ``text``."""
    if core.normalizer is not None:
        text = core.normalizer.normalize_str(text)
    return [text] if core.pre_tokenizer is None else [piece for piece, _ in core.pre_tokenizer.pre_tokenize_str(text)]


def _is_byte_level(core: Any) -> bool:
    written = "".join(_pre_tokens(core, "墨")).translate(_SPELLED)
    try:
        return "墨" in written.encode("latin-1").decode()
    except UnicodeError:
        return False


def _from_byte_level(entry: str) -> bytes:
    try:
        return entry.translate(_SPELLED).encode("latin-1")
    except UnicodeEncodeError:  # spelled in no bytes: nothing that the model makes of a text
        return entry.encode()


def _byte_table() -> dict[str, int]:
    """GPT-2's map from printable characters to the bytes they stand for (openai/gpt-2, encoder.py)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(b): b for b in printable}
    table.update({chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in set(printable))})
    return table


# Characters that spell no byte become one that latin-1 lacks.
_SPELLED = {**dict.fromkeys(range(256), "\uffff"), **{ord(c): chr(byte) for c, byte in _byte_table().items()}}
