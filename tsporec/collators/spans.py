"""Find the segments of a feature's ids that may be cut."""

from __future__ import annotations

import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

Span = tuple[int, int]
SpanFinder = Callable[[Mapping[str, Any]], Sequence[Span]]
"""Feature -> its ``(start, end)`` spans, ascending, without overlap. ``columns`` of a finder are read by it alone."""

ITEM_SPANS = "item_spans"
DOCUMENTS = "seq_lengths"
"""Column of TRL's packed features: the lengths of their documents."""
IGNORED_LABEL = -100


class _CountsCutOff:
    """Count the item texts that truncation cut off before their spans were found, and warn of the first."""

    cut_off = 0

    def _note(self, count: int) -> None:
        if count and not self.cut_off:
            warnings.warn(
                "truncation or packing cut off an item's text; what is left of it is its span, and items behind it are "
                "lost. Shorten the items before that: dataset.map(collator.cut_columns, batched=True) or "
                "wrap_tokenizer(…, spans=…). Further ones are counted in the cut_off of these spans.",
                stacklevel=3,
            )
        self.cut_off += count


class ColumnSpans:
    """Read the spans from a column of the dataset: ``[(start, end), ...]``, positions in the feature's ids.

    >>> ColumnSpans()({"input_ids": [5, 6, 7], "item_spans": [(1, 3)]})
    [(1, 3)]
    """

    def __init__(self, column: str = ITEM_SPANS) -> None:
        self.column, self.columns = column, (column,)

    def __call__(self, feature: Mapping[str, Any]) -> Any:
        """Return the column's value; a ValueError if ``feature`` lacks it."""
        return _column(feature, self.column)


class MarkerSpans(_CountsCutOff):
    """Find the spans between the token ids ``begin`` and ``end``. The markers stay.

    If both are the same id, everything between two markers is a span. A ``separator`` splits the text between begin and
    end into several spans. ``ids`` names the column of token ids. Where truncation took an item's end marker, its span
    ends with its document; such items are counted in ``cut_off``.

    >>> MarkerSpans(90, 91, 92)({"input_ids": [90, 5, 6, 92, 7, 91, 8]})
    [(1, 3), (4, 5)]
    """

    columns: tuple[str, ...] = ()

    def __init__(self, begin: int, end: int, separator: int | None = None, *, ids: str = "input_ids") -> None:
        self.begin, self.end, self.separator, self.ids = begin, end, separator, ids

    def __call__(self, feature: Mapping[str, Any]) -> Sequence[Span]:
        """Return the spans of ``feature`` that are not empty; a ValueError if markers do not stand in turn."""
        ids = np.asarray(_column(feature, self.ids))
        marks = np.flatnonzero((ids == self.begin) | (ids == self.end)).tolist()
        ends = document_ends(feature, len(ids), prefix_of(self.ids)) or [len(ids)]
        pairs = []
        for start, end in pairwise([0, *ends]):
            pairs += self._pairs(ids, marks[bisect_left(marks, start) : bisect_left(marks, end)], start, end)
        if self.separator is not None:
            inner = np.flatnonzero(ids == self.separator).tolist()
            between = [(a, *inner[bisect_right(inner, a) : bisect_left(inner, b)], b) for a, b in pairs]
            pairs = [pair for marks in between for pair in pairwise(marks)]
        return [(a + 1, b) for a, b in pairs if b > a + 1]

    def lost(self, ids: NDArray[Any]) -> list[bool]:
        """Return whether the first marker in a document lacks the one before it, and the last the one behind it."""
        marks = ids[(ids == self.begin) | (ids == self.end)].tolist()
        return [marks[:1] == [self.end], marks[-1:] == [self.begin]] if self.begin != self.end else [False, False]

    def _pairs(self, ids: NDArray[Any], marks: list[int], start: int, end: int) -> list[Span]:
        """Pair the markers of the document from ``start`` to ``end``. Its borders take the place of lost markers."""
        if self.begin == self.end:
            return list(pairwise(marks))
        lost = self.lost(ids[start:end])
        marks = [start - 1] * lost[0] + marks + [end] * lost[1]
        pairs = list(zip(marks[::2], marks[1::2], strict=False))
        whole = pairs[lost[0] : len(pairs) - lost[1]]
        if len(marks) % 2 or any(ids[a] != self.begin or ids[b] != self.end for a, b in whole):
            raise ValueError(
                f"the markers {self.begin} and {self.end} are not balanced: they stand at {marks[:10]}; expected "
                "begin and end in turn."
            )
        self._note(sum(lost))
        return pairs


class UnlabelledSpans:
    """Find every run of tokens that the loss ignores: the prompt, as it was tokenised.

    ``mask`` is ``"labels"``, in which -100 is no label, or a column of 0 and 1 such as TRL's ``completion_mask``. A
    feature without it is read by its labels, since TRL 1.16 makes labels of its masks. Padding (``attention_mask`` 0)
    is in no span. Special tokens are kept, as everywhere.

    >>> UnlabelledSpans()({"input_ids": [5, 6, 7], "labels": [-100, -100, 7]})
    [(0, 2)]
    """

    columns: tuple[str, ...] = ()

    def __init__(self, mask: str = "labels") -> None:
        self.mask = mask

    def __call__(self, feature: Mapping[str, Any]) -> Sequence[Span]:
        """Return the runs of ``feature``; a ValueError if it has neither column."""
        mask = "labels" if self.mask not in feature and "labels" in feature else self.mask
        free = np.asarray(_column(feature, mask)) == (IGNORED_LABEL if mask == "labels" else 0)
        attended = feature.get("attention_mask")
        if attended is not None and np.shape(attended) == free.shape:
            free &= np.asarray(attended) != 0
        if free.ndim > 1:  # labels [R, L]: a token with a label in any row is no part of a run
            free = free.reshape(-1, free.shape[-1]).all(axis=0)
        # Where a run starts or ends: free [1, 1, 0, 1] -> edges [0, 2, 3, 4].
        edges = np.flatnonzero(np.diff(np.concatenate([[False], free, [False]])))
        return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


class ItemStringSpans(_CountsCutOff):
    """Find the items' strings in the prompt, by the character offsets of a fast tokenizer.

    Three columns are read and removed before the base collator: ``prompt``, the text; ``items``, the items' strings in
    the order in which they stand in it; and the ``offset_mapping`` of its tokens. ``ids`` names the column of token
    ids, one for each pair of offsets. Items that truncation cut off are counted in ``cut_off``.
    """

    columns = ("prompt", "items", "offset_mapping")

    def __init__(self, ids: str = "input_ids") -> None:
        self.ids = ids

    def __call__(self, feature: Mapping[str, Any]) -> Sequence[Span]:
        """Return the span of each item; see :func:`spans_of_strings`."""
        text, items, offsets = (_column(feature, name) for name in self.columns)
        tokens, pairs = len(_column(feature, self.ids)), len(offsets) if hasattr(offsets, "__len__") else 0
        if pairs != tokens:
            raise ValueError(
                f"{self.columns[2]} has {pairs} pairs and {self.ids} has {tokens} tokens; expected the offsets "
                "of each token, (0, 0) for one that was added to the text."
            )
        spans = spans_of_strings(text, items, offsets)
        bounds = np.asarray(offsets, dtype=np.int64).reshape(-1, 2)
        read = bounds[bounds[:, 1] > bounds[:, 0]]
        if len(read):
            where = [(end - len(item.lstrip()), start + len(item.rstrip())) for item, start, end in _find(text, items)]
            self._note(sum(start < end and (start < read[0, 0] or end > read[-1, 1]) for start, end in where))
        return spans


def spans_of_strings(text: str, strings: Sequence[str], offsets: Any) -> list[Span]:
    """Return the span of the tokens of each string in ``text``.

    Strings stand in ``text`` in their order. ``offsets`` int ``[L, 2]`` are the start and end of each token in
    characters of ``text``; special tokens have no width and are in no string. A span has the tokens that lie wholly in
    its string; white space before the string does not count. A token that also holds a quote is therefore outside, and
    never dropped. A string without such a token has no span. A string that is not in the text, or in which no token
    has offsets, is a ``ValueError``; so are offsets that are not of this text.

    >>> spans_of_strings('a "gel pen", b', ["gel pen"], [(0, 1), (1, 3), (3, 6), (6, 10), (10, 11), (11, 14)])
    [(2, 4)]
    """
    listed = isinstance(strings, Iterable) and not isinstance(strings, str)
    if not listed or not all(isinstance(one, str) for one in (text, *strings)):
        raise ValueError(f"expected a text and a list of the items' strings; found {text!r:.60} and {strings!r:.60}.")
    bounds = _read_offsets(offsets, len(text))
    solid = np.flatnonzero(bounds[:, 1] > bounds[:, 0])
    if len(bounds) and strings and not len(solid):
        raise ValueError(f"all {len(bounds)} offsets are empty; expected the start and end of each token in the text.")
    starts, ends = _skip_blanks(text, bounds)[solid], bounds[solid, 1]
    if (np.diff(starts) < 0).any() or (np.diff(ends) < 0).any():
        raise ValueError("offsets fall; expected the tokens in the order of the text.")
    spans = []
    for string, found, place in _find(text, strings):
        first, last = np.searchsorted(starts, [found, place]), np.searchsorted(ends, [found, place], side="right")
        if first[0] < last[1]:  # tokens that lie wholly in the string
            spans.append((int(solid[first[0]]), int(solid[last[1] - 1]) + 1))
        elif string.strip() and last[0] == first[1] and 0 < last[0] < len(solid):  # tokens on both sides, none in it
            raise ValueError(f"no token has offsets in the item {string!r}, characters {found} to {place} of the text.")
    return spans


def _find(text: str, strings: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Yield each string with its start and end in ``text``, in order; a ValueError if one is not there."""
    end = 0
    for string in strings:
        start = text.find(string, end)
        if start < 0:
            raise ValueError(
                f"the item {string!r} does not stand in the text after character {end}; give the items in the order "
                "and the spelling of the prompt."
            )
        end = start + len(string)
        yield string, start, end


def _read_offsets(offsets: Any, length: int) -> NDArray[np.int64]:
    """Return offsets int64 ``[L, 2]``; a ValueError if they are no pairs of places in a text of ``length``."""
    bounds = np.asarray(offsets) if len(offsets) else np.zeros((0, 2), dtype=np.int64)
    if bounds.ndim != 2 or bounds.shape[1] != 2 or bounds.dtype.kind not in "iu":
        raise ValueError(f"offsets must be pairs of whole numbers; found {bounds.dtype} {bounds.shape}.")
    if bounds.min(initial=0) < 0 or bounds.max(initial=0) > length:
        raise ValueError(
            f"offsets from {bounds.min()} to {bounds.max()} do not fit the text of {length} characters; give the text "
            "that was tokenised."
        )
    return bounds.astype(np.int64)


def _skip_blanks(text: str, bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the starts of tokens, moved behind up to two blanks: a token may carry the space before its word."""
    blank = np.fromiter((c.isspace() for c in text), dtype=bool, count=len(text))
    starts = bounds[:, 0].copy()
    for _ in range(2):
        inside = (starts < np.minimum(bounds[:, 1], len(text))) & (starts >= 0)
        starts[inside] += blank[starts[inside]]
    return starts


def find_spans(spans: str | tuple[int, ...] | SpanFinder) -> SpanFinder:
    """Return the finder that ``spans`` means: the name of a column, marker ids, or a finder itself.

    >>> find_spans((90, 91))({"input_ids": [90, 5, 91]})
    [(1, 2)]
    """
    if isinstance(spans, str):
        return ColumnSpans(spans)
    if isinstance(spans, tuple) and len(spans) in (2, 3):
        return MarkerSpans(*spans)
    if callable(spans):
        return spans
    raise ValueError(
        f"spans must be a column's name, a pair of marker ids (and a separator's) or a callable; found {spans!r}."
    )


def read_spans(finder: SpanFinder, feature: Mapping[str, Any]) -> list[Span]:
    """Return the spans that ``finder`` finds as pairs of whole numbers; a ValueError if they are none."""
    value = finder(feature)
    try:
        return [(index(start), index(end)) for start, end in value]
    except (TypeError, ValueError) as error:
        name = getattr(finder, "column", "spans")
        raise ValueError(f"{name} must be a list of (start, end), whole numbers; found {value!r:.80}.") from error


def check_spans(spans: list[Span], length: int) -> list[Span]:
    """Return ``spans``; a ValueError if one is outside ``length`` tokens, reversed, overlapping or out of order."""
    before = 0
    for start, end in spans:
        if not 0 <= start <= end <= length:
            raise ValueError(
                f"span ({start}, {end}) does not fit its {length} tokens; expected 0 <= start <= end <= {length}. If "
                "ids were truncated since, cut the items before: dataset.map(collator.cut_columns, batched=True)."
            )
        if start < before:
            raise ValueError(
                f"span ({start}, {end}) overlaps or precedes the one that ends at {before}; spans must ascend."
            )
        before = end
    return spans


def prefix_of(ids: str) -> str:
    """Return what the per-token columns beside a column of ids begin with.

    >>> prefix_of("input_ids"), prefix_of("prompt_ids"), prefix_of("tokens")
    ('', 'prompt_', '')
    """
    return ids.removesuffix("input_ids").removesuffix("ids") if ids.endswith("ids") else ""


def document_ends(feature: Mapping[str, Any], length: int, prefix: str = "") -> list[int]:
    """Return where documents that are packed into the feature end: by their lengths, or where positions fall.

    >>> document_ends({"seq_lengths": [3, 2]}, 5), document_ends({"position_ids": [0, 1, 2, 0, 1]}, 5)
    ([3, 5], [3, 5])
    """
    lengths, positions = feature.get(DOCUMENTS), feature.get(f"{prefix}position_ids")
    if lengths is not None:
        counts = np.asarray(lengths if len(lengths) else np.zeros(0, dtype=np.int64))
        if counts.ndim != 1 or counts.dtype.kind not in "iu" or (counts < 0).any() or counts.sum() != length:
            raise ValueError(f"{DOCUMENTS} must add up to the {length} tokens of the feature; found {lengths}.")
        ends: list[int] = np.cumsum(counts).tolist()
        return ends
    if positions is None or np.shape(positions)[-1:] != (length,):
        return []
    rows = np.asarray(positions)
    if rows.dtype.kind not in "iu":
        raise ValueError(f"{prefix}position_ids must be whole numbers; found {rows.dtype}.")
    falls = (np.diff(rows, axis=-1) < 0).all(axis=tuple(range(rows.ndim - 1)))
    return [*(np.flatnonzero(falls) + 1).tolist(), length]


def _column(feature: Mapping[str, Any], name: str) -> Any:
    if not isinstance(feature, Mapping) or name not in feature:
        if not isinstance(feature, Mapping):
            raise ValueError(f"expected a list of features, each a mapping with {name!r}; found {feature!r:.60} in it.")
        raise ValueError(
            f"there is no column {name!r} among {sorted(feature)}; under a Trainer set remove_unused_columns=False."
        )
    return feature[name]
