"""Candidates have the size asked for, stay inside their segment, and depend on it alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import random_tokens
from tsporec.budget import Budget
from tsporec.learning.candidates import CandidateConfig, sample_candidates
from tsporec.tokens.ragged import RaggedTokens


@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(2, 9))
def test_candidates_have_exact_sizes_and_stay_inside(seed, budget, count):
    rng = np.random.default_rng(seed)
    tokens = random_tokens(rng, 7)
    scores = rng.normal(size=tokens.num_tokens).astype(np.float32)
    config = CandidateConfig((budget, 3), count)
    found = sample_candidates(scores, tokens, config, seed)
    assert len(found) == 7 * 2 * count
    sizes = np.diff(found.cu_seqlens)
    np.testing.assert_array_equal(sizes, np.minimum(tokens.lengths[found.segment], found.budget))
    for i in range(len(found)):
        kept, low = found[i], tokens.cu_seqlens[found.segment[i]]
        assert (np.diff(kept) > 0).all()
        assert len(kept) == 0 or (kept[0] >= low and kept[-1] < tokens.cu_seqlens[found.segment[i] + 1])
    # A segment's candidates do not depend on what else is sampled, and are the same again.
    alone = sample_candidates(scores, tokens, config, seed, [4])
    np.testing.assert_array_equal(alone.kept, np.concatenate([found[i] for i in np.flatnonzero(found.segment == 4)]))


def test_shares_are_of_each_text():
    tokens = RaggedTokens.from_lists([list(range(length)) for length in (0, 1, 4, 9)])
    config = CandidateConfig((Budget(keep_ratio=0.5),), 3)
    found = sample_candidates(np.zeros(tokens.num_tokens, dtype=np.float32), tokens, config, 0)
    assert np.diff(found.cu_seqlens).tolist() == np.repeat([0, 1, 2, 5], 3).tolist() == found.budget.tolist()


def test_first_candidate_is_the_best_and_swaps_change_a_few():
    tokens = RaggedTokens.from_lists([list(range(30))])
    scores = np.random.default_rng(0).normal(size=30).astype(np.float32)
    found = sample_candidates(scores, tokens, CandidateConfig((8,), 40, uniform=0, swapped=1), 0)
    best = set(np.argsort(-scores)[:8].tolist())
    assert set(found[0].tolist()) == best
    changed = {len(best - set(found[i].tolist())) for i in range(1, 40)}
    assert changed == {1, 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budgets": ()}, "budgets"), ({"budgets": (0,)}, "budget"), ({"count": 1}, "count"),
        ({"uniform": 0.7, "swapped": 0.7}, "shares"),
    ],
)  # fmt: skip
def test_bad_candidate_options(options, message):
    with pytest.raises(ValueError, match=message):
        CandidateConfig(**options)


def test_scores_must_be_finite():
    tokens = RaggedTokens.from_lists([[1, 2]])
    with pytest.raises(ValueError, match="finite score"):
        sample_candidates(np.array([np.nan, 1], dtype=np.float32), tokens, CandidateConfig(), 0)
