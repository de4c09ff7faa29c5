"""The recommender in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from tsporec.metrics import ndcg, ranks
from tsporec.recommenders.ridge import RidgeRecommender


def cycles(users, items, rng):
    """Users who walk through the items in order, from a random one."""
    starts = rng.integers(0, items, users)
    return [[(int(start) + step) % items for step in range(5)] for start in starts]


def test_it_learns_which_item_follows_which(monkeypatch):
    monkeypatch.setattr("tsporec.recommenders.ridge._PENALTY", 0.01)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(30, 16)).astype(np.float32)
    train, test = cycles(300, 30, rng), cycles(50, 30, rng)
    recommender = RidgeRecommender().fit(features, train)
    histories, targets = [row[:-1] for row in test], [row[-1] for row in test]
    learned = ndcg(ranks(recommender.scores(features, histories), targets, histories), 10).mean()
    other = rng.permutation(features)  # the items' features in another order: nothing that was learned is of use
    unlearned = ndcg(ranks(recommender.scores(other, histories), targets, histories), 10).mean()
    assert learned > 0.5 > unlearned


def test_the_same_fit_gives_the_same_scores_and_reads_the_latest_items(monkeypatch):
    monkeypatch.setattr("tsporec.recommenders.ridge._HISTORY", 2)
    rng = np.random.default_rng(1)
    features, train = rng.normal(size=(12, 4)).astype(np.float32), cycles(20, 12, rng)
    one, two = (RidgeRecommender().fit(features, train) for _ in range(2))
    scores = one.scores(features, [[0, 1, 2], [5, 1, 2], [1, 2]])
    np.testing.assert_array_equal(scores, two.scores(features, [[0, 1, 2], [5, 1, 2], [1, 2]]))
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])


def test_items_with_equal_features_get_equal_scores():
    features = np.float32([[1, 0], [0, 1], [0, 1], [1, 1]])
    scores = RidgeRecommender().fit(features, [[0, 1, 3], [3, 2, 0]]).scores(features, [[0]])
    assert scores[0, 1] == scores[0, 2]


def test_nothing_to_fit_is_refused():
    with pytest.raises(ValueError, match="no sequence has a next item"):
        RidgeRecommender().fit(np.eye(3, dtype=np.float32), [[0, 0], [1]])


def test_items_that_are_all_alike_are_refused():
    with pytest.raises(ValueError, match="all 3 items have the same features"):
        RidgeRecommender().fit(np.full((3, 2), 0.1, dtype=np.float32), [[0, 1, 2]])


def test_of_many_next_items_the_limit_is_used(monkeypatch):
    monkeypatch.setattr("tsporec.recommenders.ridge._PAIRS", 10)
    read, seen = RidgeRecommender._read, []
    monkeypatch.setattr(RidgeRecommender, "_read", lambda self, v, h: seen.append(len(h)) or read(self, v, h))
    RidgeRecommender().fit(np.eye(30, dtype=np.float32), [list(range(12))])
    assert seen == [10]
