"""Training ends when held-out users gain no more, and an evaluation ranks as the metrics do."""

from __future__ import annotations

import warnings
from itertools import chain

import numpy as np
import pytest
import torch

from tests.evaluation.test_measures import groups
from tsporec.metrics import ndcg, ranks
from tsporec.recommenders import training
from tsporec.recommenders.embedding import EmbeddingConfig, make_recommender
from tsporec.recommenders.training import HeldOutRows, drop_out, train_to_end


def test_held_out_rows_are_ranked_as_by_the_metrics():
    task, features = groups()
    recommender = make_recommender(8, EmbeddingConfig(width=8)).eval()
    sequences = [*task.held_out[:20], [3, 1, 3]]
    histories = [s[:place] for s in sequences for place in range(1, len(s)) if s[place] not in s[:place]]
    targets = [s[place] for s in sequences for place in range(1, len(s)) if s[place] not in s[:place]]
    expected = (1 / np.log2(1 + ranks(recommender.scores(features, histories), targets, histories))).mean()
    held = HeldOutRows.of(sequences)
    assert held.targets.tolist() == targets
    vectors = recommender.item_vectors(torch.from_numpy(features))
    assert held.ndcg(recommender, vectors) == pytest.approx(expected, abs=1e-6)


def test_equal_items_share_their_ranks():
    recommender = make_recommender(8, EmbeddingConfig(width=8)).eval()
    same = torch.ones(9, 8)
    assert HeldOutRows.of([[0, 1]]).ndcg(recommender, recommender.item_vectors(same)) == pytest.approx(
        1 / np.log2(1 + 4.5), abs=1e-4
    )


def test_many_places_are_thinned_and_repeats_left_out(monkeypatch):
    monkeypatch.setattr(training, "_PLACES", 5)
    assert HeldOutRows.of([list(range(12))]).targets.tolist() == [1, 4, 7, 10]
    assert HeldOutRows.of([[7, 7]]).targets.tolist() == [7]  # nothing else is there


class Scripted:
    """Counts steps; its held-out quality follows a script."""

    def __init__(self, qualities, **options):
        self.model = make_recommender(4, EmbeddingConfig(width=4, eval_every=2, batch_size=3, **options))
        self.batches: list[list[int]] = []
        self.qualities = iter(qualities)

    def loss(self, batch):
        self.batches.append(batch.tolist())
        return sum(weight.square().sum() for weight in self.model.parameters())

    def run(self, count=7):
        train_to_end(self.model, count, self.loss, lambda _: next(self.qualities), "scripted")
        return len(self.batches)


def test_training_ends_after_patience_and_a_cool_down():
    # The best evaluation is the second of five, at step 4. After step 10, 10 more steps cool down.
    scripted = Scripted([1, 2, 1, 2, 1], patience=3, cool_down=1.0)
    assert scripted.run() == 20
    assert sorted(chain(*scripted.batches[:3])) == list(range(7))  # every window once, then anew
    assert sorted(chain(*scripted.batches[3:6])) == list(range(7))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Scripted([1, 1], patience=1, cool_down=0.5).run() == 6


def test_reaching_the_most_steps_is_a_warning():
    with pytest.warns(UserWarning, match="training ended at max_steps=5"):
        assert Scripted(range(9), max_steps=5).run() == 5


def test_a_small_catalogue_is_trained_as_far_as_a_large_one():
    """Steps count and not epochs: the same users four times over make epochs four times as long."""
    found = []
    for repeat in (1, 4):
        task, features = groups(items=20, users=40)
        config = EmbeddingConfig(width=8, temperature=0.2, eval_every=10, batch_size=16, learning_rate=0.02)
        recommender = make_recommender(8, config).fit(features, task.train * repeat, task.held_out)
        found.append(ndcg(task.next_items(task.held_out).ranks(recommender, features), 10).mean())
    assert min(found) > 0.45
    assert abs(found[0] - found[1]) < 0.1


def test_seeds_start_from_the_same_vectors():
    task, features = groups()
    flat = np.concatenate([features, np.ones((40, 2), np.float32)], axis=1)  # two features without variance
    starts = []
    for seed in (0, 1):
        recommender = make_recommender(
            10, EmbeddingConfig(width=16, seed=seed, eval_every=1, patience=1, learning_rate=0)
        )
        recommender.fit(flat, task.train, task.held_out)
        starts.append(recommender.project((torch.from_numpy(flat) - recommender.mean) / recommender.scale))
    torch.testing.assert_close(*starts)
    covariance = starts[0].T @ starts[0] / 40
    torch.testing.assert_close(covariance, torch.diag((torch.arange(16) < 8).float()), atol=1e-3, rtol=0)


def test_drop_out_keeps_the_mean():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        dropped = drop_out(torch.ones(501, 37), 0.25)
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float(dropped.mean()) == pytest.approx(1, abs=0.02)
    assert torch.equal(drop_out(torch.ones(3), 0.0), torch.ones(3))
