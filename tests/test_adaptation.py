from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import make_causal_lm
from tsporec.adaptation import fit_in_stages, policy_views
from tsporec.budget import Budget
from tsporec.ragged import RaggedTokens
from tsporec.recommenders.embedding import EmbeddingConfig, make_recommender
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.selection import select

SMALL = EmbeddingConfig(width=16, epochs=3)


class Known:
    def __init__(self, scores):
        self.scores = scores

    def score(self, tokens):
        return self.scores


def corpus(lengths, seed=0, entries=40):
    drawn = np.random.default_rng(seed)
    return RaggedTokens.from_lists([drawn.integers(1, entries, size=n).tolist() for n in lengths])


def padded_ids(tokens):
    """An "encoder" that shows what it was given."""
    width = 8
    return np.stack([np.pad(tokens[i], (0, width - len(tokens[i]))) for i in range(len(tokens))]).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=6), st.integers(1, 8), st.integers(0, 3), st.integers(0, 9))
def test_views_are_the_best_subset_and_samples_of_its_size(lengths, budget, draws, seed):
    tokens = corpus(lengths, seed)
    scores = np.random.default_rng(seed + 1).normal(size=tokens.num_tokens).astype(np.float32)
    views = policy_views(scores, tokens, padded_ids, budget, draws, seed)
    assert views.shape == (1 + draws, len(tokens), 8)
    best = padded_ids(select(Known(scores), tokens, Budget(tokens=budget)).apply(tokens))
    np.testing.assert_array_equal(views[0], best)
    for view in views[1:]:
        np.testing.assert_array_equal((view > 0).sum(axis=1), np.minimum(tokens.lengths, budget))
        for row, i in zip(view, range(len(tokens)), strict=True):
            kept = row[row > 0].tolist()
            rest = iter(tokens[i].tolist())
            assert all(token in rest for token in kept), "samples are subsets, in text order"


def test_samples_follow_the_scores_and_the_seed():
    tokens = corpus([8] * 200)
    scores = np.tile(np.array([4, 4, 0, 0, 0, 0, 0, 0], dtype=np.float32), 200)
    views = policy_views(scores, tokens, padded_ids, 2, draws=2, seed=3)
    same = (views[1:] == views[0]).all(axis=2).mean()
    assert 0.4 < same < 0.95  # both of weight e^4 among six of weight 1: .87 of the samples by enumeration
    np.testing.assert_array_equal(policy_views(scores, tokens, padded_ids, 2, draws=2, seed=3), views)
    assert (policy_views(scores, tokens, padded_ids, 2, draws=2, seed=4) != views).any()


@pytest.fixture(scope="module")
def problem():
    tokens = corpus([8] * 30)
    encoder = ItemEncoder(make_causal_lm(40))
    drawn = np.random.default_rng(0)
    sequences = [drawn.integers(0, 30, size=5).tolist() for _ in range(60)]
    scores = drawn.normal(size=tokens.num_tokens).astype(np.float32)
    return policy_views(scores, tokens, encoder.encode, 3), sequences[:50], sequences[50:]


def test_one_view_is_a_fit(problem):
    views, train, held_out = problem
    staged = fit_in_stages(make_recommender(views.shape[2], SMALL), views[:1], train, held_out)
    fitted = make_recommender(views.shape[2], SMALL).fit(views[0], train, held_out)
    np.testing.assert_array_equal(staged.scores(views[0], held_out), fitted.scores(views[0], held_out))


def test_tuning_never_makes_held_out_users_less_likely(problem):
    import torch

    views, train, held_out = problem
    read = torch.from_numpy(views[0])
    for seed in range(3):
        config = EmbeddingConfig(width=16, epochs=6, learning_rate=0.05, seed=seed)
        recommender = make_recommender(views.shape[2], config).fit(views, train, held_out, read=views[0])
        before, scale = recommender.log_likelihood(read, held_out), recommender.scale.clone()
        recommender.tune(views[0], train, held_out)
        assert recommender.log_likelihood(read, held_out) >= before
        assert torch.equal(recommender.scale, scale), "what features are divided by stays"
    with pytest.raises(ValueError, match="features must be finite"):
        recommender.tune(views[0][:, 1:], train, held_out)
