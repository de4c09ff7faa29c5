"""From scores to kept tokens: the step every way in shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tsporec.budget import Budget
from tsporec.scorers.base import Scorer
from tsporec.tokens.ragged import RaggedTokens
from tsporec.topk import cpu


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
        """The kept tokens, in text order."""
        return tokens.keep(self.kept, self.cu_seqlens)


def select(
    scorer: Scorer,
    tokens: RaggedTokens,
    budget: Budget,
    *,
    sample_offsets: ArrayLike | None = None,
    protected: NDArray[np.bool_] | None = None,
    forbidden: NDArray[np.bool_] | None = None,
) -> Selection:
    """Score all segments in one call and keep the best of each in text order.

    Parameters
    ----------
    scorer : Scorer
    tokens : RaggedTokens
        N segments, T tokens.
    budget : Budget
    sample_offsets : int ``[S + 1]``, optional
        The segments of each sample, for a ``total``; see :meth:`Budget.resolve`.
    protected, forbidden : bool ``[T]``, optional
        Always kept, never kept; forbidden beats protected.

    Raises
    ------
    ValueError
        If the scorer does not return one score a token.

    Notes
    -----
    Ties go to the earlier token; NaN ranks below every number.
    """
    scores = np.asarray(scorer.score(tokens))
    if scores.shape != (tokens.num_tokens,):
        raise ValueError(
            f"{type(scorer).__name__}.score returned shape {scores.shape} for {tokens.num_tokens} tokens; "
            "expected one score a token."
        )
    k = budget.resolve(scores, tokens.cu_seqlens, sample_offsets, protected, forbidden)
    return Selection(*cpu.select(scores, tokens.cu_seqlens, k, protected, forbidden))


def rank(scores: NDArray[Any], selection: Selection) -> NDArray[np.int32]:
    """int32 ``[K]``: the place of each kept token among its segment's, best first, from 0.

    The order is that of the top-k operation (NaN below every number, -0 equal to +0, ties to the earlier token), so the
    tokens with ranks below k are what it keeps with budget k.

    >>> rank(np.float32([1, 3, 3, 2]), Selection(np.array([0, 1, 2]), np.int32([0, 3]))).tolist()
    [2, 0, 1]
    """
    lengths = np.diff(selection.cu_seqlens)
    segment = np.repeat(np.arange(len(lengths)), lengths)
    # The bitwise complement turns the order round and cannot overflow.
    best_first = ~cpu.order_keys(scores[selection.kept])
    order = np.lexsort((best_first, segment))
    ranks = np.empty(len(order), dtype=np.int32)
    ranks[order] = np.arange(len(order)) - np.repeat(selection.cu_seqlens[:-1], lengths)
    return ranks
