"""Where in a feature's ids the segments stand that may be cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Span = tuple[int, int]
SpanFinder = Callable[[Mapping[str, Any]], Sequence[Span]]
"""Feature -> its ``(start, end)`` spans, ascending and apart. A finder may name the ``columns`` that only it reads."""

ITEM_SPANS = "item_spans"
IGNORED_LABEL = -100


class ColumnSpans:
    """Spans that the dataset wrote into a column.

    Parameters
    ----------
    column : str
        Holds ``[(start, end), ...]`` into the feature's ids.
    """

    def __init__(self, column: str = ITEM_SPANS) -> None:
        self.column, self.columns = column, (column,)

    def __call__(self, feature: Mapping[str, Any]) -> Sequence[Span]:
        """The feature's spans.

        Raises
        ------
        ValueError
            If the column is not there.
        """
        return [(int(start), int(end)) for start, end in _column(feature, self.column)]


class MarkerSpans:
    """Spans between a begin and an end marker; the markers themselves stay.

    Parameters
    ----------
    begin, end : int
        Token ids. They may be the same (a separator): then everything between two of them is a span.
    separator : int, optional
        Splits what stands between begin and end into spans, as in ``begin item separator item end``.
    ids : str
        The column to look in.
    """

    columns: tuple[str, ...] = ()

    def __init__(self, begin: int, end: int, separator: int | None = None, *, ids: str = "input_ids") -> None:
        self.begin, self.end, self.separator, self.ids = begin, end, separator, ids

    def __call__(self, feature: Mapping[str, Any]) -> Sequence[Span]:
        """The feature's spans, empty ones left out.

        Raises
        ------
        ValueError
            If a marker is missing its partner.
        """
        ids = np.asarray(_column(feature, self.ids))
        marks = np.flatnonzero((ids == self.begin) | (ids == self.end)).tolist()
        if self.begin == self.end:
            pairs = list(pairwise(marks))
        else:
            pairs = list(zip(marks[::2], marks[1::2], strict=False))
            if len(marks) % 2 or any(ids[a] != self.begin or ids[b] != self.end for a, b in pairs):
                raise ValueError(
                    f"the markers {self.begin} and {self.end} are not balanced: they stand at {marks[:10]}; expected "
                    "begin and end in turn."
                )
        if self.separator is not None:
            inner = np.flatnonzero(ids == self.separator).tolist()
            pairs = [cut for a, b in pairs for cut in pairwise([a, *(s for s in inner if a < s < b), b])]
        return [(a + 1, b) for a, b in pairs if b > a + 1]


class UnlabelledSpans:
    """Every run of tokens that the loss does not look at: the prompt, as it was tokenised.

    Parameters
    ----------
    mask : str
        ``"labels"`` (a label other than -100 counts), or a column of 0 and 1 such as TRL's ``completion_mask``.

    Notes
    -----
    Padding (``attention_mask`` 0) is no part of a span. Special tokens stay, as everywhere.
    """

    columns: tuple[str, ...] = ()

    def __init__(self, mask: str = "labels") -> None:
        self.mask = mask

    def __call__(self, feature: Mapping[str, Any]) -> Sequence[Span]:
        """The runs of the feature, of at least one token."""
        labels = np.asarray(_column(feature, self.mask))
        free = labels == (IGNORED_LABEL if self.mask == "labels" else 0)
        mask = feature.get("attention_mask")
        if mask is not None and len(mask) == len(free):
            free = free & (np.asarray(mask) != 0)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], free, [False]])))
        return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


class ItemStringSpans:
    """Spans of the items' strings in the prompt, by the character offsets that a fast tokenizer gives.

    Parameters
    ----------
    text, items, offsets : str
        Columns: the prompt; the items' strings in the order they stand in it; ``offset_mapping`` of the prompt's
        tokens (``return_offsets_mapping=True``). All three are removed before the base collator.
    """

    def __init__(self, text: str = "prompt", items: str = "items", offsets: str = "offset_mapping") -> None:
        self.text, self.items, self.offsets = text, items, offsets
        self.columns = (text, items, offsets)

    def __call__(self, feature: Mapping[str, Any]) -> Sequence[Span]:
        """The span of each item; see :func:`spans_of_strings`."""
        text, items, offsets = (_column(feature, name) for name in self.columns)
        return spans_of_strings(text, items, offsets)


def spans_of_strings(text: str, strings: Sequence[str], offsets: Any) -> list[Span]:
    """The tokens of each of ``strings`` in ``text``.

    Parameters
    ----------
    text : str
    strings : list of str
        In the order they stand in ``text``; each is looked for behind the one before.
    offsets : int ``[L, 2]``
        Start and end of each token in characters of ``text``; tokens of no width (special ones) belong to none.

    Returns
    -------
    list of (start, end)
        Of the tokens that lie wholly in the string, white space before it aside: a token that holds a quote too is
        left out, and so never dropped.

    Raises
    ------
    ValueError
        If a string is not there.

    Examples
    --------
    >>> spans_of_strings('a "gel pen", b', ["gel pen"], [(0, 1), (1, 3), (3, 6), (6, 10), (10, 11), (11, 14)])
    [(2, 4)]
    """
    bounds: NDArray[np.int64] = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)
    starts, ends = bounds[:, 0].copy(), bounds[:, 1]
    blank = np.fromiter((c.isspace() for c in text), dtype=bool, count=len(text))
    for _ in range(2):  # a token may carry the space before its word
        inside = starts < np.minimum(ends, len(text))
        starts[inside] += blank[starts[inside]]
    solid = ends > bounds[:, 0]
    spans, place = [], 0
    for string in strings:
        found = text.find(string, place)
        if found < 0:
            raise ValueError(
                f"the item {string!r} does not stand in the text after character {place}; give the items in the order "
                "and the spelling of the prompt."
            )
        place = found + len(string)
        tokens = np.flatnonzero(solid & (starts >= found) & (ends <= place))
        if len(tokens):
            spans.append((int(tokens[0]), int(tokens[-1]) + 1))
    return spans


def find_spans(spans: str | tuple[int, ...] | SpanFinder) -> SpanFinder:
    """The finder that ``spans`` means: a column's name, marker ids, or a callable itself."""
    if isinstance(spans, str):
        return ColumnSpans(spans)
    if isinstance(spans, tuple) and len(spans) in (2, 3):
        return MarkerSpans(*spans)
    if callable(spans):
        return spans
    raise ValueError(
        f"spans must be a column's name, a pair of marker ids (with a separator's, if any) or a callable; "
        f"found {spans!r}."
    )


def check_spans(spans: Sequence[Span], length: int) -> list[Span]:
    """``spans`` as they are, or a ValueError: outside ``length`` tokens, reversed, overlapping or out of order."""
    before = 0
    for start, end in spans:
        if not 0 <= start <= end <= length:
            raise ValueError(
                f"span ({start}, {end}) does not fit its {length} tokens; expected 0 <= start <= end <= {length}."
            )
        if start < before:
            raise ValueError(
                f"span ({start}, {end}) overlaps or precedes the one that ends at {before}; spans must ascend."
            )
        before = end
    return list(spans)


def _column(feature: Mapping[str, Any], name: str) -> Any:
    if not isinstance(feature, Mapping) or name not in feature:
        found = sorted(feature) if isinstance(feature, Mapping) else type(feature).__name__
        raise ValueError(
            f"there is no column {name!r} among {found}; if a Trainer removed it, set "
            "remove_unused_columns=False in its TrainingArguments."
        )
    return feature[name]
