"""Preference datasets: what is in them, what is refused, and how collecting resumes."""

from __future__ import annotations

import errno

import numpy as np
import pytest
import torch

pytest.importorskip("datasets")

from tests.learning.conftest import LikesThirds, collect
from tsporec.learning import preferences
from tsporec.learning.candidates import CandidateConfig
from tsporec.learning.preferences import COLUMNS, load_preferences


def test_pairs_are_better_against_worse_and_collecting_resumes(tmp_path, corpus, tokenizer):
    pairs = collect(tmp_path / "a", corpus, tokenizer)
    assert pairs.column_names == list(COLUMNS)
    assert len(set(pairs["segment"])) == len(pairs), "a row is a segment"
    for row in pairs:
        ids = np.array(row["input_ids"])
        assert (ids == corpus[row["segment"]]).all()
        assert row["budget"] == [3] * len(row["chosen"])
        for side in ("chosen", "rejected"):
            for kept, reward in zip(row[side], row[f"{side}_reward"], strict=True):
                assert (ids[kept] % 3 == 0).sum() == reward
                assert len(kept) == 3
        assert all(a > b for a, b in zip(row["chosen_reward"], row["rejected_reward"], strict=True))
    (shard,) = (tmp_path / "a").glob("preferences-00001-*.parquet")
    before = shard.read_bytes()
    shard.unlink()
    reward = LikesThirds()
    again = collect(tmp_path / "a", corpus, tokenizer, reward)
    assert reward.calls == 1  # the missing shard only
    assert shard.read_bytes() == before
    assert again.to_list() == pairs.to_list()
    assert collect(tmp_path / "b", corpus, tokenizer).to_list() == pairs.to_list(), "the same seed"
    with pytest.raises(ValueError, match="a run with other arguments"):
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


def test_a_changed_byte_is_found(tmp_path, corpus, tokenizer):
    collect(tmp_path, corpus, tokenizer)
    shard = min(tmp_path.glob("*.parquet"))
    data = shard.read_bytes()
    for place in range(0, len(data), 97):
        shard.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(ValueError, match=f"{shard.name} is damaged"):
            load_preferences(tmp_path)


def test_a_full_disk_keeps_what_is_finished(tmp_path, corpus, tokenizer, monkeypatch):
    real, calls = preferences.write_whole, []

    def write(path, data):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data)

    monkeypatch.setattr(preferences, "write_whole", write)
    with pytest.raises(OSError, match=r"1 finished shards are kept. Free some space"):
        collect(tmp_path, corpus, tokenizer)
    assert len(list(tmp_path.glob("*.parquet"))) == 1
    assert not list(tmp_path.glob("*.tmp"))
    assert len(collect(tmp_path, corpus, tokenizer)) > 0


def test_nothing_is_written_outside_the_folder(tmp_path, corpus, tokenizer, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    collect(tmp_path / "pairs", corpus, tokenizer)
    assert [path.name for path in tmp_path.iterdir()] == ["pairs"]
