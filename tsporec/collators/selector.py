"""Selection as a collator around a collator: the recommender, its dataset and its Trainer stay as they are."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.types import expect
from tsporec.budget import Budget, as_budget
from tsporec.collators.columns import FlatColumns, Part
from tsporec.collators.packed_items import PackedColumns
from tsporec.collators.positions import policy
from tsporec.collators.spans import ITEM_SPANS, ColumnSpans, SpanFinder, UnlabelledSpans, find_spans
from tsporec.scorers.base import Scorer, Scores
from tsporec.scorers.cached import CachedScorer
from tsporec.selection import pieces_of_words, select_scored
from tsporec.selector.resolve import bound_selector
from tsporec.tokens.pieces import special_token_ids
from tsporec.tokens.ragged import RaggedTokens, lengths_to_offsets, ranges

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


class CollatorAround:
    """Has the attributes of the base collator that it wraps, besides those of a subclass."""

    base_collator: Callable[..., Any]

    def __getattr__(self, name: str) -> Any:
        """Look up other attributes on the base collator: trainers read ``tokenizer`` and the like."""
        if name.startswith("__") or "base_collator" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.base_collator, name)


class SelectorCollator(CollatorAround):
    """Cut the item texts of every feature to their best tokens, then call the collator it wraps.

    Parameters
    ----------
    base_collator : callable
        Makes a batch of a list of features: any Hugging Face collator, or one of your own.
    selector : TokenSelector, other scorer, str or Path, optional
        Scores the tokens: an object, or a name, a folder or a Hub id to load. It is bound to ``tokenizer`` unless
        it already is. Default: the bundled selector, with a warning, for its word frequencies are of other texts.
    budget : Budget, int or {column: Budget or int}
        Budget of each span; a whole number is a number of tokens. The spans of a feature share a ``total``, oldest
        first. Give a mapping if fields have budgets of their own: its keys are the span columns, for example
        ``{"title_spans": Budget(keep_ratio=1.0), "text_spans": 16}``. Default 16 tokens.
    spans : str, ids, callable or PackedColumns
        Where the item texts stand in the ids: the name of a column of ``[(start, end), ...]``, which is removed before
        the base collator; begin and end marker ids (and a separator's); a callable ``feature -> [(start, end), ...]``
        such as those of :mod:`tsporec.collators.spans`; or packed columns. Default "item_spans".
    granularity : "token" or "word"
        Keep exactly the best tokens, or whole words that are no more than the budget; see :func:`tsporec.select`.
        Default "token", for recommenders that are trained on the selection.
    item_ids : str, optional
        Column of the item ids of the spans, one a span. A selector then finds the item weights of a known item by its
        id. The column is removed before the base collator. Default: items are found by their words.
    positions : str
        How ``position_ids`` change: "renumber" them as if dropped tokens had never been there, or "right_align"
        them, so that the last position stays. Default "renumber". Packed columns are always right-aligned.
    protected_ids : ints, optional
        Token ids that are always kept. Default: the special tokens of ``tokenizer``, or of the tokenizer that
        ``selector`` is bound to.
    cache_tokens : int
        Scores of this many tokens of item texts are kept in memory. Default 4,000,000; 0 for none.
    ids : str
        Column of token ids. Default "input_ids"; ``"prompt_ids"`` for TRL's preference data. Other per-token columns
        are then those with the same prefix.
    token_columns : names
        Per-token columns besides the known ones (:data:`tsporec.collators.columns.TOKEN_COLUMNS`).
    whole_columns : names
        Columns that are never cut: ``["labels"]`` for an encoder-decoder.
    tokenizer : a Hugging Face tokenizer, optional
        Default: the base collator's ``tokenizer``, if it has one.

    Raises
    ------
    ValueError
        If ``selector`` is bound to another tokenizer, or an argument is not one of the above.

    Notes
    -----
    Always kept: text outside spans, ``protected_ids``, tokens whose label is not -100, and at least one token of a span
    that is not empty. Lists, numpy arrays and tensors keep their type. If a budget drops nothing, features reach the
    base collator unchanged but for the span columns. One collator may be used by several threads.

    Examples
    --------
    >>> from transformers import DataCollatorForSeq2Seq
    >>> from tsporec.data.synthetic import word_tokenizer
    >>> tokenizer = word_tokenizer("I bought a blue gel pen of fine quality and then".split())
    >>> feature = dict(tokenizer("I bought a blue gel pen of fine quality and then"), item_spans=[(3, 9)])
    >>> collator = SelectorCollator(DataCollatorForSeq2Seq(tokenizer), "tsporec/base", budget=3, spans="item_spans")
    >>> tokenizer.decode(collator([feature])["input_ids"][0])
    ' I bought a blue gel pen and then'

    For a Trainer, keep the span column: ``TrainingArguments(..., remove_unused_columns=False)``.
    """

    def __init__(
        self,
        base_collator: Callable[..., Any],
        selector: Scorer | str | Path | None = None,
        budget: Budget | int | Mapping[str, Budget | int] = 16,
        spans: str | tuple[int, ...] | SpanFinder | PackedColumns | None = None,
        *,
        granularity: str = "token",
        item_ids: str | None = None,
        positions: str = "renumber",
        protected_ids: Sequence[int] | None = None,
        cache_tokens: int = 4_000_000,
        ids: str = "input_ids",
        token_columns: Sequence[str] = (),
        whole_columns: Sequence[str] = (),
        tokenizer: Any = None,
    ) -> None:
        if not callable(base_collator) or hasattr(base_collator, "get_vocab"):
            raise TypeError(
                f"base_collator must be a function of a list of features; found {type(base_collator).__name__}. Give a "
                "collator, such as transformers.DataCollatorWithPadding(tokenizer), or list to cut features alone."
            )
        self.base_collator = base_collator
        if tokenizer is None:  # a base collator's may be of another kind, such as a processor
            found = getattr(base_collator, "tokenizer", None)
            tokenizer = found if hasattr(found, "get_vocab") else None
        scorer = bound_selector(selector, tokenizer)
        self.scorer = CachedScorer(scorer, cache_tokens)
        self.budgets = [as_budget(one) for one in (budget.values() if isinstance(budget, Mapping) else [budget])]
        if any(one.total is not None and one.minimum < 1 for one in self.budgets):
            raise ValueError("a total with minimum=0 could drop a whole item; give a minimum of at least 1.")
        if isinstance(budget, Mapping) and (spans is not None or not budget):
            raise ValueError(
                f"the keys of a mapping of budgets name the columns of spans; found spans={spans!r} beside the budgets "
                f"of {list(budget)}. Leave out spans=, or give one budget."
            )
        self.layout: FlatColumns | PackedColumns
        if isinstance(spans, PackedColumns):
            self.layout = spans
            if item_ids is not None:
                raise ValueError(f"name the item ids of packed columns there: PackedColumns(…, item_ids={item_ids!r}).")
        else:
            finders = [find_spans(ITEM_SPANS if spans is None else spans)]
            if isinstance(budget, Mapping):
                finders = [ColumnSpans(column) for column in budget]
            self.layout = FlatColumns(finders, ids, token_columns, whole_columns, policy(positions), item_ids)
        self.whole_words = pieces_of_words(granularity, tokenizer, scorer)
        if protected_ids is None:
            protected_ids = _special_ids(tokenizer, scorer, spans)
        protected_ids = list(protected_ids) if isinstance(protected_ids, Iterable) else protected_ids
        expect("protected_ids", protected_ids, list[int], "a list of token ids, such as tokenizer.all_special_ids")
        self.protected_ids = np.unique(np.asarray(protected_ids, dtype=np.int64))

    def __call__(self, features: Sequence[Mapping[str, Any]], *args: Any, **kwargs: Any) -> Any:
        """Return the base collator's batch of the cut features. Further arguments go to the base collator.

        A feature whose ids, spans or per-token columns are not as they should be is a ``ValueError`` with its number.
        """
        return self.base_collator(self.cut(features), *args, **kwargs)

    def cut(
        self, features: Sequence[Mapping[str, Any]], numbers: Sequence[int] | None = None
    ) -> list[Mapping[str, Any]]:
        """Return the features with their item texts cut and the span columns removed.

        1. The layout reads the ids, spans and labels of each feature (``parts``).
        2. The tokens of all spans are packed into one array and scored in one call.
        3. The budget says how many tokens each span may keep.
        4. The best tokens or words of each span are selected. Protected and labelled tokens are always among them.
        5. The layout builds each feature anew from the kept tokens (``rebuild``). The given features do not change.

        Parameters
        ----------
        features : sequence of mappings
        numbers : ints, optional
            The number that errors give to each feature. Default: its place in ``features``.
        """
        numbers = numbers or range(len(features))
        rows, cut = [], []
        for number, feature in zip(numbers, features, strict=True):
            with _errors_of(number):
                rows.append(self.layout.parts(feature))
        try:
            kept = iter(self._kept([part for row in rows for part in row]))
        except ValueError:
            for number, row in zip(numbers, rows, strict=True):  # find the feature at fault
                with _errors_of(number):
                    self._kept(row)
            raise
        for number, feature, row in zip(numbers, features, rows, strict=True):
            with _errors_of(number):
                cut.append(self.layout.rebuild(feature, [next(kept) for _ in row]))
        return cut

    def cut_columns(self, columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Return columns of features with their item texts cut, for a dataset that is truncated or packed later.

        ``dataset.map(collator.cut_columns, batched=True, remove_columns=["item_spans"])`` cuts a whole dataset. The
        base collator is not called.

        >>> from tsporec import make_scorer
        >>> collator = SelectorCollator(list, make_scorer("head"), 2)
        >>> collator.cut_columns({"input_ids": [[5, 6, 7], [8]], "item_spans": [[(0, 3)], [(0, 1)]]})
        {'input_ids': [[5, 6], [8]]}
        """
        cut = self.cut([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])
        return {name: [feature[name] for feature in cut] for name in cut[0]} if cut else {}

    def _kept(self, parts: list[Part]) -> list[Ints | None]:
        """Return the kept positions of each part, None if all are kept: steps 2 to 4 of :meth:`cut`."""
        if not parts:
            return []
        # The ids of all parts end to end, and where in them the tokens of the spans stand.
        starts = lengths_to_offsets([len(part.ids) for part in parts]).astype(np.int64)
        ids = np.concatenate([part.ids for part in parts])
        counts = np.array([len(part.spans) for part in parts], dtype=np.int64)
        bounds = np.array([span for part in parts for span in part.spans], dtype=np.int64).reshape(-1, 2)
        bounds += np.repeat(starts[:-1], counts)[:, None]
        lengths = bounds[:, 1] - bounds[:, 0]
        where = ranges(bounds[:, 0], lengths)
        tokens = RaggedTokens(ids[where], lengths_to_offsets(lengths))
        items = [item for part in parts for item in part.items]
        if any(item is not None for item in items):
            tokens = tokens.with_items(items)
        protected = np.isin(tokens.ids, self.protected_ids)
        protected |= np.concatenate([part.labelled for part in parts])[where]
        scores = self.scorer.score(tokens)
        budget_of_span = np.array([number for part in parts for number in part.budgets], dtype=np.int64)
        k = self._resolve(scores, tokens.cu_seqlens, counts, budget_of_span, protected)
        kept = select_scored(scores, tokens, k, whole_words=self.whole_words, protected=protected).kept
        keep = np.ones(len(ids), dtype=bool)
        keep[where] = False
        keep[where[kept]] = True
        rows = [keep[start:end] for start, end in pairwise(starts)]
        return [None if row.all() else np.flatnonzero(row) for row in rows]

    def _resolve(
        self, scores: Scores, cu_seqlens: NDArray[np.int32], counts: Ints, budget_of_span: Ints, protected: Bools
    ) -> NDArray[np.int32]:
        """Return the tokens that each span may keep: int32 ``[N]``. The spans of a part share a total."""
        lengths, part_of_span = np.diff(cu_seqlens), np.repeat(np.arange(len(counts)), counts)
        k = np.zeros(len(lengths), dtype=np.int32)
        for number, budget in enumerate(self.budgets):
            spans = budget_of_span == number
            tokens = np.repeat(spans, lengths)
            samples = lengths_to_offsets(np.bincount(part_of_span[spans], minlength=len(counts)))
            offsets = lengths_to_offsets(lengths[spans])
            k[spans] = budget.resolve(scores[tokens], offsets, samples, protected[tokens])
        return k


@contextmanager
def _errors_of(number: int) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"feature {number}: {error}") from error


def _special_ids(tokenizer: Any, scorer: Scorer, spans: Any) -> Sequence[int]:
    """Return the ids of the special tokens, from the tokenizer or from the selector that is bound to one."""
    if tokenizer is not None:
        return special_token_ids(tokenizer)
    known: Sequence[int] | None = getattr(scorer, "special_token_ids", None)
    if known is None and isinstance(spans, UnlabelledSpans):
        warnings.warn(
            "no tokenizer is known, so the special tokens of the prompts are not protected and may be dropped; give "
            "tokenizer=… or protected_ids=….",
            stacklevel=3,
        )
    return known or ()
