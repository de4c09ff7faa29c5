"""From scores to kept tokens: the step that every way in shares.

:func:`score_tokens` asks a scorer. :func:`select_scored` applies a budget to its scores and keeps exactly the best
tokens; :func:`select_words` keeps whole words. :func:`select` scores and keeps the best tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tsporec.budget import Budget, as_budget
from tsporec.scorers.base import Scorer, score_tokens
from tsporec.tokens.ragged import RaggedTokens, lengths_to_offsets
from tsporec.topk import cpu

__all__ = ["Selection", "rank", "score_tokens", "select", "select_scored", "select_words"]

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Selection:
    """The kept positions of N segments.

    Parameters
    ----------
    kept : int64 ``[K]``
        Positions into the packed ``[T]`` tokens, ascending.
    cu_seqlens : int32 ``[N + 1]``
        Offsets of the segments in ``kept``.
    """

    kept: NDArray[np.int64]
    cu_seqlens: NDArray[np.int32]

    def apply(self, tokens: RaggedTokens) -> RaggedTokens:
        """Return the kept tokens, in text order."""
        return tokens.keep(self.kept, self.cu_seqlens)


def select(
    scorer: Scorer,
    tokens: RaggedTokens,
    budget: Budget | int,
    *,
    sample_offsets: ArrayLike | None = None,
    protected: Bools | None = None,
    forbidden: Bools | None = None,
) -> Selection:
    """Score all segments in one call and keep the best tokens of each, in text order.

    Parameters
    ----------
    scorer : Scorer
        A selector or any other scorer for the ids of ``tokens``.
    tokens : RaggedTokens
        N segments of T tokens in all.
    budget : Budget or int
        The budget of each segment. A whole number is a number of tokens.
    sample_offsets : int ``[S + 1]``, optional
        The segments of each sample, for a ``total``; see :meth:`Budget.resolve`. By default all are one sample.
    protected, forbidden : bool ``[T]``, optional
        Tokens that are always kept and never kept; forbidden beats protected.

    Returns
    -------
    Selection
        Ties go to the earlier token. NaN ranks below every number.

    Raises
    ------
    ValueError
        If the scorer does not return one score a token, or ``budget`` is neither a Budget nor a whole number.

    Examples
    --------
    >>> from tsporec.scorers import make_scorer
    >>> tokens = RaggedTokens.from_lists([[5, 6, 7], [8]])
    >>> select(make_scorer("head"), tokens, 2).apply(tokens).to_lists()
    [[5, 6], [8]]
    """
    return select_scored(
        score_tokens(scorer, tokens),
        tokens.cu_seqlens,
        budget,
        sample_offsets=sample_offsets,
        protected=protected,
        forbidden=forbidden,
    )


def select_scored(
    scores: NDArray[np.floating],
    cu_seqlens: NDArray[np.int32],
    budget: Budget | int | NDArray[np.int32],
    *,
    sample_offsets: ArrayLike | None = None,
    protected: Bools | None = None,
    forbidden: Bools | None = None,
) -> Selection:
    """Keep the tokens with the highest scores of each segment, in text order.

    Parameters
    ----------
    scores : float32 or float16 ``[T]``
    cu_seqlens : int32 ``[N + 1]``
        Offsets of N segments.
    budget : Budget, int or int32 ``[N]``
        The budget of each segment; an array has one number of tokens for each of them.

    Notes
    -----
    The other parameters, the result and the errors are those of :func:`select`.

    Examples
    --------
    >>> select_scored(np.float32([3, 1, 2, 5, 4]), np.int32([0, 3, 5]), np.int32([2, 1])).kept.tolist()
    [0, 2, 3]
    """
    if not isinstance(budget, np.ndarray):
        budget = as_budget(budget).resolve(scores, cu_seqlens, sample_offsets, protected, forbidden)
    return Selection(*cpu.select(scores, cu_seqlens, budget, protected, forbidden))


def select_words(
    scores: NDArray[np.floating],
    words: NDArray[np.int64],
    cu_seqlens: NDArray[np.int32],
    budget: Budget | int | NDArray[np.int32],
    *,
    sample_offsets: ArrayLike | None = None,
    protected: Bools | None = None,
) -> Selection:
    """Keep whole words of each segment, the best first, as long as they fit into the budget.

    Words with a protected token are kept first. The others follow by the mean score of their tokens, the earlier first
    if means are equal. A word that does not fit into what is left of the budget is skipped. If no word at all fits, the
    shortest is kept, so that a segment with tokens never vanishes; only this, or protected words, exceed the budget.

    Parameters
    ----------
    scores : float ``[T]``
        NaN ranks below every number.
    words : int64 ``[T]``
        The number of each token's word, equal for neighbours of one word; see
        :func:`tsporec.tokens.words.word_of_tokens`. No word reaches over two segments.
    cu_seqlens, budget, sample_offsets, protected
        Arguments of :func:`select_scored`; budgets are in tokens.

    Examples
    --------
    >>> scores, words = np.float32([1, 2, 9, 5, 0]), np.array([0, 0, 1, 1, 2])  # means 1.5, 7 and 0
    >>> select_words(scores, words, np.int32([0, 5]), 3).kept.tolist()
    [2, 3, 4]
    """
    if not isinstance(budget, np.ndarray):
        budget = as_budget(budget).resolve(scores, cu_seqlens, sample_offsets, protected)
    count, lengths = len(cu_seqlens) - 1, np.diff(cu_seqlens)
    token_segment = np.repeat(np.arange(count), lengths)
    # Number the words of all segments, and describe each: words [0, 0, 1 | 0] -> word [0, 0, 1, 2], size [2, 1, 1].
    first = np.ones(len(scores), dtype=bool)
    first[1:] = (np.diff(words) != 0) | (np.diff(token_segment) != 0)
    word = np.cumsum(first) - 1
    size, segment = np.bincount(word), token_segment[first]
    value = np.nan_to_num(scores.astype(np.float64), nan=-np.inf, neginf=-np.inf)
    mean = np.bincount(word, weights=value) / size
    mean[np.isnan(mean)] = -np.inf  # infinite scores of both signs
    kept = np.zeros(len(size), dtype=bool)
    if protected is not None:
        kept[word[protected]] = True
    room = budget - _sums(size * kept, segment, count)
    kept |= _best_that_fit(size, segment, np.where(kept, np.nan, mean), room)
    # A segment of which nothing is kept keeps its shortest word: the first of each segment, ordered by size.
    shortest = np.lexsort((size, segment))
    shortest = shortest[np.diff(segment[shortest], prepend=-1) > 0]
    kept[shortest[_sums(kept, segment, count)[segment[shortest]] == 0]] = True
    chosen = kept[word]
    return Selection(np.flatnonzero(chosen), lengths_to_offsets(_sums(chosen, token_segment, count)))


def _best_that_fit(size: Ints, segment: Ints, mean: NDArray[np.float64], room: Ints) -> Bools:
    """Return the words that are kept, best first, if each that no longer fits into its segment's room is skipped.

    Words of ``[W]`` with a mean of NaN are left out. ``room [N]`` is in tokens.
    """
    kept, room = np.zeros(len(size), dtype=bool), room.copy()
    order = np.lexsort((-mean, segment))
    order = order[~np.isnan(mean[order])]
    # Drop the words that do not fit, take the longest run of the best words that fits in each segment, repeat.
    while len(order := order[size[order] <= room[segment[order]]]):
        spent = np.cumsum(size[order])
        start = np.searchsorted(segment[order], np.arange(len(room)))
        spent -= np.append(0, spent)[start][segment[order]]
        fits = spent <= room[segment[order]]
        kept[order[fits]] = True
        room -= _sums(size[order[fits]], segment[order[fits]], len(room))
        order = order[~fits]
    return kept


def _sums(values: NDArray[Any], segment: Ints, count: int) -> Ints:
    """Return the sum of the values of each segment: int64 ``[N]``."""
    return np.bincount(segment, weights=values, minlength=count).astype(np.int64)


def rank(scores: NDArray[Any], selection: Selection) -> NDArray[np.int32]:
    """Return the rank of each kept token among those of its segment, best first, from 0: int32 ``[K]``.

    Tokens with ranks below k are those that a budget of k tokens keeps: the order is that of :func:`select_scored`.

    Parameters
    ----------
    scores : float32 or float16 ``[T]``
    selection : Selection

    Examples
    --------
    >>> rank(np.float32([1, 3, 3, 2]), Selection(np.array([0, 1, 2]), np.int32([0, 3]))).tolist()
    [2, 0, 1]
    """
    lengths = np.diff(selection.cu_seqlens)
    segment = np.repeat(np.arange(len(lengths)), lengths)
    # The bitwise complement reverses the order of the keys and cannot overflow.
    best_first = ~cpu.order_keys(scores[selection.kept])
    order = np.lexsort((best_first, segment))
    ranks = np.empty(len(order), dtype=np.int32)
    ranks[order] = np.arange(len(order)) - np.repeat(selection.cu_seqlens[:-1], lengths)
    return ranks
