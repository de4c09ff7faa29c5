"""A recommender in closed form, to choose between selections: it is fitted in seconds.

Training an :class:`~tsporec.recommenders.embedding.EmbeddingRecommender` on every selection that is tried would take
hours. ``docs/research/testbed.md`` has how far the two agree.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

History = Sequence[int]
Floats = NDArray[np.float32]

_PENALTY = 1.0  # for M next items and vectors of length 1, the penalty is _PENALTY * M / (2 * width)
_DECAY = 0.6  # weight of an item in the mean, as a share of the weight of the item after it
_HISTORY = 10  # items that are read; older ones are cut off
_PAIRS = 100_000  # next items that are learned from at most
_ROWS = 8192  # histories read at once, to bound the memory


class RidgeRecommender:
    """Predict the vector of the next item from the history by ridge regression.

    1. Item features are projected to their principal components, each scaled to unit variance, and to unit length.
    2. A history is read as two vectors: its last item's, and the mean of its ten latest items' with decaying weights.
    3. Ridge regression maps these to the next item's vector. Items are scored by their inner product with the result.

    Parameters
    ----------
    width : int, optional
        Most principal components. Default: all. With few, items are not known by what is in one text alone.

    Examples
    --------
    >>> features = np.eye(4, dtype=np.float32)
    >>> int(RidgeRecommender().fit(features, [[0, 1, 2], [1, 2, 3]]).scores(features, [[0, 1]]).argmax())
    2
    """

    def __init__(self, width: int | None = None) -> None:
        self.width = width

    def fit(self, features: Floats, sequences: Sequence[History]) -> RidgeRecommender:
        """Fit to the next items of ``sequences`` that do not stand before it; features are float32 ``[N, W]``.

        Of more than 100,000 next items, as many are taken at equal distances.
        """
        pairs = [(s[:place], s[place]) for s in sequences for place in range(1, len(s)) if s[place] not in s[:place]]
        if not pairs:
            raise ValueError("no sequence has a next item that does not stand before it; there is nothing to fit.")
        pairs = [pairs[i] for i in np.linspace(0, len(pairs) - 1, min(len(pairs), _PAIRS)).astype(int)]
        self._mean, deviation = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
        varies = deviation > 1e-6 * np.abs(self._mean)
        if not varies.any():
            raise ValueError(
                f"all {len(features)} items have the same features; there is nothing to tell them apart by."
            )
        self._scale = np.where(varies, deviation, np.inf)
        standard = (features - self._mean) / self._scale
        # [W, W] -> variances [W], ascending, and directions [W, W], one a column
        variances, directions = np.linalg.eigh(standard.T @ standard / len(standard))
        kept = np.flatnonzero(variances > 1e-4 * variances[-1])[-(self.width or len(variances)) :]
        self._project = directions[:, kept] / np.sqrt(variances[kept])
        vectors = self._vectors(features)
        center, size = vectors[[item for _, item in pairs]].mean(axis=0), 2 * vectors.shape[1]
        gram, cross = np.zeros((size, size)), np.zeros((size, vectors.shape[1]))
        for start in range(0, len(pairs), _ROWS):
            part = pairs[start : start + _ROWS]
            read = self._read(vectors, [history for history, _ in part])
            gram += read.T @ read
            cross += read.T @ (vectors[[item for _, item in part]] - center)
        gram[np.diag_indices(size)] += _PENALTY * len(pairs) / size
        self._weights = np.linalg.solve(gram, cross).astype(np.float32)
        return self

    def scores(self, features: Floats, histories: Sequence[History]) -> Floats:
        """Score every item after each history, none of them empty: float32 ``[M, N]`` from features ``[N, W]``."""
        vectors = self._vectors(features)
        return np.asarray(self._read(vectors, histories) @ self._weights @ vectors.T, dtype=np.float32)

    def _vectors(self, features: Floats) -> Floats:
        """Project features ``[N, W]`` to unit vectors ``[N, width]``."""
        projected = ((features - self._mean) / self._scale) @ self._project
        unit = projected / np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-12)
        return np.asarray(unit, dtype=np.float32)

    def _read(self, vectors: Floats, histories: Sequence[History]) -> Floats:
        """Read M histories: ``[M, 2 * width]``."""
        cut = [list(history)[-_HISTORY:][::-1] for history in histories]  # latest first
        total, weights = np.zeros((len(cut), vectors.shape[1]), np.float32), np.zeros((len(cut), 1), np.float32)
        for place in range(_HISTORY):
            rows = np.flatnonzero([len(history) > place for history in cut])
            total[rows] += np.float32(_DECAY**place) * vectors[[cut[row][place] for row in rows]]
            weights[rows] += np.float32(_DECAY**place)
        return np.concatenate([vectors[[history[0] for history in cut]], total / weights], axis=1)
