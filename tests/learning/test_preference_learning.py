"""Datasets and the trainer."""

from __future__ import annotations

import errno
import json

import numpy as np
import pytest
import torch

from tests.conftest import TEXTS
from tsporec.learning import dataset as dataset_module
from tsporec.learning.candidates import CandidateConfig
from tsporec.learning.dataset import COLUMNS, collect_preferences, load_preferences
from tsporec.selector.model import SelectorConfig, TokenSelector
from tsporec.tokens.fingerprint import tokenizer_fingerprint
from tsporec.tokens.ragged import RaggedTokens

pytest.importorskip("accelerate")
from tsporec.learning.pairs import SegmentPairs, collate_segments
from tsporec.learning.trainer import PreferenceConfig, PreferenceTrainer, last_checkpoint

SMALL = SelectorConfig(dim=8, hidden=8, gram_buckets=512, surface_buckets=1024, dropout=0.1)


class LikesThirds:
    """Rewards tokens whose id is divisible by three."""

    fingerprint = "thirds"

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, tokens, candidates):
        self.calls += 1
        good = (tokens.ids % 3 == 0).astype(np.float64)
        return np.add.reduceat(np.append(good[candidates.kept], 0), candidates.cu_seqlens[:-1])


class LikesLate:
    """Rewards tokens that stand late in the text."""

    fingerprint = "late"

    def __call__(self, tokens, candidates):
        place = tokens.offsets() / np.repeat(tokens.lengths, tokens.lengths)
        return np.add.reduceat(np.append(place[candidates.kept], 0), candidates.cu_seqlens[:-1])


@pytest.fixture(scope="module")
def corpus(tokenizer):
    rows = tokenizer(TEXTS, add_special_tokens=False)["input_ids"]
    return RaggedTokens.from_lists([row[i:] + row[:i] for row in rows for i in range(8)])


@pytest.fixture
def selector(tokenizer, corpus):
    torch.manual_seed(0)
    return TokenSelector(SMALL).for_tokenizer(tokenizer).fit(corpus)


def collect(folder, corpus, tokenizer, reward=None, **options):
    options = {"candidates": CandidateConfig((3,), 6), "shard_segments": 16, **options}
    return collect_preferences(
        corpus, np.zeros(corpus.num_tokens, dtype=np.float32), reward or LikesThirds(), folder,
        tokenizer_fingerprint=tokenizer_fingerprint(tokenizer), **options,
    )  # fmt: skip


def test_pairs_are_better_against_worse_and_collecting_resumes(tmp_path, corpus, tokenizer):
    pairs = collect(tmp_path / "a", corpus, tokenizer)
    assert pairs.column_names == list(COLUMNS)
    for row in pairs:
        ids = np.array(row["input_ids"])
        assert (ids == corpus[row["segment"]]).all()
        for side in ("chosen", "rejected"):
            assert (ids[row[side]] % 3 == 0).sum() == row[f"{side}_reward"]
            assert len(row[side]) == 3
        assert row["chosen_reward"] > row["rejected_reward"]
    shard = tmp_path / "a" / "pairs-00001.parquet"
    before = shard.read_bytes()
    shard.unlink()
    reward = LikesThirds()
    again = collect(tmp_path / "a", corpus, tokenizer, reward)
    assert reward.calls == 1  # the missing shard only
    assert shard.read_bytes() == before
    assert again.to_list() == pairs.to_list()
    with pytest.raises(ValueError, match="begun with other"):
        collect(tmp_path / "a", corpus, tokenizer, seed=5)


def test_bad_rewards_and_empty_datasets(tmp_path, corpus, tokenizer):
    class Constant:
        fingerprint = "constant"

        def __call__(self, tokens, candidates):
            return np.ones(len(candidates))

    class Broken(Constant):
        def __call__(self, tokens, candidates):
            return np.full(len(candidates), np.nan)

    class Rounding(Constant):
        def __call__(self, tokens, candidates):
            return -20 + 1e-6 * LikesThirds()(tokens, candidates)

    class Nameless:
        def __call__(self, tokens, candidates):
            return np.ones(len(candidates))

    for name, reward in (("a", Constant()), ("r", Rounding())):
        with pytest.raises(ValueError, match=r"does not\s+depend"):
            collect(tmp_path / name, corpus, tokenizer, reward)
    with pytest.raises(ValueError, match="Nameless has no fingerprint"):
        collect(tmp_path / "n", corpus, tokenizer, Nameless())
    with pytest.raises(ValueError, match="NaN weights"):
        collect(tmp_path / "b", corpus, tokenizer, Broken())
    with pytest.raises(ValueError, match="has no pairs"):
        collect(tmp_path / "c", corpus, tokenizer, candidates=CandidateConfig((500,), 4))
    with pytest.raises(ValueError, match="no preference dataset"):
        load_preferences(tmp_path / "nowhere")


def test_items_that_nobody_touched_do_not_stop_the_rest(tmp_path, corpus, tokenizer):
    class LikesTheLast:
        fingerprint = "last"

        def __call__(self, tokens, candidates):
            return LikesThirds()(tokens, candidates) * (candidates.segment == len(tokens) - 1)

    assert set(collect(tmp_path, corpus, tokenizer, LikesTheLast())["segment"]) == {len(corpus) - 1}


def test_a_reward_may_be_a_tensor(tmp_path, corpus, tokenizer):
    class Tensor(LikesThirds):
        def __call__(self, tokens, candidates):
            return torch.tensor(super().__call__(tokens, candidates), dtype=torch.bfloat16, requires_grad=True)

    found = collect(tmp_path / "b", corpus, tokenizer, Tensor())
    assert found.to_list() == collect(tmp_path / "a", corpus, tokenizer).to_list()


def test_an_unfinished_collection_is_not_a_dataset(tmp_path, corpus, tokenizer):
    collect(tmp_path, corpus, tokenizer)
    shards = sorted(tmp_path.glob("*.parquet"))
    shards[-1].unlink()
    with pytest.raises(ValueError, match=f"{len(shards) - 1} of {len(shards)} shards"):
        load_preferences(tmp_path)


def test_a_full_disk_keeps_what_is_finished(tmp_path, corpus, tokenizer, monkeypatch):
    from pyarrow import parquet

    real, calls = parquet.write_table, []

    def write(table, path):
        calls.append(path)
        if len(calls) == 2:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(table, path)

    monkeypatch.setattr(parquet, "write_table", write)
    with pytest.raises(OSError, match=r"1 finished shards are kept. Free some space"):
        collect(tmp_path, corpus, tokenizer)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pairs-00000.parquet", dataset_module.MANIFEST]
    assert len(collect(tmp_path, corpus, tokenizer)) > 0


def config(folder, **options) -> PreferenceConfig:
    return PreferenceConfig(
        output_dir=str(folder), use_cpu=True, disable_tqdm=True, per_device_train_batch_size=8,
        **{"num_train_epochs": 4, "held_out": 0.2, "learning_rate": 1e-2, **options},
    )  # fmt: skip


@pytest.mark.parametrize("loss_type", ["sigmoid", "ipo", "hinge", "regression"])
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
    held = set(trainer.eval_dataset.chosen_segments.tolist())
    assert held
    assert not held & set(trainer.train_dataset.chosen_segments.tolist())


def test_accuracy_counts_every_held_out_pair(tmp_path, corpus, tokenizer, selector):
    pairs = collect(tmp_path / "p", corpus, tokenizer, pairs=3)
    trainer = PreferenceTrainer(selector, config(tmp_path / "t", num_train_epochs=1, held_out=0.4), pairs)
    trainer.train()
    held = [trainer.eval_dataset[i] for i in range(len(trainer.eval_dataset))]
    batch = collate_segments(held)
    with torch.no_grad():
        _, outputs = trainer.compute_loss(trainer.model.eval(), batch, return_outputs=True)
    assert len(outputs["chosen"]) == sum(len(row["chosen"]) for row in held) > len(held)
    found = trainer.evaluate()
    right = (outputs["chosen"] > outputs["rejected"]).float().mean()
    assert found["eval_rewards/accuracies"] == pytest.approx(float(right))
    assert found["eval_rewards/chosen"] == pytest.approx(float(outputs["chosen"].mean()), abs=1e-6)


@pytest.mark.parametrize("kill", [1, 2, None])
def test_patience_is_counted_over_a_resumed_run(tmp_path, corpus, tokenizer, kill):
    """Killed after an epoch, or after the last one and before its weights were taken."""
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_epoch_begin(self, args, state, control, **_):
            if state.epoch and round(state.epoch) == kill:
                raise KeyboardInterrupt

    class Noise(LikesThirds):
        def __call__(self, tokens, candidates):
            return np.random.default_rng(0).random(len(candidates))

    def trainer(place, *callbacks):
        torch.manual_seed(0)
        policy = TokenSelector(SMALL).for_tokenizer(tokenizer).fit(corpus)
        args = config(tmp_path / place, patience=2, num_train_epochs=9, learning_rate=3e-2)
        return PreferenceTrainer(policy, args, pairs, callbacks=list(callbacks))

    pairs = collect(tmp_path / "p", corpus, tokenizer, Noise())
    whole = trainer("a")
    whole.train()
    assert whole.state.epoch < 9  # patience was spent
    cut = trainer("b", Stop())
    if kill is None:
        cut.train()
    else:
        with pytest.raises(KeyboardInterrupt):
            cut.train()
    resumed = trainer("b")
    resumed.train(resume_from_checkpoint=last_checkpoint(tmp_path / "b"))
    assert resumed.state.best_metric == whole.state.best_metric
    for a, b in zip(whole.selector.state_dict().values(), resumed.selector.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_resumed_training_ends_at_the_same_weights(tmp_path, corpus, tokenizer):
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_epoch_begin(self, args, state, control, **_):
            if state.epoch and round(state.epoch) == 2:
                raise KeyboardInterrupt

    def fresh():
        torch.manual_seed(0)
        return TokenSelector(SMALL).for_tokenizer(tokenizer).fit(corpus)

    pairs = collect(tmp_path / "p", corpus, tokenizer)
    whole = fresh()
    PreferenceTrainer(whole, config(tmp_path / "a", patience=9), pairs).train()
    stopped = fresh()
    with pytest.raises(KeyboardInterrupt):
        PreferenceTrainer(stopped, config(tmp_path / "b", patience=9), pairs, callbacks=[Stop()]).train()
    broken = tmp_path / "b" / "checkpoint-99"
    broken.mkdir()
    (broken / "trainer_state.json").write_text("{")
    found = last_checkpoint(tmp_path / "b")
    assert found is not None
    assert json.loads((tmp_path / "b" / found.split("/")[-1] / "trainer_state.json").read_text())["epoch"] == 2
    resumed = fresh()
    PreferenceTrainer(resumed, config(tmp_path / "b", patience=9), pairs).train(resume_from_checkpoint=found)
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


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
    bad = pairs.map(lambda row, i: {"chosen_reward": np.nan if i == 2 else row["chosen_reward"]}, with_indices=True)
    with pytest.raises(ValueError, match="rewards of pair 2"):
        SegmentPairs(bad, selector)
    with pytest.raises(ValueError, match="not bound"):
        PreferenceTrainer(TokenSelector(SMALL), args, pairs)
    with pytest.raises(ValueError, match="pair 0 keeps 1 tokens against 3"):
        SegmentPairs(
            pairs.map(lambda row, i: {"chosen": row["chosen"][:1]} if i == 0 else row, with_indices=True), selector
        )
    with pytest.raises(ValueError, match="names place 999"):
        SegmentPairs(pairs.map(lambda row: {"chosen": [0, 1, 999]}), selector)
    with pytest.raises(ValueError, match="loss_type must be"):
        config(tmp_path, loss_type="dpo")
    with pytest.raises(ValueError, match="expected beta > 0"):
        config(tmp_path, beta=0.0)
