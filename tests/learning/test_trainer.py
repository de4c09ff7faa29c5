"""The trainer learns, resumes at the same weights, and refuses bad datasets."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("accelerate")
pytest.importorskip("datasets")
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainerCallback

from tests.learning.conftest import LikesLate, LikesThirds, collect
from tsporec.learning.batches import SegmentPairs
from tsporec.learning.candidates import CandidateConfig
from tsporec.learning.trainer import PreferenceConfig, PreferenceTrainer, last_checkpoint
from tsporec.selector.model import SelectorConfig, TokenSelector

SMALL = SelectorConfig(dim=8, hidden=8, gram_buckets=512, surface_buckets=1024, dropout=0.1)


@pytest.fixture
def selector(tokenizer, corpus):
    torch.manual_seed(0)
    return TokenSelector(SMALL).for_tokenizer(tokenizer).fit(corpus)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, corpus, tokenizer):
    return collect(tmp_path_factory.mktemp("pairs") / "p", corpus, tokenizer)


@pytest.fixture(scope="module")
def pairs(dataset, corpus, tokenizer):
    return SegmentPairs(dataset, TokenSelector(SMALL).for_tokenizer(tokenizer).fit(corpus))


def config(folder, **options) -> PreferenceConfig:
    return PreferenceConfig(
        output_dir=str(folder), use_cpu=True, disable_tqdm=True, per_device_train_batch_size=8,
        **{"num_train_epochs": 4, "held_out": 0.2, "learning_rate": 1e-2, **options},
    )  # fmt: skip


@pytest.mark.parametrize("loss_type", ["sigmoid", "ipo", "regression"])
def test_training_raises_held_out_accuracy(tmp_path, corpus, tokenizer, selector, loss_type):
    pairs = collect(tmp_path / "p", corpus, tokenizer, LikesLate())
    trainer = PreferenceTrainer(selector, config(tmp_path / "t", loss_type=loss_type, logging_steps=1), pairs)
    trainer.train()
    evaluations = [log for log in trainer.state.log_history if "eval_rewards/accuracies" in log]
    assert max(log["eval_rewards/accuracies"] for log in evaluations) > 0.7
    steps = [log for log in trainer.state.log_history if "loss" in log]
    for name in ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"):
        assert name in steps[0]
        assert f"eval_{name}" in evaluations[0]
    held = set(trainer.eval_dataset.rows.tolist())
    assert held
    assert not held & set(trainer.train_dataset.rows.tolist())


def test_accuracy_counts_every_held_out_pair(tmp_path, corpus, tokenizer, selector):
    pairs = collect(tmp_path / "p", corpus, tokenizer, pairs=3)
    trainer = PreferenceTrainer(selector, config(tmp_path / "t", num_train_epochs=1, held_out=0.4), pairs)
    trainer.train()
    held = len(trainer.eval_dataset)
    batch = trainer.eval_dataset.__getitems__(range(held))
    with torch.no_grad():
        _, outputs = trainer.compute_loss(trainer.model.eval(), batch, return_outputs=True)
    assert len(outputs["chosen"]) == sum(len(pairs[int(row)]["chosen"]) for row in trainer.eval_dataset.rows) > held
    found = trainer.evaluate()
    right = (outputs["chosen"] > outputs["rejected"]).float().mean()
    assert found["eval_rewards/accuracies"] == pytest.approx(float(right))
    assert found["eval_rewards/chosen"] == pytest.approx(float(outputs["chosen"].mean()), abs=1e-6)


class Noise(LikesThirds):
    """Rewards that nothing can be learned from."""

    def __call__(self, tokens, candidates):
        return np.random.default_rng(0).random(len(candidates))


class Stop(TrainerCallback):
    """Kill a run after so many epochs."""

    def __init__(self, epochs):
        self.epochs = epochs

    def on_epoch_begin(self, args, state, control, **_):
        if state.epoch and round(state.epoch) == self.epochs:
            raise KeyboardInterrupt


@pytest.fixture
def fresh(tmp_path, corpus, tokenizer):
    """Make trainers of the same first weights, each with a folder of its own."""

    def make(pairs, place, *callbacks, **options):
        torch.manual_seed(0)
        policy = TokenSelector(SMALL).for_tokenizer(tokenizer).fit(corpus)
        return PreferenceTrainer(policy, config(tmp_path / place, **options), pairs, callbacks=list(callbacks))

    return make


def assert_same_weights(first, second):
    both = zip(first.selector.state_dict().items(), second.selector.state_dict().values(), strict=True)
    for (name, a), b in both:
        assert torch.equal(a, b), name


@pytest.mark.parametrize("kill", [1, 2, None])
def test_patience_is_counted_over_a_resumed_run(tmp_path, corpus, tokenizer, fresh, kill):
    """The run is killed after an epoch, or after the last one and before its weights were taken."""
    options = {"patience": 2, "num_train_epochs": 9, "learning_rate": 3e-2}
    pairs = collect(tmp_path / "p", corpus, tokenizer, Noise())
    whole = fresh(pairs, "a", **options)
    whole.train()
    assert whole.state.epoch < 9  # patience was spent
    cut = fresh(pairs, "b", Stop(kill), **options)
    if kill is None:
        cut.train()
    else:
        with pytest.raises(KeyboardInterrupt):
            cut.train()
    resumed = fresh(pairs, "b", **options)
    resumed.train(resume_from_checkpoint=last_checkpoint(tmp_path / "b"))
    assert (resumed.state.best_metric, resumed.state.global_step) == (whole.state.best_metric, whole.state.global_step)
    assert_same_weights(whole, resumed)


@pytest.mark.parametrize("named", [str, Path, lambda _: True])
def test_a_stopped_run_does_not_train_on_however_the_checkpoint_is_named(tmp_path, corpus, tokenizer, fresh, named):
    options = {"patience": 2, "num_train_epochs": 9, "learning_rate": 3e-2}
    pairs = collect(tmp_path / "p", corpus, tokenizer, Noise())
    whole = fresh(pairs, "a", **options)
    whole.train()
    shutil.move(tmp_path / "a", tmp_path / "b")  # the folder may be moved
    again = fresh(pairs, "b", **options)
    again.train(resume_from_checkpoint=named(last_checkpoint(tmp_path / "b")))
    assert again.state.global_step == whole.state.global_step < 9 * whole.state.max_steps / whole.state.num_train_epochs
    assert_same_weights(whole, again)
    with pytest.raises(ValueError, match="has no complete checkpoint"):
        fresh(pairs, "c").train(resume_from_checkpoint=True)
    for odd in ("latest", tmp_path / "b", tmp_path):
        with pytest.raises(ValueError, match=r"is no checkpoint: it has no trainer_state\.json\. Give"):
            fresh(pairs, "c").train(resume_from_checkpoint=odd)


def test_a_missing_extra_names_its_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ImportError, match=r'pip install "tsporec\[train\]"'):
        config(tmp_path)


def test_resumed_training_ends_at_the_same_weights(tmp_path, corpus, tokenizer, fresh):
    pairs = collect(tmp_path / "p", corpus, tokenizer)
    whole = fresh(pairs, "a", patience=9)
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        fresh(pairs, "b", Stop(2), patience=9).train()
    broken = tmp_path / "b" / "checkpoint-99"
    broken.mkdir()
    (broken / "trainer_state.json").write_text("{")
    found = Path(last_checkpoint(tmp_path / "b"))
    assert json.loads((found / "trainer_state.json").read_text())["epoch"] == 2
    resumed = fresh(pairs, "b", patience=9)
    resumed.train(resume_from_checkpoint=found)
    assert_same_weights(whole, resumed)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_checkpoint_with_a_damaged_or_missing_file_is_refused(tmp_path, corpus, tokenizer, fresh, name):
    pairs = collect(tmp_path / "p", corpus, tokenizer)
    cut = fresh(pairs, "t", Stop(2))
    with pytest.raises(KeyboardInterrupt):
        cut.train()
    checkpoint = Path(last_checkpoint(tmp_path / "t"))
    whole = (checkpoint / name).read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes(byte ^ 1 for byte in whole[middle : middle + 200]) + whole[middle + 200 :]
    damages = [whole[:middle], b"", None] + [flipped] * name.endswith((".pt", ".pth"))
    for data in damages:
        (checkpoint / name).unlink(missing_ok=True)
        if data is not None:
            (checkpoint / name).write_bytes(data)
        with pytest.raises(ValueError, match=rf"{re.escape(str(checkpoint / name.split('.')[0]))}.* (damaged|missing)"):
            fresh(pairs, "t").train(resume_from_checkpoint=True)
    (checkpoint / name).write_bytes(whole)
    resumed = fresh(pairs, "t")
    resumed.train(resume_from_checkpoint=True)
    straight = fresh(pairs, "u")
    straight.train()
    assert_same_weights(straight, resumed)


def test_a_missing_best_checkpoint_is_named(tmp_path, corpus, tokenizer, fresh):
    options = {"patience": 2, "num_train_epochs": 9, "learning_rate": 3e-2}
    pairs = collect(tmp_path / "p", corpus, tokenizer, Noise())
    whole = fresh(pairs, "t", **options)
    whole.train()
    best = tmp_path / "t" / f"checkpoint-{whole.state.best_global_step}"
    (best / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=rf"{best.name}/model.safetensors is missing"):
        fresh(pairs, "t", **options).train(resume_from_checkpoint=True)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=5))
def test_a_batch_holds_the_subsets_of_its_rows(dataset, pairs, numbers):
    rows = [number % len(pairs) for number in numbers]
    batch = {name: values.numpy() for name, values in pairs.__getitems__(rows).items()}
    expected = [(dataset[row], pair) for row in rows for pair in range(len(dataset[row]["chosen"]))]
    assert len(batch["pair_cu"]) == len(expected) + 1
    for number, (row, pair) in enumerate(expected):
        start = batch["cu_seqlens"][batch["pair_segment"][number]]
        difference = np.float32(row["chosen_reward"][pair]) - np.float32(row["rejected_reward"][pair])
        assert batch["reward_difference"][number] == difference
        for side in ("chosen", "rejected"):
            kept = batch[side][batch["pair_cu"][number] : batch["pair_cu"][number + 1]]
            assert (kept - start).tolist() == row[side][pair]
            assert batch["ids"][kept].tolist() == [row["input_ids"][place] for place in row[side][pair]]


def test_rows_of_one_segment_are_held_out_together(tmp_path, corpus, tokenizer, selector):
    import datasets

    both = datasets.concatenate_datasets(
        [collect(tmp_path / str(k), corpus, tokenizer, candidates=CandidateConfig((k,), 6)) for k in (2, 3)]
    )
    parts = SegmentPairs(both, selector).split(0.3, 0)
    segments = [set(part.segment[part.rows].tolist()) for part in parts]
    assert segments[0]
    assert segments[1]
    assert not segments[0] & segments[1]
    assert sum(map(len, parts)) == len(both)


def test_bad_datasets_are_refused(tmp_path, corpus, tokenizer, selector, wordpiece_tokenizer):
    pairs = collect(tmp_path / "p", corpus, tokenizer)
    args = config(tmp_path / "t")
    with pytest.raises(ValueError, match="train_dataset is empty"):
        PreferenceTrainer(selector, args, pairs.select([]))
    with pytest.raises(ValueError, match=r"lacks the columns \['rejected'\]"):
        PreferenceTrainer(selector, args, pairs.remove_columns("rejected"))
    with pytest.raises(ValueError, match="another tokenizer"):
        PreferenceTrainer(TokenSelector(SMALL).for_tokenizer(wordpiece_tokenizer), args, pairs)
    mixed = pairs.map(lambda row, i: {"tokenizer": "other" if i == 3 else row["tokenizer"]}, with_indices=True)
    with pytest.raises(ValueError, match=r"another tokenizer \(.*other\)"):
        PreferenceTrainer(selector, args, mixed)

    def changed(column, value):
        rows = pairs.to_list()
        rows[2][column][0] = value
        return type(pairs).from_list(rows, features=pairs.features)

    with pytest.raises(ValueError, match="rewards of 1 pairs are not finite, the first in row 2"):
        SegmentPairs(changed("chosen_reward", np.nan), selector)
    with pytest.raises(ValueError, match="not bound"):
        PreferenceTrainer(TokenSelector(SMALL), args, pairs)
    with pytest.raises(ValueError, match="a pair in row 2 keeps 1 against 3 tokens"):
        SegmentPairs(changed("chosen", [0]), selector)
    with pytest.raises(ValueError, match="row 2: chosen names place 999"):
        SegmentPairs(changed("chosen", [0, 1, 999]), selector)
    with pytest.raises(ValueError, match="loss_type must be"):
        config(tmp_path, loss_type="dpo")
    with pytest.raises(ValueError, match="expected beta > 0"):
        config(tmp_path, beta=0.0)
