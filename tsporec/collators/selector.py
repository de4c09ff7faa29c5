"""Selection as a collator around a collator: the recommender, its dataset and its Trainer stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tsporec.budget import Budget
from tsporec.collators import positions as position_policies
from tsporec.collators.columns import FlatColumns, Part
from tsporec.collators.packed import PackedColumns
from tsporec.collators.spans import ITEM_SPANS, ColumnSpans, SpanFinder, find_spans
from tsporec.scorers.base import Scorer, Scores
from tsporec.scorers.cached import CachedScorer
from tsporec.selector.model import TokenSelector
from tsporec.tokens.pieces import special_token_ids
from tsporec.tokens.ragged import RaggedTokens, lengths_to_offsets, ranges
from tsporec.topk import cpu

T = TypeVar("T")
DEFAULT_BUDGET = Budget(tokens=16)


class CollatorAround:
    """A collator that cuts features, as a subclass says in ``cut``, before ``base_collator`` makes a batch of them."""

    base_collator: Callable[..., Any]

    def __call__(self, features: Sequence[Mapping[str, Any]], *args: Any, **kwargs: Any) -> Any:
        """The base collator's batch of the cut features; further arguments go to it.

        Raises
        ------
        ValueError
            Naming the feature's index: spans missing, outside, or overlapping; markers unbalanced; ids that are not
            one flat list; per-token columns of another length.
        """
        return self.base_collator(self.cut(features), *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the base collator's: trainers look for ``tokenizer`` and the like."""
        if name.startswith("__") or "base_collator" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.base_collator, name)

    def cut(self, features: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The features with their item texts cut."""
        raise NotImplementedError


class SelectorCollator(CollatorAround):
    """Cut the item texts of every feature to the best tokens, then call the collator it wraps.

    Parameters
    ----------
    base_collator : callable
        Takes a list of features and makes a batch: any Hugging Face collator, or one's own.
    selector : Scorer, optional
        A :class:`~tsporec.selector.model.TokenSelector` bound to the tokenizer, or any other scorer. By default the
        selector in the box, bound to ``tokenizer``.
    budget : Budget, or {column: Budget}
        Of each span; a ``total`` is shared by the spans of a feature, in their order. Fields with budgets of their
        own have a span column each: ``{"title_spans": Budget(keep_ratio=1.0), "text_spans": Budget(tokens=16)}``.
    spans : str, ids, callable or PackedColumns
        Where the item texts stand in the ids: a column of ``[(start, end), ...]`` (removed before the base
        collator), begin and end marker ids (and a separator's), a callable ``feature -> [(start, end), ...]`` such
        as those of :mod:`tsporec.collators.spans`, or the spec of packed columns.
    positions : "renumber", "keep" or "right_align"
        What becomes of a ``position_ids`` column; see :mod:`tsporec.collators.positions`. Packed columns have
        their own.
    protected_ids : ints, optional
        Token ids that are always kept; by default the special tokens of ``tokenizer``.
    cache_tokens : int
        Scores of so many tokens of item texts are remembered. 0: none.
    ids : str
        The column of token ids: ``"prompt_ids"`` for TRL's preference data. Then only columns of that prefix are cut.
    token_columns : names, optional
        The per-token columns besides ``ids``. By default every column as long as ``ids``: name them where another
        column may happen to be as long.
    tokenizer : optional
        By default the base collator's, if it has one.

    Notes
    -----
    Never dropped: text outside spans, ``protected_ids``, tokens whose label is not -100. A non-empty span keeps at
    least one token. Per-token columns are cut alike (lists, numpy arrays and tensors keep their type); other columns
    pass. With a budget that drops nothing, features reach the base collator unchanged but for the span column.

    Examples
    --------
    >>> collator = SelectorCollator(                                                  # doctest: +SKIP
    ...     DataCollatorForSeq2Seq(tokenizer), selector, budget=Budget(tokens=16), spans="item_spans"
    ... )
    >>> Trainer(model, TrainingArguments(..., remove_unused_columns=False), data_collator=collator)  # doctest: +SKIP
    """

    def __init__(
        self,
        base_collator: Callable[..., Any],
        selector: Scorer | None = None,
        budget: Budget | Mapping[str, Budget] = DEFAULT_BUDGET,
        spans: str | tuple[int, ...] | SpanFinder | PackedColumns = ITEM_SPANS,
        *,
        positions: str = "renumber",
        protected_ids: Sequence[int] | None = None,
        cache_tokens: int = 4_000_000,
        ids: str = "input_ids",
        token_columns: Sequence[str] | None = None,
        tokenizer: Any = None,
    ) -> None:
        tokenizer = tokenizer if tokenizer is not None else getattr(base_collator, "tokenizer", None)
        self.base_collator = base_collator
        self.scorer: Scorer = _scorer(selector, tokenizer)
        if cache_tokens:
            self.scorer = CachedScorer(self.scorer, cache_tokens)
        self.budgets = list(budget.values()) if isinstance(budget, Mapping) else [budget]
        for one in self.budgets:
            if one.total is not None and one.minimum < 1:
                raise ValueError("a total with minimum=0 could drop a whole item; give a minimum of at least 1.")
        self.layout: FlatColumns | PackedColumns
        if isinstance(spans, PackedColumns):
            if isinstance(budget, Mapping):
                raise ValueError("packed columns have one budget; found a budget for each of several columns.")
            self.layout = spans
        else:
            finders: list[SpanFinder] = [find_spans(spans)]
            if isinstance(budget, Mapping):
                finders = [ColumnSpans(column) for column in budget]
            self.layout = FlatColumns(finders, ids, token_columns, position_policies.policy(positions))
        if protected_ids is None:
            protected_ids = special_token_ids(tokenizer)
        self.protected_ids = np.unique(np.asarray(list(protected_ids), dtype=np.int64))

    def cut(
        self, features: Sequence[Mapping[str, Any]], numbers: Sequence[int] | None = None
    ) -> list[Mapping[str, Any]]:
        """The features with their item texts cut and the span columns gone; those given are not changed.

        Errors name a feature by its number: its place or, where they are of a larger batch, that of ``numbers``.
        """
        named = range(len(features)) if numbers is None else numbers
        parts = _each(self.layout.parts, named, features)
        kept = iter(self._kept([part for row in parts for part in row]))
        return _each(self.layout.rebuild, named, features, [[next(kept) for _ in row] for row in parts])

    def _kept(self, parts: list[Part]) -> list[NDArray[np.int64] | None]:
        """The kept positions of each part, None where all are: every span of the batch is scored in one call."""
        none = np.zeros(0, dtype=np.int64)
        starts = lengths_to_offsets([len(part.ids) for part in parts]).astype(np.int64)
        flat = np.concatenate([*(part.ids for part in parts), none])
        counts = np.array([len(part.spans) for part in parts], dtype=np.int64)
        bounds = np.array([span for part in parts for span in part.spans], dtype=np.int64).reshape(-1, 2)
        bounds += np.repeat(starts[:-1], counts)[:, None]
        lengths = bounds[:, 1] - bounds[:, 0]
        cu = lengths_to_offsets(lengths)
        where = ranges(bounds[:, 0], lengths)
        protected = np.isin(flat[where], self.protected_ids)
        if any(part.labelled is not None for part in parts):
            labelled = [np.zeros(len(p.ids), bool) if p.labelled is None else p.labelled for p in parts]
            protected |= np.concatenate([*labelled, np.zeros(0, dtype=bool)])[where]
        tokens = RaggedTokens(flat[where], cu)
        scores = np.asarray(self.scorer.score(tokens))
        if scores.shape != (tokens.num_tokens,):
            raise ValueError(f"the selector gave scores of shape {scores.shape} for {tokens.num_tokens} tokens.")
        k = self._budgets(scores, cu, counts, np.array([n for part in parts for n in part.budgets]), protected)
        chosen, _ = cpu.select(scores, cu, k, protected)
        keep = np.ones(len(flat), dtype=bool)
        keep[where] = False
        keep[where[chosen]] = True
        rows = [keep[a:b] for a, b in pairwise(starts)]
        return [None if row.all() else np.flatnonzero(row) for row in rows]

    def _budgets(
        self,
        scores: Scores,
        cu: NDArray[np.int32],
        counts: NDArray[np.int64],
        budgets: NDArray[np.int64],
        protected: NDArray[np.bool_],
    ) -> NDArray[np.int32]:
        """Tokens asked of each span, int32 ``[N]``, by the budget it has and the part it is in."""
        if len(self.budgets) == 1:
            return self.budgets[0].resolve(scores, cu, lengths_to_offsets(counts), protected)
        k = np.zeros(len(cu) - 1, dtype=np.int32)
        part_of_span = np.repeat(np.arange(len(counts)), counts)
        for number, budget in enumerate(self.budgets):
            mine = budgets == number
            tokens = np.repeat(mine, np.diff(cu))
            offsets = lengths_to_offsets(np.bincount(part_of_span[mine], minlength=len(counts)))
            own = lengths_to_offsets(np.diff(cu)[mine])
            k[mine] = budget.resolve(scores[tokens], own, offsets, protected[tokens])
        return k


def _each(work: Callable[..., T], numbers: Sequence[int], *columns: Sequence[Any]) -> list[T]:
    """``work`` on every row of the columns; its ValueErrors name the feature by its number."""
    done: list[T] = []
    try:
        for arguments in zip(*columns, strict=True):
            done.append(work(*arguments))  # noqa: PERF401 - how many are done is the place of the one at fault
    except ValueError as error:
        raise ValueError(f"feature {numbers[len(done)]}: {error}") from error
    return done


def _scorer(selector: Scorer | None, tokenizer: Any) -> Scorer:
    if selector is not None:
        return selector
    if tokenizer is None:
        raise ValueError("give a selector, or a tokenizer for the one in the box to be bound to.")
    return TokenSelector.from_pretrained().for_tokenizer(tokenizer)
