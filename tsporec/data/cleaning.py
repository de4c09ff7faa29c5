"""Cleaning what shops put into text fields: HTML, CSS, entities, lists that were printed."""

from __future__ import annotations

import ast
import html
import re
from typing import Any

# Only names of real elements make a tag: "std::vector<int>" and "sizes <M and L>" are text.
_ELEMENT = (
    "a|abbr|acronym|address|article|aside|audio|b|base|big|blockquote|body|br|button|canvas|caption|center|cite|code|"
    "col|colgroup|dd|del|details|div|dl|dt|em|embed|fieldset|figcaption|figure|font|footer|form|frame|frameset|"
    "h[1-6]|head|header|hr|html|i|iframe|img|input|ins|kbd|label|legend|li|link|main|map|mark|meta|nav|nobr|noscript|"
    "object|ol|option|p|param|picture|pre|q|s|script|section|select|small|source|span|strike|strong|style|sub|summary|"
    "sup|svg|table|tbody|td|textarea|tfoot|th|thead|title|tr|tt|u|ul|var|video|wbr"
)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_CODE = re.compile(r"<(script|style)\b[^<>]*>.*?(?:</\1\s*>|\Z)", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(rf"</?(?:{_ELEMENT})(?:[\s/][^<>]*)?>|<![A-Za-z\[][^<>]*>", re.IGNORECASE)
_CUT_TAG = re.compile(rf"</?(?:{_ELEMENT})(?:\s+[\w-]+\s*=[^<>]*|\s*/?)\Z", re.IGNORECASE)

_BRACES = re.compile(r"\{([^{}]*)\}")
_CSS_COMMENT = re.compile(r"/\*[^*]*\*+(?:[^/*][^*]*\*+)*/")
_DECLARATION = re.compile(r"\s*-?[A-Za-z][\w-]*\s*:\s*\S")
_PROPERTY = re.compile(
    r"\s*(?:background|border|clear|color|display|float|font|height|left|line-height|list-style|margin|padding|"
    r"position|text-\w+|top|width)(?:-[\w-]+)?\s*:"
)
_SIMPLE = (
    rf"(?:(?:(?<![\w])(?:{_ELEMENT}))?(?:[.#][A-Za-z_-][\w-]*|::?[a-z][a-z-]*|\[[^\[\]]*\])+"
    rf"|(?<![\w.])(?:{_ELEMENT})(?![\w])|@[a-z][a-z-]*(?:\s+[\w\s(),:.-]+)?)"
)
_SELECTOR = re.compile(rf"(?:{_SIMPLE}(?:\s*[,>+~]\s*|\s+))*{_SIMPLE}\s*\Z")
_SELECTOR_REACH = 200  # characters before a brace in which its selector is looked for

_LIST_JOINT = re.compile(r"""['"]\s*,\s*['"]""")
_ESCAPE = re.compile(r"\\([nrt'\"\\])")
# Control characters, invisible separators and halves of surrogate pairs: nothing to read, and no tokenizer's input.
_UNREADABLE = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u200b\u2060\ufeff\ud800-\udfff]")
_SPACE = re.compile(r"\s+")


def clean_text(value: Any) -> str:
    """Plain text of a raw field: tags, scripts, style sheets and comments gone, entities read, one space apart.

    ``None`` and NaN are empty; the elements of a list, of its printed form (``"['a', 'b']"``) and the values of a dict
    are cleaned one by one and joined. What merely looks like mark-up stays: ``3 < 4``, ``vector<int>``, ``{a note}``.

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
    if "&" in text:
        text = html.unescape(html.unescape(text))  # shops escape twice: &amp;rdquo; and escape tags: &lt;br&gt;
    if "<" in text:
        text = _CUT_TAG.sub(" ", _TAG.sub(" ", _CODE.sub(" ", _COMMENT.sub(" ", text))))
    if "{" in text:
        text = _without_css(text)
    return _SPACE.sub(" ", _UNREADABLE.sub("", text)).strip()


def read_literal_list(text: str) -> str | list[Any]:
    r"""The list whose printed Python form ``text`` is, else ``text`` itself. Literals only; nothing is evaluated.

    Some published lists are broken: the quotes inside were taken for other quotes. They are split where one string
    seems to end and the next to begin.

    >>> read_literal_list("['Isn't it?', 'It is.\\nYes.']")
    ["Isn't it?", 'It is. Yes.']
    """
    stripped = text.strip()
    if not (stripped.startswith("[") and stripped.endswith("]")):
        return text
    try:
        value = ast.literal_eval(stripped)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        if len(stripped) < 4 or stripped[1] not in "'\"" or stripped[-2] not in "'\"":
            return text
        return [_ESCAPE.sub(_read_escape, part) for part in _LIST_JOINT.split(stripped[2:-2])]
    return value if isinstance(value, list) else text


def _read_escape(match: re.Match[str]) -> str:
    return " " if match[1] in "nrt" else match[1]


def _without_css(text: str) -> str:
    """``text`` without CSS rules; twice, since ``@media`` holds rules."""
    for _ in range(2):
        parts, end, last = [], 0, 0
        for braces in _BRACES.finditer(text):
            selector = _SELECTOR.search(text, max(last, braces.start() - _SELECTOR_REACH), braces.start())
            last = braces.end()
            if _is_css(braces[1], selector is not None):
                parts.append(text[end : selector.start() if selector else braces.start()])
                end = braces.end()
        if end == 0:
            break
        text = _CSS_COMMENT.sub(" ", " ".join([*parts, text[end:]]))
    return text


def _is_css(content: str, after_selector: bool) -> bool:
    """Whether what stands between braces is a CSS rule's: ``property: value`` pairs, well known without a selector."""
    pairs = [pair for pair in _CSS_COMMENT.sub("", content).split(";") if pair.strip()]
    if after_selector:
        return all(_DECLARATION.match(pair) for pair in pairs)
    return bool(pairs) and all(_PROPERTY.match(pair) for pair in pairs)
