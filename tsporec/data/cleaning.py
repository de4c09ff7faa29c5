"""Make plain text of raw fields: HTML, CSS, entities, and lists that were stored as text.

Fields come from strangers, so every step takes time linear in the text. Patterns with an open end (``.*``) stop at the
first match or the end of the text; selectors of CSS rules are read back from their brace, word by word.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tsporec.data.stored_lists import read_printed_list

DEEPEST = 50
"""Lists nested deeper than this are not read."""
MISSING = frozenset({"nan", "NaN", "<NA>", "NaT"})
"""How numpy and pandas write a missing value as text."""

# Only names of real elements make a tag: "std::vector<int>" and "sizes <M and L>" are text.
_ELEMENT = (
    "a|abbr|acronym|address|article|aside|audio|b|base|big|blockquote|body|br|button|canvas|caption|center|cite|code|"
    "col|colgroup|dd|del|details|div|dl|dt|em|embed|fieldset|figcaption|figure|font|footer|form|frame|frameset|"
    "h[1-6]|head|header|hr|html|i|iframe|img|input|ins|kbd|label|legend|li|link|main|map|mark|meta|nav|nobr|noscript|"
    "object|ol|option|p|param|picture|pre|q|s|script|section|select|small|source|span|strike|strong|style|sub|summary|"
    "sup|svg|table|tbody|td|textarea|tfoot|th|thead|title|tr|tt|u|ul|var|video|wbr"
)
_COMMENT = re.compile(r"<!--(?:-?>|.*?(?:--!?>|\Z))", re.DOTALL)
_DATA = re.compile(r"<!\[CDATA\[(.*?)(?:\]\]>|\Z)", re.DOTALL)
_CODE = re.compile(r"<(script|style)\b[^<>]*>.*?(?:</\1\b[^<>]*>|\Z)", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(rf"</?(?:{_ELEMENT})(?:[\s/][^<>]*)?>|<![A-Za-z\[][^<>]*>", re.IGNORECASE)
_CUT_TAG = re.compile(rf"</?(?:{_ELEMENT})(?:\s+[\w-]+\s*=[^<>]*|\s*/?)\Z", re.IGNORECASE)

_BRACES = re.compile(r"\{([^{}]*)\}")
_CSS_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_DECLARATION = re.compile(r"\s*-?[A-Za-z][\w-]*\s*:\s*\S")
_PROPERTY = re.compile(
    r"\s*(?:background|border|clear|color|display|float|font|height|left|line-height|list-style|margin|padding|"
    r"position|text-\w+|top|width)(?:-[\w-]+)?\s*:"
)
# One compound selector that ends where the search ends: "td.a", ".a:hover", "h1", or "@media screen and (…)".
_COMPOUND = re.compile(
    rf"(?:(?<!\w)(?:{_ELEMENT}))?(?:[.#][A-Za-z_-][\w-]*|::?[a-z][a-z-]*|\[[^\[\]]*\])+\Z|(?<![\w.])(?:{_ELEMENT})\Z"
)
_AT_RULE = re.compile(r"@[a-z][a-z-]*(?:\s[\w\s(),:.-]*)?\Z")
_RUN = re.compile(r"[^\s,>+~]+")  # what may be one compound selector
_ATTRIBUTE = re.compile(r"\[[^\[\]]*\]")
_SELECTOR_REACH = 200  # characters before a brace in which its selector is looked for

_LONG_REFERENCE = re.compile(r"&#[xX]?[0-9a-fA-F]{9,};?")  # no character has so many digits
# Control characters, invisible separators and halves of surrogate pairs. No tokenizer takes the last.
_UNREADABLE = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u200b\u2060\ufeff\ud800-\udfff]")
_SPACE = re.compile(r"\s+")


def clean_text(value: Any) -> str:
    """Make plain text of a raw field.

    Tags, scripts, style sheets and comments are removed. Entities are decoded. White space becomes one space. Lists,
    arrays, dicts and other iterables are joined, also if they were stored as text. Missing values are empty: None, NaN,
    ``pd.NA``, ``NaT``, and the texts that numpy and pandas write for them (:data:`MISSING`). Text that only looks like
    mark-up stays: ``3 < 4``, ``vector<int>``, ``{a note}``. Lists that are nested more than 50 deep are a ValueError.

    >>> clean_text("8.5&rdquo; <b>Paper</b> .x {color:#000;}")
    '8.5” Paper'
    >>> clean_text("['One.', '', 'Two.']")
    'One. Two.'
    """
    return " ".join(part for part in map(_clean, _texts(value, 0)) if part)


def _texts(value: Any, depth: int) -> Iterator[str]:
    """Yield the texts in a value: [["a", None], "['b']"] -> "a", "b"."""
    if depth > DEEPEST:
        raise ValueError(f"a field is nested more than {DEEPEST} deep; expected a text or a list of texts.")
    for name in ("tolist", "to_list", "as_py"):  # numpy and pandas, polars, pyarrow
        if hasattr(value, name) and not isinstance(value, memoryview):
            value = getattr(value, name)()
            break
    if isinstance(value, bytes | bytearray | memoryview):
        value = bytes(value).decode(errors="replace")
    if isinstance(value, str):
        listed = read_printed_list(value)
        if listed is None:
            yield "" if value.strip() in MISSING else value
            return
        try:
            yield from list(_texts(listed, depth + 1))
        except ValueError:  # too deep for a list of texts, so it is a text
            yield value
    elif isinstance(value, Iterable):
        parts: Iterable[Any] = value.values() if isinstance(value, Mapping) else value
        for part in sorted(parts, key=str) if isinstance(value, set | frozenset) else parts:
            yield from _texts(part, depth + 1)
    elif not _is_missing(value):
        yield str(value)


def _is_missing(value: Any) -> bool:
    if value is None or type(value).__name__ == "NAType":  # pandas' NA cannot be compared
        return True
    try:
        return bool(value != value)  # NaN and NaT of any type
    except ArithmeticError:  # a Decimal that is a signalling NaN
        return True
    except (TypeError, ValueError):
        return False


def decode_entities(text: str) -> str:
    """Replace entities by what they stand for, twice: shops escape twice.

    >>> decode_entities("AT&amp;amp;T 8.5&rdquo;")
    'AT&T 8.5”'
    """
    for _ in range(2 if "&" in text else 0):
        text = html.unescape(_LONG_REFERENCE.sub("\ufffd", text))
    return text


def _clean(text: str) -> str:
    text = _UNREADABLE.sub("", decode_entities(text))  # first, since they could hide a tag
    if "<" in text:
        text = _DATA.sub(r" \1 ", _CODE.sub(" ", _COMMENT.sub(" ", text)))
        text = _CUT_TAG.sub(" ", _TAG.sub(" ", text))
    if "{" in text:
        text = _without_css(text)
    text = _SPACE.sub(" ", text).strip()
    # What was removed may have stood inside a tag: "<b<i>>" is "<b >" now.
    return " ".join(text.replace("<", " ").split()) if "<" in text and _TAG.search(text) else text


def _without_css(text: str) -> str:
    """Remove CSS rules, twice, since ``@media`` holds rules."""
    for _ in range(2):
        parts, end, last = [], 0, 0
        for braces in _BRACES.finditer(text):
            selector = _selector_start(text, max(last, braces.start() - _SELECTOR_REACH), braces.start())
            last = braces.end()
            if _is_css(braces[1], selector is not None):
                parts.append(text[end : braces.start() if selector is None else selector])
                end = braces.end()
        if end == 0:
            break
        text = _without_comments(" ".join([*parts, text[end:]]))
    return text


def _selector_start(text: str, low: int, brace: int) -> int | None:
    """Find where the selector before a brace starts, at or after ``low``; None if there is no selector.

    "big. td.a, li:hover {" -> the place of "td.a"
    """
    window = _ATTRIBUTE.sub(lambda found: f"[{'_' * (len(found[0]) - 2)}]", text[low:brace])
    start, after = None, len(window)
    for run in reversed(list(_RUN.finditer(window))):
        if run.end() > after:  # inside an at-rule
            continue
        if len(window[run.end() : after].strip()) > (start is not None):  # one comma or combinator between two
            break
        found = _AT_RULE.search(window, 0, run.end()) or _COMPOUND.search(window, run.start(), run.end())
        if found is None:
            break
        start = after = found.start()
        if _RUN.match(window[after - 1 : after]):  # no space, comma or combinator: the selector cannot go on
            break
    return None if start is None else low + start


def _is_css(content: str, after_selector: bool) -> bool:
    """Return whether braces hold a CSS rule: ``property: value`` pairs, of known properties if no selector precedes."""
    pairs = [pair for pair in _without_comments(content).split(";") if pair.strip()]
    if after_selector:
        return all(_DECLARATION.match(pair) for pair in pairs)
    return bool(pairs) and all(_PROPERTY.match(pair) for pair in pairs)


def _without_comments(text: str) -> str:
    """Replace CSS comments by a space. Behind the last ``*/`` none can end, and a search there could be quadratic."""
    end = text.rfind("*/") + 2 if "*/" in text else 0
    return _CSS_COMMENT.sub(" ", text[:end]) + text[end:]
