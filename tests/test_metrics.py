from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsporec.metrics import ndcg, paired_bootstrap, ranks, recall, reciprocal_rank


@given(st.integers(0, 2**32 - 1))
def test_ranks_are_the_definition(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 5, size=(4, 7)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.1] = np.nan
    targets = rng.integers(0, 7, size=4)
    masked = [rng.integers(0, 7, size=rng.integers(0, 3)).tolist() for _ in targets]
    value = np.where(np.isnan(scores), -np.inf, scores)
    for row, rank in enumerate(ranks(scores, targets, masked)):
        rivals = [i for i in range(7) if i != targets[row] and i not in masked[row]]
        assert rank == 1 + sum(value[row, i] >= value[row, targets[row]] for i in rivals)


def test_metrics_of_known_ranks():
    assert recall([1, 10, 11], 10).tolist() == [1, 1, 0]
    assert ndcg([1, 3, 11], 10).tolist() == pytest.approx([1, 0.5, 0])
    assert reciprocal_rank([1, 4]).tolist() == [1, 0.25]


def test_bootstrap_covers_a_known_difference():
    rng = np.random.default_rng(0)
    users = [str(i // 3) for i in range(1500)]
    base = rng.normal(size=1500)
    mean, low, high = paired_bootstrap(base + 0.5 + rng.normal(size=1500), base, users, level=0.999)
    assert low < 0.5 < high
    assert mean == pytest.approx(0.5, abs=0.1)
    assert high - low < 10 / math.sqrt(1500)
    assert paired_bootstrap(base, base, users) == (0, 0, 0)


def test_bootstrap_draws_users_whole():
    users = ["a"] * 50 + ["b"] * 50
    difference = np.repeat([1.0, 0.0], 50)
    _, low, high = paired_bootstrap(difference, np.zeros(100), users)
    assert (low, high) == (0, 1)
    with pytest.raises(ValueError, match="0 rows and 0 groups"):
        paired_bootstrap([], [], [])
