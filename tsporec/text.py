"""Cleaning what shops put into text fields: HTML, CSS, entities, lists that were printed."""

from __future__ import annotations

import ast
import html
import re
from typing import Any

_COMMENT = re.compile(r"<!--.*?(?:-->|$)", re.DOTALL)
_BLOCK = re.compile(r"<(script|style)\b[^>]*>.*?(?:</\1\s*>|$)", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<![A-Za-z][^<>]*>")
_CUT_TAG = re.compile(r"<[a-zA-Z/][^<>]*$")
# A CSS rule: braces around "property: value" pairs, and the selectors before them from the first that has a mark.
_CSS = re.compile(r"(?:[.#@][A-Za-z_][\w-]*(?:[\s,>:]+[.#]?[\w-]+)*\s*)?\{(?:[^{}]*:[^{}]*|\s*)\}")
_SPACE = re.compile(r"\s+")


def clean_text(value: Any) -> str:
    """Plain text of a raw field: tags, scripts, style sheets and comments gone, entities read, one space apart.

    ``None`` is empty; the elements of a list, of its printed form (``"['a', 'b']"``) and the values of a dict are
    cleaned one by one and joined.

    >>> clean_text("8.5&rdquo; <b>Paper</b> .x {color:#000;}")
    '8.5” Paper'
    >>> clean_text("['One.', '', 'Two.']")
    'One. Two.'
    """
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, str):
        value = read_literal_list(value)
    if isinstance(value, list | tuple):
        return " ".join(part for part in map(clean_text, value) if part)
    text = str(value)
    if "<" in text:
        text = _CUT_TAG.sub(" ", _TAG.sub(" ", _BLOCK.sub(" ", _COMMENT.sub(" ", text))))
    if "&" in text:
        text = html.unescape(html.unescape(text))  # shops escape twice: &amp;rdquo;
    if "{" in text:
        text = _CSS.sub(" ", text)
    return _SPACE.sub(" ", text).strip()


def read_literal_list(text: str) -> str | list[Any]:
    """The list whose printed Python form ``text`` is, else ``text`` itself. Literals only; nothing is evaluated."""
    stripped = text.strip()
    if not (stripped.startswith("[") and stripped.endswith("]")):
        return text
    try:
        value = ast.literal_eval(stripped)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return value if isinstance(value, list) else text
