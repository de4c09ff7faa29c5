"""Popularity is ranked by hand, and a recommender that is not better gives no reward."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.conftest import make_causal_lm
from tests.learning.conftest import small_catalogue
from tsporec.evaluation.popularity import require_better_than_popularity
from tsporec.evaluation.task import Task, prepare
from tsporec.recommenders.embedding import EmbeddingConfig, make_recommender
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.tokens.ragged import RaggedTokens


def groups(items: int = 40, users: int = 80) -> tuple[Task, np.ndarray]:
    """Items of four groups with features that show the group, and users who touch one group only."""
    rng = np.random.default_rng(0)
    group = np.arange(items) % 4
    features = rng.normal(size=(items, 8)).astype(np.float32)
    features[np.arange(items), group] += 3
    rows = [rng.choice(np.flatnonzero(group == user % 4), size=5, replace=False).tolist() for user in range(users)]
    tokens = RaggedTokens.from_lists([[item] for item in range(items)])
    return Task(tokens, rows[: users // 2], rows[users // 2 :], [], []), features


def test_popularity_ranks_by_training_counts_without_the_history():
    tokens = RaggedTokens.from_lists([[i] for i in range(4)])
    task = Task(tokens, [[0, 1], [0, 1], [0, 2]], [[3, 3]], [[3, 1], [0, 1], [1, 0, 2], [0, 0]], list("abcd"))
    assert task.popularity_ranks().tolist() == [2, 1, 1, 1]
    assert task.new.tolist() == [True, True, True, False]
    assert task.repeats == 0.25


def test_a_recommender_that_learned_passes_and_a_fresh_one_does_not():
    task, features = groups()
    config = EmbeddingConfig(width=8, temperature=0.2, eval_every=10, batch_size=32)
    require_better_than_popularity(task, task.fit(features, config), features, task.held_out, "fitted")
    fresh, noise = make_recommender(8, config), np.random.default_rng(1).normal(size=(40, 8)).astype(np.float32)
    with pytest.raises(ValueError, match=r"fresh is not clearly better than popularity on 40 unseen users: NDCG@10 0"):
        require_better_than_popularity(task, fresh, noise, task.held_out, "fresh")
    with pytest.raises(ValueError, match="no unseen user touches a new item"):
        require_better_than_popularity(task, fresh, noise, [[1, 1]], "fresh")


def test_no_reward_is_taken_from_a_recommender_that_learned_nothing(tmp_path):
    pytest.importorskip("accelerate")
    from tsporec.learning.config import LearningConfig
    from tsporec.learning.warm_up import make_reward
    from tsporec.scorers import make_scorer

    made = small_catalogue()
    task = prepare(made.items, made.train, made.test, made.tokenizer, ("description",))
    rng = np.random.default_rng(0)  # users who touch anything: there is nothing to learn
    task = replace(task, train=[rng.integers(0, 40, size=4).tolist() for _ in task.train])
    recommender = EmbeddingConfig(width=8, eval_every=2, patience=1)
    config = LearningConfig(budgets=(2,), rewards={"identity": 1.0}, recommender=recommender)
    encoder = ItemEncoder(make_causal_lm(len(made.tokenizer)))
    with pytest.raises(ValueError, match="warm-up recommender 1 of 2 is not clearly better than popularity"):
        make_reward(task, encoder, make_scorer("head"), config, tmp_path / "warm-up")
