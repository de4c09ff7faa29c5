"""Find the columns of a feature that hold one value a token, and cut them alike."""

from __future__ import annotations

import warnings
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tsporec.collators.positions import Ints, Reposition
from tsporec.collators.spans import (
    DOCUMENTS,
    IGNORED_LABEL,
    MarkerSpans,
    Span,
    SpanFinder,
    check_spans,
    document_ends,
    prefix_of,
    read_spans,
)

TOKEN_COLUMNS = (
    "attention_mask",
    "token_type_ids",
    "mm_token_type_ids",
    "position_ids",
    "special_tokens_mask",
    "offset_mapping",
    "labels",
    "loss_mask",
    "weights",
    "completion_mask",
    "assistant_masks",
)
"""The columns that are known to hold one value a token, besides the ids."""


class Part(NamedTuple):
    """One run of ids in a feature, and the spans in it that may be cut."""

    ids: Ints  # [L]
    spans: list[Span]  # ascending, without overlap
    budgets: list[int]  # the number of each span's budget
    items: list[Any]  # the id of each span's item, or None
    labelled: NDArray[np.bool_]  # [L]: tokens with a label


class FlatColumns:
    """The layout of nearly every dataset: one flat list of ids, and columns with one value for each of them.

    There is one span finder for each budget. The known per-token columns (:data:`TOKEN_COLUMNS`) have the prefix of the
    ids: ``prompt_ids`` and ``prompt_attention_mask``. ``token_columns``, ``whole_columns`` and ``item_ids`` are those
    of :class:`~tsporec.collators.selector.SelectorCollator`. ``uncut`` counts the features with an unknown column that
    was as long as the ids and passed whole, by column.
    """

    def __init__(
        self,
        finders: Sequence[SpanFinder],
        ids: str,
        token_columns: Sequence[str],
        whole_columns: Sequence[str],
        reposition: Reposition,
        item_ids: str | None = None,
    ) -> None:
        self.finders, self.ids, self.reposition, self.item_ids = list(finders), ids, reposition, item_ids
        self.prefix = prefix_of(ids)
        self.labels = f"{self.prefix}labels"
        self.whole_columns = {DOCUMENTS, *whole_columns}
        known = {ids, *(self.prefix + name for name in TOKEN_COLUMNS), *token_columns}
        self.token_columns = known - self.whole_columns
        self.span_columns = {name for finder in finders for name in getattr(finder, "columns", ())}
        self.span_columns |= set() if item_ids is None else {item_ids}
        self.uncut: Counter[str] = Counter()

    def parts(self, feature: Mapping[str, Any]) -> list[Part]:
        """Return the one part of the feature, or none if it has no ids and no span."""
        found = []
        for number, finder in enumerate(self.finders):
            spans = read_spans(finder, feature)
            items = span_items(feature, self.item_ids, len(spans))
            found += [(span, number, item) for span, item in zip(spans, items, strict=True)]
        if not isinstance(feature, Mapping) or self.ids not in feature:
            if not found:
                return []
            names = sorted(feature) if isinstance(feature, Mapping) else type(feature).__name__
            raise ValueError(f"there is no column {self.ids!r} among {names}. Tokenise before collating.")
        ids = flat_ids(feature[self.ids], self.ids)
        found.sort(key=lambda one: one[0])
        check_spans([span for span, *_ in found], len(ids))
        self._check_lengths(feature, len(ids))
        found = split_at(found, document_ends(feature, len(ids), self.prefix))
        spans, budgets, items = map(list, zip(*found, strict=True)) if found else ([], [], [])
        return [Part(ids, spans, budgets, items, self._labelled(feature, len(ids)))]

    def rebuild(self, feature: Mapping[str, Any], kept: Sequence[Ints | None]) -> Mapping[str, Any]:
        """Return the feature without its span columns, cut to the ``kept`` positions of its part (None: all)."""
        if not kept and not (isinstance(feature, Mapping) and self.span_columns.intersection(feature)):
            return feature
        columns = {name: value for name, value in feature.items() if name not in self.span_columns}
        if not kept or kept[0] is None:
            return columns
        length = len(feature[self.ids])
        for name, value in columns.items():
            if name in self.token_columns:
                columns[name] = self._cut(name, value, kept[0], length)
            elif name == DOCUMENTS and value is not None:
                ends = np.searchsorted(kept[0], np.cumsum(np.asarray(value)))
                columns[name] = like(value, np.diff(ends, prepend=0))
            elif length in shape_of(value):
                self._note_uncut(name, length)
        return columns

    def _cut(self, name: str, value: Any, kept: Ints, length: int) -> Any:
        """Return a per-token column at the ``kept`` positions, in the type it had."""
        shape, kind = shape_of(value), name.removeprefix(self.prefix)
        if not shape or (len(shape) == 1 and shape[0] != length):
            return value  # one value, or an encoder-decoder's labels
        # Rows of values have their tokens on the last axis (positions [3, 1, L]), values with parts on the first.
        parts = len(shape) == 1 or kind == "offset_mapping" or kind not in TOKEN_COLUMNS
        axes = [axis for axis in ((0, -1) if parts else (-1, 0)) if shape[axis] == length]
        grid = kind == "attention_mask" and max(shape[:-1], default=1) > 1  # who sees whom: [..., L, L]
        grid |= kind not in TOKEN_COLUMNS and shape[-2:] == (length, length)
        if not axes or (grid and shape[-2:] != (length, length)):
            raise ValueError(
                f"{name} has shape {shape} for {length} tokens, of which some are dropped; expected one value a token, "
                f"or a mask [..., {length}, {length}]. If it is not per token, give whole_columns=[{name!r}]."
            )
        if kind == "position_ids":
            places = np.asarray(value)
            if places.dtype.kind not in "iu":
                raise ValueError(f"{name} must be whole numbers; found {places.dtype}.")
            places = np.moveaxis(places.astype(np.int64), axes[0], -1)
            return like(value, np.moveaxis(self.reposition(places, kept), -1, axes[0]))
        return cut(cut(value, kept, -1), kept, 0 if len(shape) == 2 else -2) if grid else cut(value, kept, axes[0])

    def _check_lengths(self, feature: Mapping[str, Any], length: int) -> None:
        for name in self.token_columns.intersection(feature):
            shape = shape_of(feature[name])
            if len(shape) == 1 and shape[0] != length and name != self.labels:
                raise ValueError(
                    f"{name} has {shape[0]} values and {self.ids} has {length} tokens; expected one value a token."
                )

    def _labelled(self, feature: Mapping[str, Any], length: int) -> NDArray[np.bool_]:
        """Return which tokens have a label in any row: bool ``[L]``."""
        labels = feature.get(self.labels)
        if self.labels not in self.token_columns or shape_of(labels)[-1:] != (length,):
            return np.zeros(length, dtype=bool)
        labelled: NDArray[np.bool_] = (np.asarray(labels).reshape(-1, length) != IGNORED_LABEL).any(axis=0)
        return labelled

    def _note_uncut(self, name: str, length: int) -> None:
        if name in self.whole_columns or not (name.startswith(self.prefix) or name in TOKEN_COLUMNS):
            return
        self.uncut[name] += 1
        if self.uncut[name] == 1:
            warnings.warn(
                f"column {name!r} has an axis as long as {self.ids} ({length} tokens), and it is passed whole. Give "
                f"token_columns=[{name!r}] if it holds one value a token, whole_columns=[{name!r}] if it does not. "
                "Further features with it are counted in collator.layout.uncut.",
                stacklevel=2,
            )


def split_at(found: list[Any], ends: list[int]) -> list[Any]:
    """Split spans, with what belongs to each, where a document ends: no segment reaches over two documents.

    >>> split_at([((1, 5), "a"), ((6, 7), "b")], [3, 9])
    [((1, 3), 'a'), ((3, 5), 'a'), ((6, 7), 'b')]
    """
    if not ends:
        return found
    return [
        (piece, *rest)
        for (start, end), *rest in found
        for piece in pairwise([start, *ends[bisect_right(ends, start) : bisect_left(ends, end)], end])
    ]


def span_items(feature: Mapping[str, Any], column: str | None, count: int) -> list[Any]:
    """Return the item id of each of ``count`` spans from the feature's column; None for each without a column.

    >>> span_items({"item_ids": np.array([7, 9])}, "item_ids", 2)
    [7, 9]
    """
    if column is None:
        return [None] * count
    if column not in feature:
        raise ValueError(f"there is no column {column!r} of item ids among {sorted(feature)}.")
    items = as_list(feature[column])
    if len(items) != count:
        raise ValueError(f"{column} has {len(items)} ids for {count} spans; expected one id a span.")
    return items


def spans_of_whole(finder: SpanFinder, ids: Sequence[int], pair: Sequence[Any]) -> list[Span]:
    """Return the spans of a text, or a pair, that was encoded whole. A marker without its partner is a ValueError."""
    if isinstance(finder, MarkerSpans) and any(finder.lost(np.asarray(ids))):
        text = pair[0] if pair[1] is None else pair
        raise ValueError(
            f"the markers {finder.begin} and {finder.end} are not balanced in the text {text!r:.60}; expected begin "
            "and end in turn."
        )
    return check_spans(read_spans(finder, {"input_ids": ids}), len(ids))


def as_list(value: Any) -> list[Any]:
    """Return item ids as a list: a single id, a list, an array or a tensor.

    >>> as_list("B01"), as_list(np.array([7, 9]))
    (['B01'], [7, 9])
    """
    if isinstance(value, str | int):
        return [value]
    if not isinstance(value, Iterable):
        raise ValueError(f"expected an item id or a list of them; found {value!r:.60}.")
    found = value.tolist() if hasattr(value, "tolist") else list(value)
    return found if isinstance(found, list) else [found]


def flat_ids(value: Any, name: str) -> Ints:
    """Return ``value`` as int64 ``[L]``; a ValueError if it is not one flat list of integers that fit int32."""
    try:
        ids = np.asarray(value)
    except (ValueError, TypeError, RuntimeError):  # ragged lists; tensors without data, or with a gradient
        ids = np.zeros((0, 0))
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise ValueError(f"{name} must be one flat list of integers; found shape {ids.shape}, {ids.dtype}.")
    if ids.size and not -(2**31) <= ids.min() <= ids.max() < 2**31:
        raise ValueError(f"{name} must fit int32; found values from {ids.min()} to {ids.max()}.")
    return ids.astype(np.int64)


def shape_of(value: Any) -> tuple[int, ...]:
    """Return the shape of a column's value; lists are measured by their first elements. () for scalars and text.

    >>> shape_of([[1, 2, 3], [4, 5, 6]]), shape_of("text"), shape_of(np.zeros((3, 1, 5)))
    ((2, 3), (), (3, 1, 5))
    """
    if hasattr(value, "shape"):
        return tuple(value.shape)
    if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__len__"):
        return ()
    return (len(value), *(shape_of(value[0]) if len(value) and isinstance(value, Sequence) else ()))


def cut(value: Any, kept: Ints, axis: int = 0) -> Any:
    """Return ``value`` at the ``kept`` places of its first (0), last (-1) or last but one (-2) axis, in its type.

    >>> cut([5, 6, 7], np.array([0, 2])), cut([[5, 6, 7]], np.array([0, 2]), -1)
    ([5, 7], [[5, 7]])
    """
    if axis == 0 and isinstance(value, list | tuple):
        return type(value)(map(value.__getitem__, kept.tolist()))
    array = value if hasattr(value, "shape") else np.asarray(value)
    return like(value, array[{0: (kept,), -1: (..., kept), -2: (..., kept, slice(None))}[axis]])


def like(value: Any, array: Any) -> Any:
    """Return ``array`` in the type of ``value``: list, tuple, numpy array or tensor, with its dtype."""
    if isinstance(value, list | tuple):
        return type(value)(array.tolist())
    if isinstance(value, np.ndarray):
        return array.astype(value.dtype)
    if hasattr(value, "new_tensor"):
        return array if type(array) is type(value) else value.new_tensor(array)
    return array.tolist()
