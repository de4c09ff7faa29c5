"""Selections that tell the items of a catalogue apart."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import make_tokenizer
from tsporec import TokenSelector
from tsporec.catalog.catalog import ItemCatalog
from tsporec.data.synthetic import word_tokenizer
from tsporec.selection import select_scored
from tsporec.selector.distinct import distinct_scores, distinct_share
from tsporec.tokens.ragged import RaggedTokens

TOKENIZER = make_tokenizer("bpe")
WORDS = ["gel", "pen", "ink", "black", "blue", "stapler", "paper", "labels", "tape", "notebook", "sheets", "metal"]
TEXTS = [f"Pilot {a} {b} {c}" for a in WORDS[:4] for b in WORDS[4:8] for c in WORDS[8:]]


def tokenised(texts):
    return RaggedTokens.from_lists(TOKENIZER(texts, add_special_tokens=False)["input_ids"])


def made(texts, budgets, **options):
    tokens = tokenised(texts)
    selector = TokenSelector().for_tokenizer(TOKENIZER).fit(tokens)
    return tokens, selector, selector.make_distinct(tokens, budgets, **options)


def kept(scores, tokens, budget):
    return select_scored(scores, tokens, budget).apply(tokens)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1.0]), st.lists(st.integers(1, 4), min_size=1, unique=True))
def test_items_of_other_texts_keep_other_terms_or_are_counted(seed, strength, budgets):
    rng = np.random.default_rng(seed)
    tokens = RaggedTokens.from_lists([rng.integers(0, 9, rng.integers(0, 9)) for _ in range(12)])
    terms = np.arange(9) // 2  # ids 0 and 1 are one term
    scores = rng.normal(size=tokens.num_tokens).astype(np.float32)
    changed, same = distinct_scores(scores, tokens, terms, budgets, strength)
    clashing = set()
    for budget in budgets:
        owners = {}
        for i, one in enumerate(kept(changed, tokens, budget)):
            selection, text = frozenset(terms[one]), tokens[i].tolist()
            if len(selection) == budget and owners.setdefault(selection, text) != text:
                clashing.add(i)
    assert len(clashing) == same


def test_without_strength_only_clashing_items_change():
    tokens = RaggedTokens.from_lists([[1, 2, 3], [1, 2, 4], [5, 6]])
    scores = np.float32([9, 8, 1, 9, 8, 1, 2, 1])
    changed, same = distinct_scores(scores, tokens, np.arange(7), [2], 0.0)
    assert same == 0
    assert [part.tolist() for part in kept(changed, tokens, 2)] == [[1, 2], [1, 4], [5, 6]]


def test_strength_prefers_what_narrows_down():
    """Items 0 to 2 share token 1; of these only item 0 has 3, which scores a little less than the shared 2."""
    tokens = RaggedTokens.from_lists([[1, 2, 3], [1, 2, 4], [1, 2, 5]])
    scores = np.float32([9, 2, 1] * 3)
    changed, _ = distinct_scores(scores, tokens, np.arange(6), [2], 1.0)
    assert [part.tolist() for part in kept(changed, tokens, 2)] == [[1, 3], [1, 4], [1, 5]]


def test_every_way_in_keeps_what_was_chosen(tmp_path):
    tokens, selector, distinct = made(TEXTS, [3])
    assert distinct_share(selector.select(tokens, 3).apply(tokens), tokens) < 0.9
    chosen = distinct.select(tokens, 3).apply(tokens)
    assert distinct_share(chosen, tokens) == 1
    distinct.save_pretrained(tmp_path / "selector")
    loaded = TokenSelector.from_pretrained(tmp_path / "selector").for_tokenizer(TOKENIZER)
    assert loaded.select(tokens, 3).apply(tokens).to_lists() == chosen.to_lists()
    items = [{"id": str(i), "title": text} for i, text in enumerate(TEXTS)]
    catalog = ItemCatalog.build(items, tokenizer=TOKENIZER, selector=loaded, budget=3, path=tmp_path / "catalog")
    assert catalog.lookup([str(i) for i in range(len(TEXTS))]).to_lists() == chosen.to_lists()


def test_added_items_leave_the_first_as_they_are():
    old, new = TEXTS[:30], TEXTS[30:]
    tokens, _, before = made(old, [3])
    both = tokenised([*old, *new])
    after = before.make_distinct(both, [3], first=len(old))
    selected = after.select(both, 3).apply(both)
    assert selected.to_lists()[: len(old)] == before.select(tokens, 3).apply(tokens).to_lists()
    assert distinct_share(selected, both) == 1


def test_texts_that_cannot_be_told_apart_are_counted(caplog):
    tokenizer = word_tokenizer(["gel", "pen"])
    tokens = RaggedTokens.from_lists(
        tokenizer(["gel pen", "pen gel", "gel pen"], add_special_tokens=False)["input_ids"]
    )
    with caplog.at_level(logging.WARNING, "tsporec"):
        TokenSelector().for_tokenizer(tokenizer).fit(tokens).make_distinct(tokens, [2])
    assert "1 of 3 items keep the same tokens" in caplog.text


@pytest.mark.parametrize("options", [{"budgets": []}, {"budgets": [0]}, {"budgets": [2], "first": 9}])
def test_wrong_arguments_are_refused(options):
    with pytest.raises(ValueError, match="expected budgets of at least 1"):
        made(["gel pen"], **options)
