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
    r"""(\s*)([bu]?(?:'[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*")
    |(?:np\.\w+|array|frozenset|set|deque|Decimal|Timestamp|UUID)\(|dtype=(?:\w+|'[^']*')
    |[^\s,:'"\[\](){}]+|[,:\[\](){}])""",
    re.DOTALL | re.VERBOSE,
)
_LITERAL = re.compile(r"""\[|array\(\[|[({]\s*[bu]?['"]""")  # how a text begins that may be a printed list
_CLOSES = {"[": "]", "(": ")", "{": "}", "a": ")"}
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

    Missing values (``nan``, ``null``) become None, tuples and sets become lists. Some published lists are broken: their
    strings contain quotes that are not escaped. With ``repair`` they are split where one string seems to end and the
    next to begin. With it, ``text`` is also one of many: a tuple, set or dict is only read if it begins with a quoted
    text, and a dict is the one element of the list.

    >>> read_printed_list('["One.", null]'), read_printed_list("['One.', nan]"), read_printed_list("['One.'\n 'Two.']")
    (['One.', None], ['One.', None], ['One.', 'Two.'])
    >>> read_printed_list("['Isn't it?', 'It is.\\nYes.']")
    ["Isn't it?", 'It is. Yes.']
    >>> read_printed_list("['Ink'] and ['Refills']")
    """
    text = text.strip()
    found = _LITERAL.match(text) if repair else re.match(r"[\[(]|array\(", text)
    if found is None or not text.endswith(_CLOSES[text[0]]):
        return None
    for rewrite in (str, _as_json):
        with suppress(KeyError, ValueError, RecursionError):
            value = json.loads(rewrite(text), parse_constant=lambda name: {"NaN": None}[name])
            if isinstance(value, dict):
                return [value]
            return None if text[0] == "(" and len(value) == 1 and text[-2] != "," else value  # ("a") is no tuple
    return _split_broken(text) if repair and text[0] == "[" else None


def _as_json(text: str) -> str:
    """Rewrite a printed value as JSON; a ValueError if a character belongs to no token. JSON checks all else.

    Elements are separated by commas, as Python prints them, or by white space, as numpy prints texts. A call, such as
    ``np.str_('a')`` or ``array(['a'], dtype=object)``, is read as its argument:
    "[b'a', ('b',), {'c'}]" -> '[ "a" , [ "b" ] , [ "c" ] ]', "['a' None]" -> '[ "a" , null ]'
    """
    parts = [""]
    opened: list[int] = []  # the part that opens each bracket around this place, negative for a dict; 0 for a call
    place = 0
    while place < len(text):
        token = _TOKEN.match(text, place)
        if token is None:
            raise ValueError(f"character {place} belongs to no token")
        place, mark = token.end(), token[2]
        if mark.startswith("dtype="):
            continue
        is_text, is_call, known = mark[-1] in "'\"", len(mark) > 1 and mark[-1] == "(", _JSON.get(mark)
        if mark in "])}" and parts[-1] == "," and parts[-2] not in "[{":
            parts.pop()  # ('a',)
        elif mark == ":" and not parts[-1].startswith('"'):
            parts[-1] = json.dumps(parts[-1])  # {1: 'a'}
        elif (
            token[1] and parts[-1] not in ("", "[", "{", ",", ":") and (is_text or mark[-1] in "[({" or known == "null")
        ):
            parts.append(",")
        if mark[-1] in "[({":
            opened.append(0 if is_call else len(parts))
        elif mark == ":" and opened:
            opened[-1] = -abs(opened[-1])
        elif mark in "])}" and opened:
            opening = opened.pop()
            is_call = opening == 0
            if mark == "}" and opening > 0 and parts[-1] != "{":
                parts[opening], known = "[", "]"  # {'a'}
        if not is_call:
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
