"""Ranking metrics over the full catalogue, and intervals for their differences."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def ranks(
    scores: NDArray[np.floating], targets: ArrayLike, masked: Sequence[Sequence[int]] | None = None
) -> NDArray[np.int64]:
    """The rank of each row's target among all items, 1 the best.

    Parameters
    ----------
    scores : float ``[B, N]``
        Higher is better. A NaN ranks below everything.
    targets : int ``[B]``
    masked : B sequences of item indices, optional
        Left out of the row's ranking (the history). A target that is masked is ranked all the same, against
        the items that are not: a repeat can be hit, and does not count as lost beforehand.

    Returns
    -------
    int64 ``[B]``
        Items of equal score rank in an order drawn once for all rows, the same at every call: which of them is
        the target is chance, so neither for it nor against it on the average. (Few tokens a text leave many items
        with one and the same text.)

    Raises
    ------
    ValueError
        If the shapes disagree, or a target or a masked item is no index of an item.
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
    own = values[np.arange(len(values)), target][:, None]
    drawn = np.random.default_rng(0).permutation(scores.shape[1])
    ahead = (values > own) | ((values == own) & (drawn < drawn[target][:, None]))
    if masked is not None:
        columns = np.fromiter(chain.from_iterable(masked), dtype=np.int64)
        _check_items(columns, scores.shape[1], "masked items")
        ahead[np.repeat(np.arange(len(masked)), [len(items) for items in masked]), columns] = False
    rank: NDArray[np.int64] = 1 + ahead.sum(axis=1)
    return rank


def _check_items(indices: NDArray[np.int64], count: int, name: str) -> None:
    if indices.size and not np.issubdtype(indices.dtype, np.integer):
        raise ValueError(f"{name} must be item indices, found {indices.dtype}.")
    wrong = indices[(indices < 0) | (indices >= count)]  # -1 would count from the end, unnoticed
    if wrong.size:
        raise ValueError(f"{name} must be item indices from 0 to {count - 1}, found {wrong[0]}.")


def recall(rank: ArrayLike, k: int) -> Floats:
    """Recall@k with one relevant item: 1 where the rank is at most ``k``."""
    return (np.asarray(rank) <= k).astype(np.float64)


def ndcg(rank: ArrayLike, k: int) -> Floats:
    """NDCG@k with one relevant item: ``1 / log2(1 + rank)`` up to ``k``, 0 beyond (Järvelin and Kekäläinen, 2002)."""
    place = np.asarray(rank, dtype=np.float64)
    return np.where(place <= k, 1 / np.log2(1 + place), 0.0)


def reciprocal_rank(rank: ArrayLike) -> Floats:
    """``1 / rank``; its mean is the MRR."""
    return 1 / np.asarray(rank, dtype=np.float64)


def paired_bootstrap(
    a: ArrayLike, b: ArrayLike, groups: Sequence[str], samples: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[float, float, float]:
    """Mean difference ``a - b`` over rows with a percentile interval from resampling groups (users).

    Parameters
    ----------
    a, b : float ``[B]``
        A metric of the same rows under two treatments.
    groups : B labels
        Rows of one user are drawn together (Efron and Tibshirani, 1993, ch. 8).

    Returns
    -------
    mean, low, high : float

    Raises
    ------
    ValueError
        If the shapes disagree, there are no rows, or ``samples`` or ``level`` is out of range.
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
        drawn = rng.integers(0, len(sums), size=(min(256, samples - start), len(sums)))
        means[start : start + len(drawn)] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(difference.mean()), float(low), float(high)
