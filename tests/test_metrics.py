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
    drawn = np.argsort(np.argsort(ranks(np.zeros((7, 7)), np.arange(7))))  # the order of equals
    for row, rank in enumerate(ranks(scores, targets, masked)):
        rivals = [i for i in range(7) if i != targets[row] and i not in masked[row]]
        own = (value[row, targets[row]], -drawn[targets[row]])
        assert rank == 1 + sum((value[row, i], -drawn[i]) > own for i in rivals)


def test_equals_rank_by_chance():
    """Neither first nor last: an item that reads like all others is at the middle on the average."""
    rank = ranks(np.zeros((201, 201)), np.arange(201))
    assert sorted(rank) == list(range(1, 202))
    assert abs(np.corrcoef(rank, np.arange(201))[0, 1]) < 0.2


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


@given(st.integers(0, 2**32 - 1))
def test_a_bootstrap_sample_is_a_draw_of_users(seed):
    """Two users of one row each: a sample's mean is one of three values, and the interval is made of them."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=2)
    mean, low, high = paired_bootstrap(a, [0, 0], ["u", "v"], samples=500, seed=seed, level=0.9)
    assert mean == pytest.approx(a.mean())
    assert (low, high) == (pytest.approx(a.min()), pytest.approx(a.max()))


def test_bootstrap_is_the_same_for_a_seed():
    rng = np.random.default_rng(0)
    a, b, users = rng.random(5000), rng.random(5000), np.arange(5000)
    first = paired_bootstrap(a, b, users, samples=2000, seed=1)
    assert first == paired_bootstrap(a, b, users, samples=2000, seed=1) != paired_bootstrap(a, b, users, seed=2)


def test_ties_infinities_and_repeats():
    scores = np.array([[1.0, 1.0, 2.0], [-np.inf, np.nan, 0.0], [3.0, 2.0, 1.0]])
    first = ranks(np.zeros((1, 3)), [0])[0] < ranks(np.zeros((1, 3)), [1])[0]  # of two equals, by the drawn order
    assert ranks(scores, [0, 0, 1]).tolist() == [3 - first, 3 - first, 2]
    assert ranks(scores, [0, 0, 1], [[2], [1, 1], [0, 1]]).tolist() == [2 - first, 2, 1]
    assert ranks(scores.astype(np.float16), [2, 2, 2]).tolist() == [1, 1, 3]
    assert ranks(np.zeros((0, 3)), [], []).tolist() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((2, 3)), [-1, 0]), "targets must be item indices from 0 to 2, found -1"),
        ((np.zeros((2, 3)), [0, 3]), "targets must be item indices from 0 to 2, found 3"),
        ((np.zeros((2, 3)), [0.0, 1.0]), "targets must be item indices, found float64"),
        ((np.zeros((2, 3)), [0]), r"found \(2, 3\), \(1,\)"),
        ((np.zeros(3), [0]), r"expected scores \[B, N\]"),
        ((np.zeros((2, 3)), [0, 1], [[], [-1]]), "masked items must be item indices from 0 to 2, found -1"),
        ((np.zeros((2, 3)), [0, 1], [[1]]), "and 1"),
    ],
)
def test_ranks_refuse_what_is_no_item(arguments, message):
    with pytest.raises(ValueError, match=message):
        ranks(*arguments)


def test_bootstrap_refuses_what_is_no_pair():
    with pytest.raises(ValueError, match=r"must both be \[B\]; found \(2,\) and \(3,\)"):
        paired_bootstrap([1, 2], [1, 2, 3], ["u", "v"])
    with pytest.raises(ValueError, match="samples must be at least 1"):
        paired_bootstrap([1], [1], ["u"], samples=0)
