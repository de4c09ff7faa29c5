"""A feature is cut by one of the collators, whichever its batch."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.collators.features import make_features
from tsporec import Budget, MixedCollator, SelectorCollator, make_scorer

RULES = [make_scorer("head"), make_scorer("random", seed=1)]


def mixed_of(base=list):
    return MixedCollator([SelectorCollator(base, rule, Budget(tokens=k)) for rule in RULES for k in (1, 3)])


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 6))
def test_each_feature_is_cut_by_one_of_them(seed, count):
    features = make_features(np.random.default_rng(seed), count, vocab=20, as_type=list)
    mixed = mixed_of()
    found = mixed(features)
    assert len(found) == count
    for feature, cut in zip(features, found, strict=True):
        assert cut in [collator([feature])[0] for collator in mixed.collators]


def test_draws_are_even_and_follow_torchs_seed():
    mixed, drawn = mixed_of(), []
    feature = {"input_ids": list(range(10)), "item_spans": [(0, 10)]}
    alone = [collator.cut([feature])[0]["input_ids"] for collator in mixed.collators]
    assert len(set(map(tuple, alone))) == 4
    for _ in range(2):
        torch.manual_seed(0)
        drawn.append([alone.index(cut["input_ids"]) for cut in mixed.cut([feature] * 400)])
    assert drawn[0] == drawn[1]
    assert np.bincount(drawn[0]).min() > 60


def test_it_stands_in_for_its_base_collator(tokenizer):
    from transformers import DataCollatorForSeq2Seq

    mixed = mixed_of(DataCollatorForSeq2Seq(tokenizer))
    assert mixed.tokenizer is tokenizer
    features = [{"input_ids": [5, 6, 7, 8], "labels": [-100, -100, -100, 8], "item_spans": [(0, 3)]}] * 2
    assert pickle.loads(pickle.dumps(mixed))(features)["input_ids"].shape[0] == 2


def test_bad_input_is_refused():
    for collators in ([], [list]):
        with pytest.raises(ValueError, match="one SelectorCollator or more"):
            MixedCollator(collators)
    with pytest.raises(ValueError, match="different base collators"):
        MixedCollator([SelectorCollator(base, RULES[0]) for base in (list, tuple)])
    features = [{"input_ids": [1, 2, 3], "item_spans": [(0, 2)]}] * 7 + [{"input_ids": [1], "item_spans": [(0, 2)]}]
    for seed in range(4):
        torch.manual_seed(seed)
        with pytest.raises(ValueError, match="feature 7: "):
            mixed_of()(features)


class Dataset:
    def collate(self, features):
        return features


def test_a_method_is_one_base_collator_each_time_it_is_named():
    dataset = Dataset()
    mixed = MixedCollator([SelectorCollator(dataset.collate, rule, Budget(tokens=1)) for rule in RULES])
    assert mixed([{"input_ids": [1, 2], "item_spans": [(0, 2)]}])[0]["input_ids"] in ([1], [2])
