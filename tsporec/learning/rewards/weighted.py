"""Several rewards as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tsporec._internal.digest import digest
from tsporec.learning.candidates import Candidates
from tsporec.learning.rewards.base import Floats, ProxyReward, checked_rewards
from tsporec.tokens.ragged import RaggedTokens


class WeightedReward:
    """The weighted sum of rewards, each brought to unit spread first.

    A reward is divided by its standard deviation within (segment, budget) over the candidates of one call (mean over
    such groups), so that weights compare like with like; its level cancels in every pair.

    Parameters
    ----------
    rewards : name -> ProxyReward
    weights : name -> float, optional
        1 each by default. Cross-fitting: the same reward from two recommenders, each rating the users that
        the other was fitted on.
    standardise : bool
        Without it the rewards are summed as they are.
    """

    def __init__(
        self,
        rewards: Mapping[str, ProxyReward],
        weights: Mapping[str, float] | None = None,
        standardise: bool = True,
    ) -> None:
        if not rewards:
            raise ValueError("WeightedReward needs at least one reward.")
        self.rewards, self.standardise = dict(rewards), standardise
        self.weights = dict.fromkeys(rewards, 1.0) if weights is None else dict(weights)
        if self.weights.keys() != self.rewards.keys() or not all(map(np.isfinite, self.weights.values())):
            raise ValueError(f"expected a finite weight for each of {sorted(self.rewards)}; found {self.weights}.")

    @property
    def fingerprint(self) -> str:
        """Digest of the rewards and their weights."""
        return digest(
            "weighted", self.standardise, [[n, r.fingerprint, self.weights[n]] for n, r in self.rewards.items()]
        )

    def __call__(self, tokens: RaggedTokens, candidates: Candidates) -> Floats:
        """float32 ``[C]``; see :class:`ProxyReward`."""
        total = np.zeros(len(candidates), dtype=np.float64)
        groups = group_ids(candidates)
        for name, reward in self.rewards.items():
            values = checked_rewards(reward(tokens, candidates), candidates, name).astype(np.float64)
            total += self.weights[name] * (values / _spread(values, groups) if self.standardise else values)
        return total.astype(np.float32)


def group_ids(candidates: Candidates) -> np.ndarray:
    """int64 ``[C]``: which (segment, budget) a candidate belongs to, numbered from 0."""
    pairs = np.stack([candidates.segment, candidates.budget], axis=1)
    return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)


def _spread(values: np.ndarray, groups: np.ndarray) -> float:
    count = np.bincount(groups)
    mean = np.bincount(groups, values) / count
    variance = np.bincount(groups, (values - mean[groups]) ** 2) / count
    found = float(np.sqrt(variance).mean()) if len(values) else 0.0
    return found if found > 0 else 1.0


def cross_fitted(rewards: Sequence[ProxyReward]) -> WeightedReward:
    """The mean of the same reward over several recommenders or users."""
    return WeightedReward(
        {str(i): r for i, r in enumerate(rewards)}, {str(i): 1 / len(rewards) for i in range(len(rewards))}
    )
