from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsporec.budget import Budget, as_budget, levelled_lengths
from tsporec.tokens.ragged import lengths_to_offsets
from tsporec.topk import cpu


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of tokens, keep_ratio and total; found none"),
        ({"tokens": 1, "total": 2}, "found \\['tokens', 'total'\\]"),
        ({"tokens": 0}, "tokens must be a whole number of at least 1"),
        ({"tokens": -1}, "tokens must be a whole number"),
        ({"tokens": 1.5}, "tokens must be a whole number"),
        ({"tokens": True}, "tokens must be a whole number"),
        ({"keep_ratio": 0}, r"keep_ratio must be a number in \(0, 1\]"),
        ({"keep_ratio": 1.01}, r"keep_ratio must be a number in \(0, 1\]"),
        ({"keep_ratio": float("nan")}, r"keep_ratio must be a number in \(0, 1\]"),
        ({"total": 4, "minimum": -1}, "minimum must be a whole number of at least 0"),
        ({"tokens": 4, "minimum": 2}, "minimum and recency share out a total"),
        ({"total": 4, "recency": float("inf")}, "recency must be a finite number"),
    ],
)
def test_wrong_budgets_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Budget(**options)


def test_ratios_round_up_and_are_exact_where_they_should_be():
    cu = lengths_to_offsets([0, 1, 3, 10, 30])
    assert Budget(keep_ratio=0.1).resolve(np.zeros(44), cu).tolist() == [0, 1, 1, 1, 3]
    assert Budget(keep_ratio=1.0).resolve(np.zeros(44), cu).tolist() == [0, 1, 3, 10, 30]
    assert Budget(tokens=5).resolve(np.zeros(44), cu).tolist() == [5] * 5


@given(st.lists(st.integers(0, 12), min_size=1, max_size=8), st.integers(-2, 40))
def test_spans_are_levelled_to_the_largest_size_that_fits(lengths, room):
    fits = [size for size in range(1, 13) if sum(min(length, size) for length in lengths) <= room]
    if fits and any(lengths):
        assert levelled_lengths(np.array(lengths), room).tolist() == [min(length, fits[-1]) for length in lengths]
    else:
        with pytest.raises(ValueError, match="max_length leaves"):
            levelled_lengths(np.array(lengths), room)


def test_levelling_does_not_try_every_size():
    lengths = np.array([10**9, *[1] * 1000])
    assert levelled_lengths(lengths, 10**8).max() == 10**8 - 1000


def brute_force_total(budget, scores, cu, samples, protected):
    """Give out one token at a time, the definition in Python."""
    k = np.zeros(len(cu) - 1, dtype=int)
    for a, b in pairwise(samples):
        rest = []
        for i in range(a, b):
            tokens = list(range(cu[i], cu[i + 1]))
            lift = budget.recency * (i - a) / max(b - a - 1, 1)
            key = {t: -np.inf if np.isnan(scores[t]) else scores[t] + lift for t in tokens}
            tokens.sort(key=lambda t, key=key: (not protected[t], -key[t], t))
            fixed = max(budget.minimum, sum(protected[t] for t in tokens))
            k[i] = min(fixed, len(tokens))
            rest += [(-key[t], t, i) for t in tokens[fixed:]]
        for _, _, i in sorted(rest)[: max(budget.total - k[a:b].sum(), 0)]:
            k[i] += 1
    return k.tolist()


@given(st.integers(0, 2**32 - 1))
def test_a_total_is_shared_by_score(seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 7, size=6)
    cu, total = lengths_to_offsets(lengths), int(lengths.sum())
    scores = rng.choice([0.0, 1.0, 2.0, np.nan], size=total) if rng.random() < 0.5 else rng.normal(size=total)
    protected = rng.random(total) < 0.2
    budget = Budget(total=int(rng.integers(1, 20)), minimum=int(rng.integers(0, 3)), recency=float(rng.integers(0, 3)))
    samples = [0, 2, 2, 6]
    k = budget.resolve(scores, cu, samples, protected)
    assert k.tolist() == brute_force_total(budget, scores, cu, samples, protected)
    _, new_cu = cpu.select(scores.astype(np.float32), cu, k, protected)
    assert np.diff(new_cu).tolist() == k.tolist()


def test_recency_favours_the_newest():
    cu = lengths_to_offsets([4, 4, 4])
    assert Budget(total=6).resolve(np.zeros(12), cu).tolist() == [4, 1, 1]
    assert Budget(total=6, recency=1.0).resolve(np.zeros(12), cu).tolist() == [1, 1, 4]
    with pytest.raises(ValueError, match="sample_offsets must start at 0"):
        Budget(total=6).resolve(np.zeros(12), cu, [0, 2])


def test_a_ratio_never_keeps_nothing_of_a_segment_with_tokens():
    assert Budget(keep_ratio=1e-9).resolve(np.zeros(4), lengths_to_offsets([1, 0, 3])).tolist() == [1, 0, 1]


@pytest.mark.parametrize("value", [16, np.int64(16), np.int8(16), Budget(tokens=16)])
def test_a_whole_number_is_a_budget_of_tokens(value):
    assert as_budget(value) == Budget(tokens=16)


@pytest.mark.parametrize("value", [True, np.True_, 16.0, np.float32(16), "16", None, [16]])
def test_what_is_no_budget_is_refused_with_the_remedy(value):
    with pytest.raises(ValueError, match=r"a Budget or a whole number of tokens; found .* For example budget=16"):
        as_budget(value)
    with pytest.raises(ValueError, match="tokens must be a whole number of at least 1"):
        as_budget(0)
