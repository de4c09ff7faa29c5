"""Read lists that were stored as text: as JSON, as Python prints them, or as numpy and pandas print them.

Only literals are read; nothing is evaluated. Every pattern takes time linear in the text.
"""

from __future__ import annotations

import json
import re
from typing import Any

DEEPEST = 50
"""Lists nested deeper than this are not read."""

_PIECE = re.compile(
    r"""(\s*)([bu]?(?:'[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*")|[^\s,:'"\[\](){}]+|[,:\[\](){}])""", re.DOTALL
)
_CLOSERS = {"[": "]", "(": ")", "{": "}"}
_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_CONSTANTS = {"True": True, "False": False, **dict.fromkeys(("None", "nan", "NaN", "null", "NaT", "<NA>"))}
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U(000[0-9a-fA-F]{5}|0010[0-9a-fA-F]{4})|([0-7]{1,3})|(.))", re.DOTALL
)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "\n": ""}
_ESCAPED.update(zip("'\"\\", "'\"\\", strict=True))

_JOINT = re.compile(r"""['"]\s*,\s*['"]""")
_OPENING, _CLOSING = re.compile(r"""\[\s*['"]"""), re.compile(r"""['"]\s*\]""")
_PLAIN_ESCAPE = re.compile(r"\\([nrt'\"\\])")


def read_printed_list(text: str, repair: bool = True) -> list[Any] | None:
    r"""Read ``text`` as a list of literals; None if it is not one.

    Missing values (``nan``, ``null``) become None. A tuple or a dict inside may become the list of its values. Some
    published lists are broken: their strings contain quotes that are not escaped. With ``repair`` they are split where
    one string seems to end and the next to begin.

    >>> read_printed_list('["One.", null]'), read_printed_list("['One.', nan]"), read_printed_list("['One.'\n 'Two.']")
    (['One.', None], ['One.', None], ['One.', 'Two.'])
    >>> read_printed_list("['Isn't it?', 'It is.\\nYes.']")
    ["Isn't it?", 'It is. Yes.']
    >>> read_printed_list("['Ink'] and ['Refills']")
    """
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    value = _read_json(text)
    if value is None:
        value = _read_pieces(text)
    return _split_broken(text) if value is None and repair else value


def _read_json(text: str) -> list[Any] | None:
    try:
        value: list[Any] = json.loads(text, parse_constant=lambda name: _CONSTANTS[name])
        return value
    except (KeyError, ValueError, RecursionError):
        return None


def _read_pieces(text: str) -> list[Any] | None:
    """Read nested lists of texts, numbers and missing values.

    They are separated by commas, as Python prints them, or by white space between texts, as numpy does.
    """
    top: list[Any] = []
    inside, place, comma = [(top, "]")], 1, True  # open lists with their ends; whether a comma or bracket precedes
    while inside and place < len(text):
        piece = _PIECE.match(text, place)
        if piece is None:
            return None
        place, space, mark = piece.end(), piece[1], piece[2]
        values, end = inside[-1]
        if mark in _CLOSERS:
            if not (comma or space) or len(inside) > DEEPEST:
                return None
            values.append([])
            inside.append((values[-1], _CLOSERS[mark]))
            comma = True
        elif mark == end:
            inside.pop()
            comma = False
        elif mark == ",":
            if comma:
                return None
            comma = True
        elif mark == ":":
            if comma or end != "}" or isinstance(values.pop(), list):  # a key, which is not kept
                return None
            comma = True
        else:
            if not (comma or (space and (mark[-1] in "'\"" or mark in _CONSTANTS))):
                return None
            try:
                values.append(_read_value(mark))
            except ValueError:
                return None
            comma = False
    return None if inside or place < len(text) else top


def _read_value(mark: str) -> Any:
    r"""Read a constant, a number or a quoted text: "None" -> None, "1.5" -> 1.5, "'it\'s'" -> "it's"."""
    if mark in _CONSTANTS:
        return _CONSTANTS[mark]
    if mark[-1] not in "'\"":
        if not _NUMBER.fullmatch(mark):
            raise ValueError(f"{mark} is not a literal")
        return float(mark) if set(mark) & set(".eE") else int(mark)
    text = mark[mark[0] in "bu" :][1:-1]
    if "\\" in text:
        text = _ESCAPE.sub(_read_escape, text)
    return text.encode("latin-1", "replace").decode(errors="replace") if mark[0] == "b" else text


def _read_escape(escape: re.Match[str]) -> str:
    *hexadecimal, octal, character = escape.groups()
    if character is not None:
        return _ESCAPED.get(character, escape[0])
    return chr(int(octal, 8) if octal else int(next(filter(None, hexadecimal)), 16))


def _split_broken(text: str) -> list[str] | None:
    if len(text) < 4 or text[1] not in "'\"" or text[-2] not in "'\"":
        return None
    inner = text[2:-2]
    closing, opening = _CLOSING.search(inner), _OPENING.search(inner)
    if closing and opening and closing.start() < opening.start():
        return None  # text that holds two lists: "['a'] and ['b']"
    parts = _JOINT.split(inner)
    return [_PLAIN_ESCAPE.sub(lambda escape: " " if escape[1] in "nrt" else escape[1], part) for part in parts]
