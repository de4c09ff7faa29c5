"""The selector that comes with the package."""

from __future__ import annotations

import numpy as np
import pytest
from transformers import DataCollatorWithPadding

from tests.conftest import TEXTS, make_tokenizer
from tsporec.budget import Budget
from tsporec.collators.selector import SelectorCollator
from tsporec.selector import files, hub
from tsporec.selector.card import TRAINING, model_card
from tsporec.selector.model import TokenSelector
from tsporec.tokens.ragged import RaggedTokens

FOLDER = hub.BUNDLED / "base"


@pytest.fixture(scope="module")
def base():
    return TokenSelector.from_pretrained()


def test_it_is_found_without_the_hub(base):
    assert hub.DEFAULT == "tsporec/base"
    assert TokenSelector.from_pretrained("tsporec/base").fingerprint == base.fingerprint


def test_it_is_small_and_holds_no_data():
    found = sorted(FOLDER.iterdir())
    assert [file.name for file in found] == sorted([files.CARD, files.CONFIG, files.WEIGHTS])
    assert sum(file.stat().st_size for file in found) <= 0.2 * 2**20


def test_its_card_says_where_it_comes_from(base):
    assert {"summary", "data", "terms", "tokenizers", "license"} <= base.config.training.keys()
    assert base.config.training.keys() <= TRAINING.keys()
    card = (FOLDER / files.CARD).read_text()
    assert card == model_card(files.read_config(FOLDER / files.CONFIG), hub.DEFAULT)
    assert base.config.training["terms"] in card


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_it_serves_any_tokenizer(base, kind):
    tokenizer = make_tokenizer(kind)
    tokens = RaggedTokens.from_lists(tokenizer(TEXTS, add_special_tokens=False)["input_ids"])
    bound = base.for_tokenizer(tokenizer)
    assert np.isfinite(bound.score(tokens)).all()
    assert bound.select(tokens, Budget(tokens=4)).apply(tokens).lengths.tolist() == [4] * len(TEXTS)


def test_a_collator_takes_it_by_default(base, tokenizer):
    collator = SelectorCollator(DataCollatorWithPadding(tokenizer), budget=Budget(tokens=4))
    ids = tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"]
    batch = collator([{"input_ids": ids, "item_spans": [(0, len(ids))]}])
    tokens = RaggedTokens.from_lists([ids])
    expected = base.for_tokenizer(tokenizer).select(tokens, Budget(tokens=4)).apply(tokens)
    assert batch["input_ids"].tolist() == expected.to_lists()
