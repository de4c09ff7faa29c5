"""The three stages, stopped and gone on with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("accelerate")
pytest.importorskip("datasets")

from tests.conftest import make_causal_lm
from tsporec.budget import Budget
from tsporec.data.synthetic import CatalogueConfig, generate, planted_recall
from tsporec.evaluation.task import Task, prepare
from tsporec.learning.pipeline import LearningConfig, adapt, learn_selector, train, try_weightings, warm_up
from tsporec.learning.rewards.coconsumption import CoConsumptionReward
from tsporec.recommenders.embedding import EmbeddingConfig, EmbeddingRecommender
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.scorers import make_scorer
from tsporec.selection import select
from tsporec.selector.config import WEIGHTINGS
from tsporec.selector.item_weights import CatalogueSelector
from tsporec.selector.model import SelectorConfig, TokenSelector

CONFIG = LearningConfig(
    budgets=(4, 2),
    rounds=2,
    memory_rounds=1,
    candidates=4,
    pairs=2,
    rewards={"coconsumption": 1.0, "recommendation": 1.0, "identity": 0.5},
    gate=True,
    weightings=("idf", "placed"),
    preference={"num_train_epochs": 2, "use_cpu": True},
    selector=SelectorConfig(dim=8, hidden=8, gram_buckets=512, surface_buckets=1024),
    recommender=EmbeddingConfig(width=16, epochs=2),
)


def run(output: Path, config: LearningConfig = CONFIG):
    catalogue = generate(CatalogueConfig(items=60, users=60, tastes=6, words_per_taste=3, phrases=8, sequence=5))
    model = make_causal_lm(len(catalogue.tokenizer))
    return train(catalogue.items, catalogue.train, model, catalogue.tokenizer, output, config, fields=("description",))


def weights(trained) -> list[np.ndarray]:
    states = [trained.selector.state_dict(), trained.recommender.state_dict()]
    return [value.numpy() for state in states for value in state.values()]


def test_killed_anywhere_it_ends_at_the_same_weights(tmp_path):
    whole = run(tmp_path / "whole")
    assert [round_["memory"] for round_ in whole.rounds] == [False, False, True]
    assert {p.name for p in (tmp_path / "whole").iterdir()} == {
        "run.json", "trials", "warm-up", "rounds", "selector", "recommender",
    }  # fmt: skip
    code = f"from tests.learning.test_pipeline import *; run(Path({str(tmp_path / 'cut')!r}))"
    marks = [
        "trials/idf/rounds/round-0/checkpoints", "trials/idf.json", "warm-up", "rounds/start.json",
        "rounds/round-0/checkpoints", "rounds/round-1/preferences", "rounds/round-2/checkpoints",
    ]  # fmt: skip
    for mark in marks:  # each run is killed as soon as the mark appears
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
        while process.poll() is None and not (tmp_path / "cut" / mark).exists():
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "cut" / "recommender").exists()
    resumed = run(tmp_path / "cut")
    assert (resumed.rounds, resumed.trials) == (whole.rounds, whole.trials)
    for a, b in zip(weights(whole), weights(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="other arguments"):
        run(tmp_path / "cut", LearningConfig(budgets=(3,)))


def test_training_users_choose_the_weighting_that_learning_begins_from(tmp_path, monkeypatch):
    config = replace(CONFIG, rewards={"coconsumption": 1.0}, gate=False, weightings=("idf", "placed"))
    done = run(tmp_path / "tried", config)
    assert set(done.trials) == {"idf", "placed"}
    assert all(0 <= value <= 1 for value in done.trials.values())
    best = max(done.trials, key=lambda name: done.trials[name])
    assert done.selector.selector.config.weighting == best
    alone = run(
        tmp_path / "alone",
        replace(config, weightings=(), selector=replace(config.selector, weighting=best)),
    )
    assert alone.trials == {}
    for a, b in zip(weights(done), weights(alone), strict=True):
        np.testing.assert_array_equal(a, b)

    for other in ("idf", "placed"):  # the trials' figures decide, whichever way they fall
        monkeypatch.setattr("tsporec.learning.pipeline.try_weightings", lambda *_, other=other: {other: 1.0})
        assert run(tmp_path / f"told-{other}", config).selector.selector.config.weighting == other


def test_trials_do_not_see_the_last_items(tmp_path, monkeypatch):
    catalogue = generate(CatalogueConfig(items=60, users=60, tastes=6, words_per_taste=3, phrases=8, sequence=5))
    task = prepare(catalogue.items, catalogue.train, catalogue.test, catalogue.tokenizer, ("description",))
    task.train[0] = task.train[0][:2]
    part = task.last_items()
    seen, encoder = [], ItemEncoder(make_causal_lm(len(catalogue.tokenizer)))
    config = replace(CONFIG, weightings=("idf", "tfidf"), rewards={"coconsumption": 1.0})

    def untrained(name):
        torch.manual_seed(0)
        shape = replace(config.selector, weighting=name)
        return TokenSelector(shape).for_tokenizer(catalogue.tokenizer).fit(task.tokens)

    def spied_reward(tokens, sequences):
        seen.append(sequences)
        return CoConsumptionReward(tokens, sequences)

    fit = EmbeddingRecommender.fit

    def spied_fit(self, features, sequences, *rest, **options):
        seen.append(sequences)
        return fit(self, features, sequences, *rest, **options)

    monkeypatch.setattr("tsporec.learning.pipeline.CoConsumptionReward", spied_reward)
    monkeypatch.setattr(EmbeddingRecommender, "fit", spied_fit)
    found = try_weightings(task, encoder, untrained, config, tmp_path)
    assert len(seen) >= 4
    assert all(sequences == part.train for sequences in seen)
    assert try_weightings(task, encoder, untrained, config, tmp_path) == found
    with pytest.raises(ValueError, match="other arguments"):
        try_weightings(task, encoder, untrained, replace(config, seed=7), tmp_path)
    short = Task(task.tokens, [row[:2] for row in task.train], task.held_out, task.test, task.users)
    with pytest.raises(ValueError, match="no training user has so many"):
        try_weightings(short, encoder, untrained, config, tmp_path / "short")
    assert part.test == task.train[1:]
    assert part.train == [task.train[0], *(sequence[:-1] for sequence in task.train[1:])]
    assert part.held_out == task.held_out
    assert len(set(part.users)) == len(part.test)


def test_weightings_are_refused_where_a_trial_would_cheat_or_cannot_be(tmp_path):
    catalogue = generate(CatalogueConfig(items=20, users=20, tastes=2, words_per_taste=2, phrases=4))
    model = make_causal_lm(len(catalogue.tokenizer))
    reward = CoConsumptionReward(prepare(*catalogue_parts(catalogue)).tokens, [[0, 1]])
    with pytest.raises(ValueError, match="which the reward given may know"):
        train(
            catalogue.items, catalogue.train, model, catalogue.tokenizer, tmp_path,
            replace(CONFIG, weightings=("idf", "placed")), reward=reward,
        )  # fmt: skip
    for wrong in (("idf", "best"), ("idf",)):
        with pytest.raises(ValueError, match=f"two or more of idf, tfidf, placed; found {', '.join(wrong)}"):
            replace(CONFIG, weightings=wrong)


def catalogue_parts(catalogue):
    return catalogue.items, catalogue.train, catalogue.test, catalogue.tokenizer, ("description",)


def test_sequences_without_a_pair_are_refused(tmp_path):
    made = generate(CatalogueConfig(items=20, users=20, tastes=2, words_per_taste=2, phrases=4))
    single = [replace(row, item_ids=row.item_ids[:1]) for row in made.train]
    with pytest.raises(ValueError, match="none of 20 training sequences has two items"):
        train(made.items, single, make_causal_lm(len(made.tokenizer)), made.tokenizer, tmp_path, CONFIG)


def test_a_table_of_embeddings_is_the_models(tmp_path):
    catalogue = generate(CatalogueConfig(items=40, users=40, tastes=4, words_per_taste=3, phrases=8, sequence=5))
    model = make_causal_lm(len(catalogue.tokenizer))
    weight = model.get_input_embeddings().weight
    shape = SelectorConfig.of_embeddings(weight, dim=4, hidden=4, surface_buckets=64)
    config = replace(CONFIG, selector=shape, rounds=1, rewards={"coconsumption": 1.0}, gate=False)
    arguments = catalogue.items, catalogue.train, model, catalogue.tokenizer, tmp_path, config
    done = train(*arguments, fields=("description",))
    again = CatalogueSelector.from_pretrained(tmp_path / "selector", catalogue.tokenizer, embeddings=weight)
    assert again.fingerprint == done.selector.fingerprint


def test_a_round_that_lowers_quality_is_dropped(tmp_path):
    catalogue = generate(CatalogueConfig(items=60, users=60, tastes=6, words_per_taste=3, phrases=8, sequence=5))
    task = prepare(catalogue.items, catalogue.train, catalogue.test, catalogue.tokenizer, ("description",))
    start = TokenSelector(CONFIG.selector).for_tokenizer(catalogue.tokenizer).fit(task.tokens)
    before = {key: value.clone() for key, value in start.state_dict().items()}
    reward = CoConsumptionReward(task.tokens, task.train)
    values = iter([1.0, 2.0, 0.0, 3.0])
    known, rounds = learn_selector(task.tokens, start, reward, tmp_path / "a", CONFIG, lambda _: next(values))
    assert [r["kept"] for r in rounds] == [True, False, True]
    assert isinstance(known, CatalogueSelector)
    values = iter([1.0, 0.0, 0.0, 0.0])
    same, rounds = learn_selector(task.tokens, start, reward, tmp_path / "b", CONFIG, lambda _: next(values))
    assert [r["kept"] for r in rounds] == [False, False, False]
    assert all(torch.equal(before[key], value) for key, value in same.state_dict().items())
    assert all(torch.equal(before[key], value) for key, value in start.state_dict().items())


def test_planted_words_are_found_on_items_held_out(tmp_path):
    from tsporec.cli.demo import LEARNING

    catalogue = generate()
    task = prepare(catalogue.items, catalogue.train, catalogue.test, catalogue.tokenizer, ("description",))
    held = np.arange(0, 600, 10)
    start = TokenSelector().for_tokenizer(catalogue.tokenizer).fit(task.tokens)
    reward = CoConsumptionReward(task.tokens, task.train)
    selector, _ = learn_selector(
        task.tokens, start, reward, tmp_path, LEARNING, segments=np.setdiff1d(np.arange(600), held)
    )
    part = task.tokens.take(held)
    planted = catalogue.planted[np.isin(task.tokens.segment_ids(), held)]

    def found(scorer) -> float:
        return planted_recall(planted, select(scorer, part, Budget(tokens=4)).kept, part.segment_ids(), 4)

    assert found(selector) >= 0.95
    assert max(found(make_scorer("head")), found(make_scorer("random")), found(start)) < 0.3


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_offsets_begin_from_the_selector(tmp_path, weighting):
    made = generate(CatalogueConfig(items=40, users=40, tastes=4, words_per_taste=3, phrases=8, sequence=5))
    task = prepare(made.items, made.train, made.test, made.tokenizer, ("description",))
    config = replace(CONFIG.selector, weighting=weighting)
    start = TokenSelector(config).for_tokenizer(made.tokenizer).fit(task.tokens)
    # Without a step, what is learned is the start.
    still = replace(CONFIG, rounds=0, memory={"learning_rate": 0.0, "num_train_epochs": 1, "use_cpu": True})
    reward = CoConsumptionReward(task.tokens, task.train)
    learned, _ = learn_selector(task.tokens, start, reward, tmp_path, still)
    np.testing.assert_allclose(learned.score(task.tokens), start.score(task.tokens), atol=1e-5)


def test_a_stage_refuses_the_folder_of_other_arguments(tmp_path):
    catalogue = generate(CatalogueConfig(items=40, users=40, tastes=4, words_per_taste=3, phrases=8, sequence=5))
    task = prepare(catalogue.items, catalogue.train, catalogue.test, catalogue.tokenizer, ("description",))
    encoder = ItemEncoder(make_causal_lm(len(catalogue.tokenizer)))
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
    with pytest.raises(ValueError, match="has no fingerprint"):
        learn_selector(task.tokens, start, lambda tokens, drawn: drawn.budget, tmp_path / "r", CONFIG)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rewards": {"mine": 1.0}}, "rewards are weights"),
        ({"rounds": 0, "memory_rounds": 0}, "at least one round"),
        ({"budgets": ()}, "each at least 1"),
        ({"budgets": (0,)}, "each at least 1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        LearningConfig(**options)
