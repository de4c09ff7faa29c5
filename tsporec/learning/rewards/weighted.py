"""Add several rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.digest import digest
from tsporec.learning.candidates import Candidates
from tsporec.learning.rewards.base import Floats, ProxyReward, checked_rewards
from tsporec.tokens.ragged import RaggedTokens


class WeightedReward:
    """Return the weighted sum of rewards after bringing each to unit spread.

    Each reward is divided by its standard deviation within a (segment, budget), as a mean over these groups in one
    call. So weights compare like with like. The level of a reward cancels in every pair.

    Parameters
    ----------
    rewards : dict of str to ProxyReward
    weights : dict of str to float, optional
        Default: 1 each.

    Examples
    --------
    ::

        WeightedReward({"users": CoConsumptionReward(tokens, sequences), "mine": mine}, {"users": 1.0, "mine": 0.5})
    """

    def __init__(self, rewards: Mapping[str, ProxyReward], weights: Mapping[str, float] | None = None) -> None:
        if not rewards:
            raise ValueError("WeightedReward needs at least one reward.")
        self.rewards = dict(rewards)
        self.weights = dict.fromkeys(rewards, 1.0) if weights is None else dict(weights)
        if self.weights.keys() != self.rewards.keys() or not all(map(np.isfinite, self.weights.values())):
            raise ValueError(f"expected a finite weight for each of {sorted(self.rewards)}; found {self.weights}.")

    @property
    def fingerprint(self) -> str:
        """Digest of the rewards and their weights."""
        return digest("weighted", [[n, r.fingerprint, self.weights[n]] for n, r in self.rewards.items()])

    def __call__(self, tokens: RaggedTokens, candidates: Candidates) -> Floats:
        """Return float32 ``[C]``; see :class:`~tsporec.learning.rewards.base.ProxyReward`."""
        total = np.zeros(len(candidates), dtype=np.float64)
        groups = candidates.groups()
        for name, reward in self.rewards.items():
            values = checked_rewards(reward(tokens, candidates), candidates, name).astype(np.float64)
            total += self.weights[name] * (values / _spread(values, groups))
        return total.astype(np.float32)


def _spread(values: NDArray[np.float64], groups: NDArray[np.int64]) -> float:
    """Return the mean over groups of the standard deviation within one, or 1 if all are 0.

    >>> _spread(np.array([0.0, 2.0, 5.0, 5.0]), np.array([0, 0, 1, 1]))
    0.5
    """
    count = np.bincount(groups)
    mean = np.bincount(groups, values) / count
    variance = np.bincount(groups, (values - mean[groups]) ** 2) / count
    found = float(np.sqrt(variance).mean()) if len(values) else 0.0
    return found if found > 0 else 1.0


def cross_fitted(rewards: Sequence[ProxyReward]) -> WeightedReward:
    """Return the mean of one reward over several recommenders, each rating users that it was not fitted on."""
    names = [str(number) for number in range(len(rewards))]
    return WeightedReward(dict(zip(names, rewards, strict=True)), dict.fromkeys(names, 1 / len(rewards)))
