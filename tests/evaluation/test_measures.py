"""New targets are the figure and repeats stand apart; seeds give the resolution; popularity has to be beaten."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.conftest import make_causal_lm
from tests.learning.conftest import small_catalogue
from tsporec.evaluation.evaluator import Evaluator
from tsporec.evaluation.measures import (
    Cell,
    Evaluation,
    Resolution,
    compare,
    repeats_ndcg,
    require_better_than_popularity,
    resolutions,
)
from tsporec.evaluation.report import table_notes
from tsporec.evaluation.task import Task, prepare
from tsporec.recommenders.embedding import EmbeddingConfig, make_recommender
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.tokens.ragged import RaggedTokens


def rows(*test: list[int]) -> Task:
    return Task(
        RaggedTokens.from_lists([[i] for i in range(6)]), [[0, 1]], [[0, 1]], list(test), list("abcdef")[: len(test)]
    )


def cell(scorer: str, deviation: float, case: str = "adapted") -> Cell:
    return Cell(scorer, 2, case, {}, None, {"ndcg@10": deviation}, 0, 0, 0, {})


def test_repeats_do_not_count_as_new_targets():
    task = rows([0, 1], [2, 3, 2], [4, 5])
    ranks = np.array([[1, 1, 3], [1, 2, 3]])
    per_seed, versus = compare(task, ranks, {"other": np.array([[3, 1, 3]])})
    assert per_seed["ndcg@10"].tolist() == [[1, 0.5], [1, 0.5]]
    assert per_seed["mrr"].mean() == pytest.approx(2 / 3)
    assert versus["other"]["ndcg@10"][0] == pytest.approx(0.25)
    assert repeats_ndcg(task, ranks) == pytest.approx((1 + 1 / math.log2(3)) / 2)
    assert repeats_ndcg(rows([0, 1]), np.array([[1]])) is None


def test_the_resolution_pools_the_fits_of_one_selection():
    cells = [cell("head", 0.003), cell("tfidf", 0.004), cell("selector", 0.9), cell("head", 0.1, "frozen")]
    found = resolutions(cells, 3, ["head", "tfidf"])
    deviation = math.sqrt((0.003**2 + 0.004**2) / 2 * 3 / 2)  # around the mean, divided by the number less one
    assert found["adapted"].deviation == pytest.approx(deviation)
    assert found["adapted"].difference == pytest.approx(2 * math.sqrt(2) * deviation / math.sqrt(3))
    assert set(found) == {"adapted", "frozen"}
    assert resolutions(cells, 1, ["head"]) == {}


def test_the_table_says_what_it_shows():
    found = Evaluation([], 200, 0.05, [0, 1], {"ndcg@10": 0.0123}, {"adapted": Resolution(0.001, 0.002)})
    notes = table_notes(found, "adapted")
    assert "the 190 rows with a new target. The others (5.0%) repeat an item" in notes
    assert "Popularity: NDCG@10 0.0123" in notes
    assert "deviate by 0.0010; differences under 0.0020" in notes
    assert "One seed says nothing" in table_notes(replace(found, resolution={}), "adapted")
    plain = found.to_dict()
    assert plain["new_targets"] == 190
    assert plain["resolution"] == {"adapted": {"deviation": 0.001, "difference": 0.002}}


def test_a_task_of_repeats_alone_is_refused():
    class Encoder:
        fingerprint, width = "none", 2

    with pytest.raises(ValueError, match="no test row has a new target"):
        Evaluator(rows([1, 1]), Encoder()).run({}, [2])


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
