from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import make_causal_lm
from tsporec import adaptation
from tsporec.adaptation import fit_in_stages, policy_views
from tsporec.budget import Budget
from tsporec.ragged import RaggedTokens
from tsporec.recommenders.embedding import EmbeddingConfig, EmbeddingRecommender, make_recommender
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
    scorer = Known(np.random.default_rng(seed + 1).normal(size=tokens.num_tokens).astype(np.float32))
    views = policy_views(scorer, tokens, padded_ids, budget, draws, seed)
    assert views.shape == (1 + draws, len(tokens), 8)
    best = padded_ids(select(scorer, tokens, Budget(tokens=budget)).apply(tokens))
    np.testing.assert_array_equal(views[0], best)
    for view in views[1:]:
        np.testing.assert_array_equal((view > 0).sum(axis=1), np.minimum(tokens.lengths, budget))
        for row, i in zip(view, range(len(tokens)), strict=True):
            kept = row[row > 0].tolist()
            rest = iter(tokens[i].tolist())
            assert all(token in rest for token in kept), "samples are subsets, in text order"


def test_samples_follow_the_scores_and_the_seed():
    tokens = corpus([8] * 200)
    scorer = Known(np.tile(np.array([4, 4, 0, 0, 0, 0, 0, 0], dtype=np.float32), 200))
    views = policy_views(scorer, tokens, padded_ids, 2, draws=20, seed=3)
    first, second = 2 * np.exp(4) / (2 * np.exp(4) + 6), np.exp(4) / (np.exp(4) + 6)  # one after the other
    assert (views[1:] == views[0]).all(axis=2).mean() == pytest.approx(first * second, abs=0.02)
    np.testing.assert_array_equal(policy_views(scorer, tokens, padded_ids, 2, draws=20, seed=3), views)
    assert (policy_views(scorer, tokens, padded_ids, 2, draws=20, seed=4) != views).any()


def test_a_large_catalogue_is_sampled_in_parts(monkeypatch):
    tokens = corpus([8, 0, 5, 3, 8, 1, 7])
    scorer = Known(np.random.default_rng(0).normal(size=tokens.num_tokens).astype(np.float32))
    whole = policy_views(scorer, tokens, padded_ids, 3)
    monkeypatch.setattr(adaptation, "_SEGMENTS", 2)
    np.testing.assert_array_equal(policy_views(scorer, tokens, padded_ids, 3), whole)


@pytest.fixture(scope="module")
def problem():
    tokens = corpus([8] * 30)
    encoder = ItemEncoder(make_causal_lm(40))
    sequences = [[(start + step) % 30 for step in range(5)] for start in range(60)]  # what comes next can be learned
    scorer = Known(np.random.default_rng(0).normal(size=tokens.num_tokens).astype(np.float32))
    return policy_views(scorer, tokens, encoder.encode, 3), sequences[:50], sequences[50:]


def test_one_view_is_a_fit(problem):
    views, train, held_out = problem
    staged = fit_in_stages(make_recommender(views.shape[2], SMALL), views[:1], train, held_out)
    fitted = make_recommender(views.shape[2], SMALL).fit(views[0], train, held_out)
    np.testing.assert_array_equal(staged.scores(views[0], held_out), fitted.scores(views[0], held_out))


def test_stages_are_a_fit_on_all_views_and_a_tuning_on_the_first(problem, monkeypatch):
    views, train, held_out = problem
    staged = fit_in_stages(make_recommender(views.shape[2], SMALL), views, train, held_out)
    by_hand = make_recommender(views.shape[2], SMALL)
    rates = []
    learn = type(by_hand)._learn

    def spied(self, *arguments):
        rates.append(arguments[4])
        return learn(self, *arguments)

    monkeypatch.setattr(type(by_hand), "_learn", spied)
    by_hand.fit(views, train, held_out, read=views[0])
    np.testing.assert_allclose(by_hand.mean, views.mean(axis=(0, 1)), atol=1e-6)
    between = by_hand.scores(views[0], held_out)
    by_hand.tune(views[0], train, held_out)
    np.testing.assert_array_equal(staged.scores(views[0], held_out), by_hand.scores(views[0], held_out))
    assert (by_hand.scores(views[0], held_out) != between).any()
    assert rates == [SMALL.learning_rate, SMALL.learning_rate / 2]


def test_held_out_sequences_are_read_as_asked(problem):
    views, train, held_out = problem
    seen = []

    class Spy(EmbeddingRecommender):
        def log_likelihood(self, features, sequences):
            seen.append(features.numpy())
            return super().log_likelihood(features, sequences)

    Spy(views.shape[2], SMALL).fit(views, train, held_out, read=views[1])
    Spy(views.shape[2], SMALL).fit(views, train, held_out)
    half = len(seen) // 2
    assert all((features == views[1]).all() for features in seen[:half])
    assert all(np.allclose(features, views.mean(axis=0), atol=1e-5) for features in seen[half:])


def test_tuning_never_makes_held_out_users_less_likely(problem):
    _, train, held_out = problem
    features = np.random.default_rng(0).normal(size=(30, 32)).astype(np.float32)
    read = torch.from_numpy(features)
    for seed in range(3):
        config = EmbeddingConfig(width=16, epochs=60, learning_rate=1e-2, temperature=0.3, seed=seed)
        recommender = make_recommender(32, config).fit(features, train, held_out)
        before, scale = recommender.log_likelihood(read, held_out), recommender.scale.clone()
        assert before > -3.2, "it has learned; chance is -3.4"
        recommender.config = replace(config, learning_rate=1.0)  # nothing good comes of it
        recommender.tune(features, train, held_out)
        assert recommender.log_likelihood(read, held_out) == before
        assert torch.equal(recommender.scale, scale), "what features are divided by stays"


def test_features_of_another_shape_are_named(problem):
    views, train, held_out = problem
    recommender = make_recommender(views.shape[2], SMALL)
    for wrong in (views[0, :10], views[:2]):
        with pytest.raises(ValueError, match="read must be"):
            recommender.fit(views, train, held_out, read=wrong)
    with pytest.raises(ValueError, match="tune goes on with one view"):
        recommender.tune(views, train, held_out)
    with pytest.raises(ValueError, match="features must be finite"):
        recommender.tune(views[0][:, 1:], train, held_out)
