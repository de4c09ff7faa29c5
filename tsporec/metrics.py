"""Ranking metrics over the full catalogue, and intervals for their differences."""

from __future__ import annotations

from collections.abc import Sequence

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
        Ties count against the target: every other item with its score ranks above it.
    """
    target = np.asarray(targets, dtype=np.int64)
    values = np.where(np.isnan(scores), -np.inf, scores)
    own = values[np.arange(len(values)), target][:, None]
    ahead = values >= own
    for row, items in enumerate(masked or ()):
        ahead[row, list(items)] = False
    ahead[np.arange(len(values)), target] = False
    rank: NDArray[np.int64] = 1 + ahead.sum(axis=1)
    return rank


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
    """
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    if len(difference) == 0 or len(difference) != len(groups):
        raise ValueError(f"expected rows and a group for each; found {len(difference)} rows and {len(groups)} groups.")
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    sums, counts = np.bincount(group, weights=difference), np.bincount(group)
    rng = np.random.default_rng(seed)
    means = np.empty(samples)
    for start in range(0, samples, 256):
        drawn = rng.integers(0, len(sums), size=(min(256, samples - start), len(sums)))
        means[start : start + len(drawn)] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(difference.mean()), float(low), float(high)
