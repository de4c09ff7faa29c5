"""Losses agree with a policy whose normaliser is computed by enumeration."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tsporec.learning.losses import LOSS_TYPES, preference_loss, subset_sums


def enumerated_log_p(scores: np.ndarray, subset: tuple[int, ...]) -> float:
    """The conditional Bernoulli log-probability of a subset, by enumeration of all of its size."""
    every = [scores[list(s)].sum() for s in combinations(range(len(scores)), len(subset))]
    return float(scores[list(subset)].sum() - np.logaddexp.reduce(every))


@given(st.integers(0, 10_000), st.sampled_from(LOSS_TYPES))
def test_losses_agree_with_enumeration(seed, loss_type):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 7))
    k, beta = int(rng.integers(1, n)), float(rng.uniform(0.2, 2))
    scores, reference = rng.normal(size=(2, n))
    better, worse = (tuple(sorted(rng.choice(n, k, replace=False).tolist())) for _ in range(2))
    d = float(rng.uniform(0, 2))
    h = (enumerated_log_p(scores, better) - enumerated_log_p(scores, worse)) - (
        enumerated_log_p(reference, better) - enumerated_log_p(reference, worse)
    )
    losses = {"sigmoid": np.logaddexp(0, -beta * h), "ipo": (h - 0.5 / beta) ** 2, "regression": (beta * h - d) ** 2}
    kept, cu = torch.tensor([*better, *worse]), torch.tensor([0, k, 2 * k])
    ratio = subset_sums(torch.from_numpy(scores - reference), kept, cu)
    found = preference_loss((ratio[0] - ratio[1])[None], beta, loss_type, torch.tensor([d], dtype=torch.float64))
    assert float(found) == pytest.approx(losses[loss_type], rel=1e-6, abs=1e-9)


def test_loss_errors():
    h = torch.zeros(1)
    with pytest.raises(ValueError, match="loss_type must be"):
        preference_loss(h, 1.0, "dpo")
    with pytest.raises(ValueError, match="needs the rewards"):
        preference_loss(h, 1.0, "regression")
