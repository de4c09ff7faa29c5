"""The smaller programs measure what they say."""

from __future__ import annotations

import pytest
import torch
from transformers import DataCollatorWithPadding

from benchmarks import bundled, collator, cost, known
from tests.conftest import TEXTS, make_tokenizer
from tsporec import Budget, RaggedTokens, SelectorCollator, TokenSelector
from tsporec.data.items import tokenize_texts


def test_the_bundled_selector_is_the_one_that_the_program_makes():
    selector = TokenSelector.from_pretrained()
    assert (selector.config.weighting, selector.config.surface_buckets) == (
        bundled.SHAPE.weighting,
        bundled.SHAPE.surface_buckets,
    )
    tokenizer = make_tokenizer("bpe")
    made = bundled.make([(tokenizer, RaggedTokens.from_lists([[4, 5]]))])
    torch.testing.assert_close(made.blend, selector.blend)
    assert {key: selector.config.training[key] for key in bundled.DESCRIBED} == bundled.DESCRIBED


def test_a_cold_batch_is_split():
    tokenizer = make_tokenizer("bpe")
    rows = collator.features(0, 2, len(tokenizer))
    padding = DataCollatorWithPadding(tokenizer)
    columns = ("input_ids", "attention_mask", "item_spans")
    rows = [{name: row[name] for name in columns} for row in rows]
    wrapped = SelectorCollator(padding, TokenSelector().for_tokenizer(tokenizer), Budget(tokens=collator.K))
    times = collator.split_cold(wrapped, rows)
    whole = times.pop("all")
    assert sum(times.values()) == pytest.approx(whole, abs=0.1)


def test_items_are_known_in_the_forms_of_prompts(tokenizer):
    made = known.forms(TEXTS, [text[::-1] for text in TEXTS])
    assert {*known.FORMS, "cut at its end", "capitals"} == made.keys()
    corpus = tokenize_texts(made["as learned"], tokenizer)
    selector = TokenSelector.from_pretrained().for_tokenizer(tokenizer).fit(corpus)
    learned = selector.with_item_weights(corpus)
    torch.nn.init.normal_(learned.item_weights.weight)
    for form, texts in made.items():
        row = known.measure(selector, learned, tokenize_texts(texts, tokenizer))
        assert row["known"] == 1, form
        assert row["other tokens kept"] > 0.5, form


def test_larger_models_are_scaled_by_flops():
    whole = {"layers": 4, "budget": None, "tokens": 100.0, "select ms": 0.0, "encode ms": 50.0, "MFLOPs": 2000.0}
    short = {**whole, "budget": 8, "select ms": 0.2}
    measured, one, seven = cost.break_even([whole, short])
    assert measured["break-even tokens"] == pytest.approx(0.2 / 0.5)
    assert one["break-even tokens"] == pytest.approx(0.4 * 20 / 2000)
    assert seven["ms a token"] == pytest.approx(7 * one["ms a token"])
