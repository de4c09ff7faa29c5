"""Selection as a collator around a collator: the recommender, its dataset and its Trainer stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec import positions as position_policies
from tsporec.budget import Budget
from tsporec.ragged import RaggedTokens, lengths_to_offsets
from tsporec.scorers.base import Scorer
from tsporec.scorers.cached import CachedScorer
from tsporec.selection import select
from tsporec.spans import ITEM_SPANS, ColumnSpans, Span, SpanFinder, check_spans, find_spans

IDS, LABELS, POSITIONS = "input_ids", "labels", "position_ids"
IGNORED_LABEL = -100


class SelectorCollator:
    """Cut the item texts of every feature to the best tokens, then call the collator it wraps.

    Parameters
    ----------
    base_collator : callable
        Takes a list of features and makes a batch: any Hugging Face collator, or one's own.
    selector : Scorer
        A :class:`~tsporec.selector.TokenSelector` bound to the tokenizer, or any other scorer.
    budget : Budget
        Of each span; a ``total`` is shared by the spans of a feature, in their order.
    spans : str, (int, int) or callable
        Where the item texts stand in ``input_ids``: a column of ``[(start, end), ...]`` (removed before the base
        collator), a pair of begin and end marker ids, or a callable ``feature -> [(start, end), ...]``.
    positions : "renumber", "keep" or "right_align"
        What becomes of a ``position_ids`` column; see :mod:`tsporec.positions`.
    protected_ids : ints, optional
        Token ids that are always kept; by default the special tokens of the base collator's ``tokenizer``, if any.
    cache_tokens : int
        Scores of so many tokens of item texts are remembered. 0: none.

    Notes
    -----
    Never dropped: text outside spans, ``protected_ids``, tokens whose label is not -100. A non-empty span keeps at
    least one token. Every column as long as ``input_ids`` is per token and cut alike (lists, numpy arrays and
    tensors keep their type); other columns pass. With a budget that drops nothing, features reach the base
    collator unchanged but for the span column.

    Examples
    --------
    >>> collator = SelectorCollator(                                                  # doctest: +SKIP
    ...     DataCollatorForSeq2Seq(tokenizer), selector, budget=Budget(tokens=16), spans="item_spans"
    ... )
    >>> Trainer(model, TrainingArguments(..., remove_unused_columns=False), data_collator=collator)  # doctest: +SKIP
    """

    def __init__(
        self,
        base_collator: Callable[[list[dict[str, Any]]], Any],
        selector: Scorer,
        budget: Budget,
        spans: str | tuple[int, int] | SpanFinder = ITEM_SPANS,
        *,
        positions: str = "renumber",
        protected_ids: Sequence[int] | None = None,
        cache_tokens: int = 4_000_000,
    ) -> None:
        self.base_collator, self.budget = base_collator, budget
        self.scorer = CachedScorer(selector, cache_tokens) if cache_tokens else selector
        self.find = find_spans(spans)
        self.span_column = self.find.column if isinstance(self.find, ColumnSpans) else None
        self.reposition = position_policies.policy(positions)
        if budget.total is not None and budget.minimum < 1:
            raise ValueError("a total with minimum=0 could drop a whole item; give a minimum of at least 1.")
        if protected_ids is None:
            protected_ids = getattr(getattr(base_collator, "tokenizer", None), "all_special_ids", [])
        self.protected_ids = np.unique(np.asarray(list(protected_ids), dtype=np.int64))

    def __call__(self, features: Sequence[Mapping[str, Any]], *args: Any, **kwargs: Any) -> Any:
        """The base collator's batch of the cut features; further arguments go to it.

        Raises
        ------
        ValueError
            Naming the feature's index: spans missing, outside, or overlapping; ids that are not one flat list.
        """
        return self.base_collator(self.cut(features), *args, **kwargs)

    def cut(self, features: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The features with their item texts cut and the span column gone; those given are not changed."""
        ids = [_flat_ids(feature, i) for i, feature in enumerate(features)]
        spans = [self._spans(feature, len(row), i) for i, (feature, row) in enumerate(zip(features, ids, strict=True))]
        kept = self._kept(ids, spans, [_labels(feature, len(row)) for feature, row in zip(features, ids, strict=True)])
        return [self._rebuild(feature, len(row), k) for feature, row, k in zip(features, ids, kept, strict=True)]

    def _spans(self, feature: Mapping[str, Any], length: int, index: int) -> list[Span]:
        try:
            return check_spans(self.find(feature), length)
        except ValueError as error:
            raise ValueError(f"feature {index}: {error}") from error

    def _kept(
        self, ids: list[NDArray[np.int64]], spans: list[list[Span]], labels: list[NDArray[np.bool_] | None]
    ) -> list[NDArray[np.int64] | None]:
        """The kept positions of each feature, None where all are: every span of the batch is scored in one call."""
        starts = lengths_to_offsets([len(row) for row in ids]).astype(np.int64)
        flat = np.concatenate([*ids, np.zeros(0, dtype=np.int64)])
        counts = [len(row) for row in spans]
        bounds = np.array([span for row in spans for span in row], dtype=np.int64).reshape(-1, 2)
        bounds += np.repeat(starts[:-1], counts)[:, None]
        lengths = bounds[:, 1] - bounds[:, 0]
        cu = lengths_to_offsets(lengths)
        where = np.arange(cu[-1]) + np.repeat(bounds[:, 0] - cu[:-1], lengths)
        protected = np.isin(flat[where], self.protected_ids)
        if any(row is not None for row in labels):
            labelled = [np.zeros(len(a), bool) if b is None else b for a, b in zip(ids, labels, strict=True)]
            protected |= np.concatenate([*labelled, np.zeros(0, dtype=bool)])[where]
        tokens = RaggedTokens(flat[where], cu)
        chosen = select(
            self.scorer, tokens, self.budget, sample_offsets=lengths_to_offsets(counts), protected=protected
        )
        keep = np.ones(len(flat), dtype=bool)
        keep[where] = False
        keep[where[chosen.kept]] = True
        rows = [keep[a:b] for a, b in pairwise(starts)]
        return [None if row.all() else np.flatnonzero(row) for row in rows]

    def _rebuild(self, feature: Mapping[str, Any], length: int, kept: NDArray[np.int64] | None) -> dict[str, Any]:
        columns = {name: value for name, value in feature.items() if name != self.span_column}
        if kept is None:
            return columns
        for name, value in columns.items():
            if name == POSITIONS and _length(value) == length:
                positions = self.reposition(np.asarray(value, dtype=np.int64), kept)
                columns[name] = _like(value, positions)
            elif _length(value) == length:
                columns[name] = _take(value, kept)
        return columns


def _flat_ids(feature: Mapping[str, Any], index: int) -> NDArray[np.int64]:
    if IDS not in feature:
        raise ValueError(f"feature {index} has no column {IDS!r}; found {sorted(feature)}. Tokenise before collating.")
    try:
        ids = np.asarray(feature[IDS])
    except ValueError:
        ids = np.zeros((0, 0))
    if ids.ndim != 1 or (ids.size and not np.issubdtype(ids.dtype, np.integer)):
        raise ValueError(
            f"feature {index}: {IDS} must be one flat list of token ids; found shape {ids.shape}, {ids.dtype}."
        )
    return ids.astype(np.int64)


def _labels(feature: Mapping[str, Any], length: int) -> NDArray[np.bool_] | None:
    """Bool ``[L]``: which tokens have a label; None where labels are not per token."""
    labels = feature.get(LABELS)
    if labels is None or _length(labels) != length:
        return None
    labelled: NDArray[np.bool_] = np.asarray(labels) != IGNORED_LABEL
    return labelled


def _length(value: Any) -> int | None:
    """The length of a per-token column's value, None for scalars and text."""
    if isinstance(value, str | bytes) or not hasattr(value, "__len__"):
        return None
    return None if getattr(value, "ndim", 1) == 0 else len(value)


def _take(value: Any, kept: NDArray[np.int64]) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(map(value.__getitem__, kept.tolist()))
    return value[kept]


def _like(value: Any, array: NDArray[np.int64]) -> Any:
    """``array`` as the type of ``value``: list, tuple, numpy array or tensor of its dtype."""
    if isinstance(value, list | tuple):
        return type(value)(array.tolist())
    if isinstance(value, np.ndarray):
        return array.astype(value.dtype)
    return value.new_tensor(array)
