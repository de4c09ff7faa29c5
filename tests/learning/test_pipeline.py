"""The three stages, killed and resumed."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

pytest.importorskip("accelerate")
pytest.importorskip("datasets")

from tests.conftest import make_causal_lm
from tests.learning.conftest import small_catalogue
from tsporec.budget import Budget
from tsporec.data.synthetic import planted_recall
from tsporec.evaluation.task import Task
from tsporec.learning.config import LearningConfig
from tsporec.learning.pipeline import adapt, choose_start, train
from tsporec.learning.resume import working_in
from tsporec.learning.rewards.coconsumption import CoConsumptionReward
from tsporec.learning.rounds import learn_selector
from tsporec.learning.warm_up import warm_up
from tsporec.recommenders.embedding import EmbeddingConfig
from tsporec.recommenders.ridge import RidgeRecommender
from tsporec.scorers import make_scorer
from tsporec.selection import select
from tsporec.selector.config import WEIGHTINGS
from tsporec.selector.distinct_items import distinct_share
from tsporec.selector.model import SelectorConfig, TokenSelector
from tsporec.tokens.ragged import segment_digests

FAST = {"num_train_epochs": 2, "use_cpu": True}
CONFIG = LearningConfig(
    budgets=(4, 2),
    weightings=("idf",),
    distinct=(),
    network_rounds=1,
    item_rounds=1,
    candidates=4,
    pairs=2,
    network_training=FAST,
    item_training=FAST,
    selector=SelectorConfig(dim=8, hidden=8, gram_buckets=512, surface_buckets=1024),
    recommender=EmbeddingConfig(width=16, eval_every=5, patience=1),
    gate=False,
)
EVERYTHING = replace(
    CONFIG,
    rewards={"coconsumption": 1.0, "recommendation": 1.0, "identity": 0.5},
    gate=True,
    weightings=("idf", "placed"),
    distinct=(1.2,),
)


def run(output: Path, config: LearningConfig = CONFIG):
    made = small_catalogue()
    model = make_causal_lm(len(made.tokenizer))
    with patch("tsporec.learning.warm_up.require_better_than_popularity"):  # 40 users teach no recommender
        return train(made.items, made.train, model, made.tokenizer, output, config, fields=("description",))


def run_killed(output: Path, writes: int) -> None:
    """Run until ``writes`` files were written and be killed before the last of them, or after it if there is a half."""
    from transformers import Trainer

    left = [writes]

    def counted(function):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            function(*args, **kwargs)
            if left[0] == 0.5:
                os.kill(os.getpid(), signal.SIGKILL)

        return call

    os.replace = counted(os.replace)
    Trainer._save_rng_state = counted(Trainer._save_rng_state)
    run(output, EVERYTHING)


def weights(trained) -> list[np.ndarray]:
    states = [trained.selector.state_dict(), trained.recommender.state_dict()]
    return [value.numpy() for state in states for value in state.values()]


def test_killed_anywhere_it_ends_at_the_same_weights(tmp_path):
    whole = run(tmp_path / "whole", EVERYTHING)
    assert [one["learned"] for one in whole.rounds] == ["network", "item weights"]
    assert {p.name for p in (tmp_path / "whole").iterdir() if not p.name.startswith(".")} == {
        "run.json", "starts", "warm-up", "rounds", "selector", "recommender",
    }  # fmt: skip
    processes = multiprocessing.get_context("forkserver")
    llama = "transformers.models.llama.modeling_llama"
    processes.set_forkserver_preload(["tests.learning.test_pipeline", "tsporec.learning.trainer", llama, "datasets"])
    killed, seed = 0, random.randrange(10**6)
    rng = random.Random(seed)
    while True:
        writes = rng.randint(8, 20) + rng.choice([0, 0.5])
        child = processes.Process(target=run_killed, args=(tmp_path / "cut", writes))
        child.start()
        child.join()
        if child.exitcode != -signal.SIGKILL:
            break
        killed += 1
    assert (child.exitcode, killed >= 2) == (0, True), f"seed {seed}, killed {killed} times"
    resumed = run(tmp_path / "cut", EVERYTHING)
    assert (resumed.rounds, resumed.trials) == (whole.rounds, whole.trials), f"seed {seed}"
    for a, b in zip(weights(whole), weights(resumed), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=f"seed {seed}")
    assert not [path for path in (tmp_path / "cut").rglob(".*") if path.suffix in (".tmp", ".part")]
    with pytest.raises(ValueError, match="other arguments"):
        run(tmp_path / "cut", LearningConfig(budgets=(3,)))


def test_the_callers_random_generators_are_left_as_they_were(tmp_path, catalogue):
    def states():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002

    model = make_causal_lm(len(catalogue.tokenizer))
    arguments = catalogue.items, catalogue.train, model, catalogue.tokenizer, tmp_path, CONFIG
    before = states()
    train(*arguments, fields=("description",))
    assert states() == before


def test_training_users_choose_what_learning_starts_from(tmp_path):
    config = replace(CONFIG, network_rounds=0, weightings=("idf", "placed"), distinct=(0.0, 1.2))
    done = run(tmp_path / "tried", config)
    assert set(done.trials) == {"idf, distinct 0", "idf, distinct 1.2", "placed, distinct 0", "placed, distinct 1.2"}
    assert all(0 <= value <= 1 for value in done.trials.values())
    assert done.trials[str(done.start)] == max(done.trials.values())
    assert done.selector.config.weighting == done.start.weighting
    config = replace(config, weightings=(done.start.weighting,), distinct=(done.start.distinct,))
    alone = run(tmp_path / "alone", config)
    assert alone.trials == {}
    for a, b in zip(weights(done), weights(alone), strict=True):
        np.testing.assert_array_equal(a, b)


def test_without_rounds_a_selector_keeps_distinct_selections(tmp_path, catalogue, task):
    done = run(tmp_path, LearningConfig(budgets=(3,), selector=CONFIG.selector, recommender=CONFIG.recommender))
    assert done.rounds == []
    assert distinct_share(done.selector.select(task.tokens, 3).apply(task.tokens), segment_digests(task.tokens)) == 1


def test_starts_are_not_compared_by_what_they_are_fitted_on(tmp_path, monkeypatch, catalogue, task, encoder):
    task = Task(task.tokens, [task.train[0][:2], *task.train[1:]], task.held_out, task.test, task.users)
    part, seen = task.last_items(), []
    config = replace(CONFIG, weightings=("idf", "tfidf"))

    def untrained(name):
        return (
            TokenSelector(replace(config.selector, weighting=name)).for_tokenizer(catalogue.tokenizer).fit(task.tokens)
        )

    fit = RidgeRecommender.fit

    def spied(self, features, sequences):
        seen.append(sequences)
        return fit(self, features, sequences)

    monkeypatch.setattr(RidgeRecommender, "fit", spied)
    found = choose_start(task, encoder, untrained, config, tmp_path)
    assert seen == [part.train] * 2
    assert choose_start(task, encoder, untrained, config, tmp_path) == found
    assert len(seen) == 2, "the figures were kept"
    with pytest.raises(ValueError, match="other arguments"):
        choose_start(task, encoder, untrained, replace(config, seed=7), tmp_path)
    short = Task(task.tokens, [row[:2] for row in task.train], task.held_out, task.test, task.users)
    with pytest.raises(ValueError, match="no training user has three"):
        choose_start(short, encoder, untrained, config, tmp_path / "short")
    assert part.test == task.train[1:]
    assert part.train == [task.train[0], *(sequence[:-1] for sequence in task.train[1:])]
    assert part.held_out == task.held_out
    assert len(set(part.users)) == len(part.test)


def test_a_second_training_in_the_folder_is_refused(tmp_path):
    with working_in(tmp_path, {}), pytest.raises(ValueError, match=f"in use by process {os.getpid()} on"):
        run(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "run.json"}


def test_sequences_without_a_pair_are_refused(tmp_path, catalogue):
    single = [replace(row, item_ids=row.item_ids[:1]) for row in catalogue.train]
    model = make_causal_lm(len(catalogue.tokenizer))
    with pytest.raises(ValueError, match="0 of the training users have two items or more"):
        train(catalogue.items, single, model, catalogue.tokenizer, tmp_path, CONFIG)


def test_a_round_that_lowers_quality_is_dropped(tmp_path, catalogue, task):
    config = replace(CONFIG, network_rounds=2)
    start = TokenSelector(CONFIG.selector).for_tokenizer(catalogue.tokenizer).fit(task.tokens)
    before = {key: value.clone() for key, value in start.state_dict().items()}
    reward = CoConsumptionReward(task.tokens, task.train)
    values = iter([1.0, 2.0, 0.0, 3.0])
    known, rounds = learn_selector(task.tokens, start, reward, tmp_path / "a", config, lambda _: next(values))
    assert [r["kept"] for r in rounds] == [True, False, True]
    assert known.item_weights is not None
    assert len(known.item_weights.ids) == len(catalogue.items), "items are found by their ids"
    values = iter([1.0, 0.0, 0.0, 0.0])
    same, rounds = learn_selector(task.tokens, start, reward, tmp_path / "b", config, lambda _: next(values))
    assert [r["kept"] for r in rounds] == [False, False, False]
    assert all(torch.equal(before[key], value) for key, value in same.state_dict().items())
    assert all(torch.equal(before[key], value) for key, value in start.state_dict().items())


def test_planted_words_are_found_on_items_held_out(tmp_path):
    from tsporec.cli.demo import LEARNING
    from tsporec.data.items import tokenize_items
    from tsporec.data.synthetic import generate

    made = generate()
    tokens = tokenize_items(made.items, made.tokenizer, ("description",))
    index = {item.id: i for i, item in enumerate(made.items)}
    held = np.arange(0, 600, 10)
    torch.manual_seed(0)
    start = TokenSelector().for_tokenizer(made.tokenizer).fit(tokens)
    reward = CoConsumptionReward(tokens, [[index[item] for item in row.item_ids] for row in made.train])
    seen = np.setdiff1d(np.arange(600), held)
    selector, _ = learn_selector(tokens, start, reward, tmp_path, LEARNING, segments=seen)
    part = tokens.take(held)
    planted = made.planted[np.isin(tokens.segment_ids(), held)]

    def found(scorer) -> float:
        return planted_recall(planted, select(scorer, part, 4).kept, part.segment_ids(), 4)

    assert found(selector) >= 0.95
    assert max(found(make_scorer("head")), found(make_scorer("random")), found(start)) < 0.3


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_item_weights_start_from_the_selector(tmp_path, weighting, catalogue, task):
    config = replace(CONFIG.selector, weighting=weighting)
    start = TokenSelector(config).for_tokenizer(catalogue.tokenizer).fit(task.tokens)
    # Without a step, the learned selector is the first one.
    still = replace(CONFIG, network_rounds=0, item_training={**FAST, "learning_rate": 0.0, "num_train_epochs": 1})
    reward = CoConsumptionReward(task.tokens, task.train)
    learned, _ = learn_selector(task.tokens, start, reward, tmp_path, still)
    np.testing.assert_allclose(learned.score(task.tokens), start.score(task.tokens), atol=1e-5)


def test_a_stage_refuses_the_folder_of_other_arguments(tmp_path, catalogue, task, encoder):
    start = TokenSelector(CONFIG.selector).for_tokenizer(catalogue.tokenizer).fit(task.tokens)
    head, other = make_scorer("head"), replace(CONFIG, seed=1)
    first = adapt(task, encoder, head, CONFIG, tmp_path / "adapted")
    same = adapt(task, encoder, head, CONFIG, tmp_path / "adapted")
    for a, b in zip(first.state_dict().values(), same.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    anew = adapt(task, encoder, head, other, tmp_path / "anew")
    pairs = zip(first.state_dict().values(), anew.state_dict().values(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)
    for scorer, config in ((make_scorer("random"), CONFIG), (head, other)):
        with pytest.raises(ValueError, match="other arguments"):
            adapt(task, encoder, scorer, config, tmp_path / "adapted")
    warm_up(task, encoder, head, CONFIG, tmp_path / "warm-up")
    with pytest.raises(ValueError, match="other arguments"):
        warm_up(task, encoder, start, CONFIG, tmp_path / "warm-up")
    rewards = [CoConsumptionReward(task.tokens, part) for part in (task.train, task.held_out)]
    learn_selector(task.tokens, start, rewards[0], tmp_path / "rounds", CONFIG)
    for reward, config in ((rewards[1], CONFIG), (rewards[0], other)):
        with pytest.raises(ValueError, match="other arguments"):
            learn_selector(task.tokens, start, reward, tmp_path / "rounds", config)
    with pytest.raises(ValueError, match="other arguments"):
        learn_selector(task.tokens, start, rewards[0], tmp_path / "rounds", CONFIG, lambda _: 1.0)
    with pytest.raises(ValueError, match="has no fingerprint"):
        learn_selector(task.tokens, start, lambda tokens, sampled: sampled.budget, tmp_path / "r", CONFIG)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rewards": {"mine": 1.0}}, "rewards must give weights"),
        ({"network_rounds": -1}, "rounds cannot be below 0"),
        ({"weightings": ()}, "one or more of idf, tfidf, placed; found none"),
        ({"weightings": ("idf", "best")}, "found idf, best"),
        ({"distinct": (-1.0,)}, "distinct must be finite strengths"),
        ({"budgets": ()}, "a tuple of one or more"),
        ({"budgets": 8}, "a tuple of one or more"),
        ({"budgets": (0,)}, "at least 1"),
        ({"budgets": (Budget(total=8),)}, "not of a total"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        LearningConfig(**options)
