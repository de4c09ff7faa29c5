"""Draw a text with its kept words highlighted, and what is kept of it under that, as SVG."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from operator import itemgetter
from typing import Any

from tsporec.evaluation.report import kept_runs, short_text
from tsporec.selection import Selection
from tsporec.tokens.ragged import RaggedTokens

_COLUMNS, _LABEL = 76, 12  # characters of a line, and of the names before it at least
_WIDE, _HIGH = 7.8, 20.0  # pixels of a character and of a line
_STYLE = """\
text { font: 13px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace }
.page { fill: #fff } .mark { fill: #b7f0c1 } .kept { fill: #1f2328 } .name { fill: #57606a } .left { fill: #8b929a }
@media (prefers-color-scheme: dark) {
.page { fill: #14171a } .mark { fill: #1c5a30 } .kept { fill: #e6e8ea } .name { fill: #adb5bd }
}
"""


def draw_text(tokens: RaggedTokens, selections: Mapping[str, Selection], tokenizer: Any, segment: int) -> str:
    """Draw the text of one segment as SVG: whole, and under it what each of ``selections`` keeps.

    The whole text has the words highlighted that the last one keeps. Each piece has a fixed length, so that it fits its
    highlight in any font. The colours follow the reader's dark mode.

    >>> from tsporec.data.synthetic import word_tokenizer
    >>> tokenizer, kept = word_tokenizer(["gel", "pen"]), Selection(np.array([1]), np.int32([0, 1]))
    >>> picture = draw_text(RaggedTokens.from_lists([[4, 5]]), {"mine": kept}, tokenizer, 0)
    >>> picture.count('class="mark"'), picture.count(">pen</text>")
    (1, 2)
    """
    shown = {name: kept_runs(tokens, selection, tokenizer, segment) for name, selection in selections.items()}
    shorts = [(name, short_text(*found)) for name, found in shown.items()]
    *_, (whole, marks) = shown.values()
    label = max(_LABEL, max(map(len, shown)) + 2)
    parts, y = [], 1.0
    for name, text, runs in [("whole text", whole, marks), *((name, text, [[0, len(text)]]) for name, text in shorts)]:
        text = "".join(c if c.isprintable() else " " for c in text)
        parts.append(_piece("name", name, 0, y))
        for begin, end in _lines(text) or [(0, 0)]:
            for first, past, kept in _cut(begin, end, runs):
                if kept and runs is marks:
                    parts.append(_mark(label + first - begin, y, past - first))
                parts.append(_piece("kept" if kept else "left", text[first:past], label + first - begin, y))
            y += 1
        y += 0.5
    width, height = (label + _COLUMNS + 2) * _WIDE, y * _HIGH - 10
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}">'
    page = '<rect class="page" width="100%" height="100%" rx="8"/>'
    return "\n".join([head, f"<style>\n{_STYLE}</style>", page, *filter(None, parts), "</svg>\n"])


def _lines(text: str) -> list[tuple[int, int]]:
    """Cut a text into lines at spaces: start and end of each.

    >>> _lines("gel pen")
    [(0, 7)]
    """
    lines: list[tuple[int, int]] = []
    for word in re.finditer(rf"\S{{1,{_COLUMNS}}}", text):
        if lines and word.end() - lines[-1][0] <= _COLUMNS:
            lines[-1] = lines[-1][0], word.end()
        else:
            lines.append(word.span())
    return lines


def _cut(begin: int, end: int, runs: Sequence[Sequence[int]]) -> Iterator[tuple[int, int, bool]]:
    """Cut a line where kept runs start and end: (start, end, kept) of each piece.

    >>> list(_cut(0, 7, [[4, 9]]))
    [(0, 4, False), (4, 7, True)]
    """
    for place in range(bisect_right(runs, begin, key=itemgetter(1)), len(runs)):
        first, past = runs[place]
        if first >= end:
            break
        if begin < first:
            yield begin, first, False
        yield max(begin, first), min(end, past), True
        begin = past
    if begin < end:
        yield begin, end, False


def _piece(kind: str, text: str, column: float, y: float) -> str:
    """Return a piece of text, without the spaces around it, at a column and a line. Spaces alone are nothing."""
    if not text.strip():
        return ""
    column, text = column + len(text) - len(text.lstrip()), text.strip()
    place = f'x="{(1 + column) * _WIDE:g}" y="{y * _HIGH:g}" textLength="{len(text) * _WIDE:g}"'
    return f'<text class="{kind}" {place}>{escape(text)}</text>'


def _mark(column: int, y: float, length: int) -> str:
    x = (1 + column) * _WIDE - 2
    return f'<rect class="mark" x="{x:g}" y="{y * _HIGH - 14:g}" width="{length * _WIDE + 4:g}" height="19" rx="3"/>'
