"""Read lists that were stored as text: as JSON, as Python prints them, or as numpy and pandas print them.

A printed list is rewritten as JSON, token by token, and read as that: nothing is evaluated. Every pattern takes time
linear in the text.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

_TOKEN = re.compile(
    r"""(\s*)([bu]?(?:'[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*")|[^\s,:'"\[\](){}]+|[,:\[\](){}])""", re.DOTALL
)
_JSON = {"(": "[", ")": "]", "True": "true", "False": "false"}
_JSON.update(dict.fromkeys(("None", "nan", "NaN", "null", "NaT", "<NA>"), "null"))
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

    Missing values (``nan``, ``null``) become None, and a tuple becomes a list. Some published lists are broken: their
    strings contain quotes that are not escaped. With ``repair`` they are split where one string seems to end and the
    next to begin.

    >>> read_printed_list('["One.", null]'), read_printed_list("['One.', nan]"), read_printed_list("['One.'\n 'Two.']")
    (['One.', None], ['One.', None], ['One.', 'Two.'])
    >>> read_printed_list("['Isn't it?', 'It is.\\nYes.']")
    ["Isn't it?", 'It is. Yes.']
    >>> read_printed_list("['Ink'] and ['Refills']")
    """
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    for rewrite in (str, _as_json):
        with suppress(KeyError, ValueError, RecursionError):
            value: list[Any] = json.loads(rewrite(text), parse_constant=lambda name: {"NaN": None}[name])
            return value
    return _split_broken(text) if repair else None


def _as_json(text: str) -> str:
    """Rewrite a printed list as JSON; a ValueError if a character belongs to no token. JSON checks all else.

    Elements are separated by commas, as Python prints them, or by white space, as numpy prints texts:
    "[b'a', ('b',)]" -> '[ "a" , [ "b" ] ]', "['a' None]" -> '[ "a" , null ]'
    """
    parts = [""]
    place = 0
    while place < len(text):
        token = _TOKEN.match(text, place)
        if token is None:
            raise ValueError(f"character {place} belongs to no token")
        place, mark = token.end(), token[2]
        is_text, known = mark[-1] in "'\"", _JSON.get(mark)
        if mark in "])}" and parts[-1] == "," and parts[-2] not in "[{":
            parts.pop()  # ('a',)
        elif mark == ":" and not parts[-1].startswith('"'):
            parts[-1] = json.dumps(parts[-1])  # {1: 'a'}
        elif token[1] and parts[-1] not in ("", "[", "{", ",", ":") and (is_text or mark in "[({" or known == "null"):
            parts.append(",")
        parts.append(json.dumps(_unquoted(mark)) if is_text else mark if known is None else known)
    return " ".join(parts)


def _unquoted(mark: str) -> str:
    r"""Read a quoted text as Python reads it: "'it\'s'" -> "it's"; an unknown escape stays."""
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
