"""Ranking metrics over the whole catalogue, and confidence intervals of their differences."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def ranks(
    scores: NDArray[np.floating], targets: ArrayLike, masked: Sequence[Sequence[int]] | None = None
) -> NDArray[np.int64]:
    """Rank the target of each of B rows among all N items: int64 ``[B]``; 1 is the best rank.

    Items of equal score rank in a fixed random order, the same for all rows and calls. So ties neither help nor hurt a
    target on average. (If texts keep few tokens, many items have equal texts.)

    Parameters
    ----------
    scores : float ``[B, N]``
        Higher is better. NaN ranks below everything.
    targets : int ``[B]``
        Index of each row's target.
    masked : B sequences of item indices, optional
        Items that each row's ranking leaves out (the history). A masked target is still ranked.

    Examples
    --------
    >>> ranks(np.array([[0.1, 0.9, 0.5]]), [2]).tolist(), ranks(np.array([[0.1, 0.9, 0.5]]), [2], masked=[[1]]).tolist()
    ([2], [1])
    """
    scores, target = np.asarray(scores), np.asarray(targets)
    if scores.ndim != 2 or target.shape != scores.shape[:1] or len(target if masked is None else masked) != len(target):
        raise ValueError(
            f"expected scores [B, N], targets [B] and B masked sequences; found {scores.shape}, {target.shape}"
            f"{'' if masked is None else f' and {len(masked)}'}."
        )
    _check_items(target, scores.shape[1], "targets")
    target = target.astype(np.int64)
    values = np.where(np.isnan(scores), -np.inf, scores)
    reached = values[np.arange(len(values)), target][:, None]
    order = np.random.default_rng(0).permutation(scores.shape[1])
    # scores [[.1, .9, .5]], target 2 -> ahead [[False, True, False]] -> rank 2
    ahead = (values > reached) | ((values == reached) & (order < order[target][:, None]))
    if masked is not None:
        columns = np.fromiter(chain.from_iterable(masked), dtype=np.int64)
        _check_items(columns, scores.shape[1], "masked items")
        ahead[np.repeat(np.arange(len(masked)), [len(items) for items in masked]), columns] = False
    rank: NDArray[np.int64] = 1 + ahead.sum(axis=1)
    return rank


def _check_items(indices: NDArray[np.int64], count: int, name: str) -> None:
    if indices.size and not np.issubdtype(indices.dtype, np.integer):
        raise ValueError(f"{name} must be item indices, found {indices.dtype}.")
    wrong = indices[(indices < 0) | (indices >= count)]  # numpy would count -1 from the end
    if wrong.size:
        raise ValueError(f"{name} must be item indices from 0 to {count - 1}, found {wrong[0]}.")


def recall(rank: ArrayLike, k: int) -> Floats:
    """Compute Recall@k with one relevant item: 1 if the rank is at most ``k``, else 0.

    >>> recall([1, 11], 10).tolist()
    [1.0, 0.0]
    """
    return (np.asarray(rank) <= k).astype(np.float64)


def ndcg(rank: ArrayLike, k: int) -> Floats:
    """Compute NDCG@k with one relevant item: ``1 / log2(1 + rank)`` up to rank ``k``, else 0.

    Source: Järvelin and Kekäläinen, 2002.

    >>> ndcg([1, 3, 11], 10).tolist()
    [1.0, 0.5, 0.0]
    """
    place = np.asarray(rank, dtype=np.float64)
    return np.where(place <= k, 1 / np.log2(1 + place), 0.0)


def reciprocal_rank(rank: ArrayLike) -> Floats:
    """Compute ``1 / rank``. Its mean is the MRR."""
    return 1 / np.asarray(rank, dtype=np.float64)


def paired_bootstrap(
    a: ArrayLike, b: ArrayLike, groups: Sequence[str], samples: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[float, float, float]:
    """Compute the mean difference ``a - b`` of a metric ``[B]``, and its confidence interval: (mean, low, high).

    The interval is a percentile interval over resampled ``groups``, so that rows of one user are sampled together
    (Efron and Tibshirani, 1993, ch. 8).

    >>> paired_bootstrap([1.0, 1.0, 0.0], [0.0, 0.0, 0.0], ["u", "u", "v"])
    (0.6666666666666666, 0.0, 1.0)
    """
    if np.ndim(a) != 1 or np.shape(a) != np.shape(b):
        raise ValueError(f"a and b must both be [B]; found {np.shape(a)} and {np.shape(b)}.")
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    if len(difference) == 0 or len(difference) != len(groups):
        raise ValueError(f"expected rows and a group for each; found {len(difference)} rows and {len(groups)} groups.")
    if samples < 1 or not 0 < level < 1:
        raise ValueError(f"samples must be at least 1 and level in (0, 1); found {samples} and {level}.")
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    sums, counts = np.bincount(group, weights=difference), np.bincount(group)
    rng = np.random.default_rng(seed)
    means = np.empty(samples)
    for start in range(0, samples, 256):
        sampled = rng.integers(0, len(sums), size=(min(256, samples - start), len(sums)))
        means[start : start + len(sampled)] = sums[sampled].sum(axis=1) / counts[sampled].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(difference.mean()), float(low), float(high)
