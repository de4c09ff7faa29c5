"""Where in a feature's ids the segments stand that may be cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

Span = tuple[int, int]
SpanFinder = Callable[[Mapping[str, Any]], Sequence[Span]]
"""Feature -> its ``(start, end)`` spans, ascending and apart."""

ITEM_SPANS = "item_spans"


class ColumnSpans:
    """Spans that the dataset wrote into a column.

    Parameters
    ----------
    column : str
        Holds ``[(start, end), ...]`` into the feature's ``input_ids``.
    """

    def __init__(self, column: str = ITEM_SPANS) -> None:
        self.column = column

    def __call__(self, feature: Mapping[str, Any]) -> Sequence[Span]:
        """The feature's spans.

        Raises
        ------
        ValueError
            If the column is not there.
        """
        if self.column not in feature:
            raise ValueError(
                f"there is no column {self.column!r} among {sorted(feature)}; if a Trainer removed it, set "
                "remove_unused_columns=False in its TrainingArguments."
            )
        return [(int(start), int(end)) for start, end in feature[self.column]]


class MarkerSpans:
    """Spans between a begin and an end marker in ``input_ids``; the markers themselves stay.

    Parameters
    ----------
    begin, end : int
        Token ids. They may be the same (a separator): then everything between two of them is a span.
    """

    def __init__(self, begin: int, end: int) -> None:
        self.begin, self.end = begin, end

    def __call__(self, feature: Mapping[str, Any]) -> Sequence[Span]:
        """The feature's spans, empty ones left out.

        Raises
        ------
        ValueError
            If a marker is missing its partner.
        """
        ids = [int(i) for i in feature["input_ids"]]
        marks = [i for i, token in enumerate(ids) if token in (self.begin, self.end)]
        if self.begin == self.end:
            pairs = list(pairwise(marks))
        else:
            pairs = list(zip(marks[::2], marks[1::2], strict=False))
            if len(marks) % 2 or any(ids[a] != self.begin or ids[b] != self.end for a, b in pairs):
                raise ValueError(
                    f"the markers {self.begin} and {self.end} are not balanced: they stand at {marks[:10]}; expected "
                    "begin and end in turn."
                )
        return [(a + 1, b) for a, b in pairs if b > a + 1]


def find_spans(spans: str | tuple[int, int] | SpanFinder) -> SpanFinder:
    """The finder that ``spans`` means: a column's name, a pair of marker ids, or a callable itself."""
    if isinstance(spans, str):
        return ColumnSpans(spans)
    if isinstance(spans, tuple):
        return MarkerSpans(*spans)
    if callable(spans):
        return spans
    raise ValueError(f"spans must be a column's name, a pair of marker ids or a callable; found {spans!r}.")


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
