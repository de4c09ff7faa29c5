"""Selections that tell the items of a catalogue apart."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import make_tokenizer
from tsporec import TokenSelector
from tsporec.budget import Budget
from tsporec.catalog.catalog import ItemCatalog
from tsporec.data.synthetic import word_tokenizer
from tsporec.scorers.without_repeats import repeated
from tsporec.selection import select_scored
from tsporec.selector.distinct_items import distinct_scores, distinct_share
from tsporec.tokens.ragged import RaggedTokens, segment_digests

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


def plan(tokens, scores, terms, budgets, strength, unchanged=0):
    every = np.ones(tokens.num_tokens, dtype=bool)
    return distinct_scores(scores, tokens, terms, budgets, strength, every, segment_digests(tokens), unchanged)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1.0]), st.lists(st.integers(1, 4), min_size=1, unique=True))
def test_the_tokens_are_the_best_with_which_items_differ(seed, strength, budgets):
    """Each item takes the best selection that is left by those with fewer terms, if its last token may vary."""
    rng = np.random.default_rng(seed)
    tokens = RaggedTokens.from_lists([rng.integers(0, 9, rng.integers(0, 9)) for _ in range(12)])
    terms = np.arange(9) // 2  # ids 0 and 1 are one term
    scores = rng.normal(size=tokens.num_tokens).astype(np.float32)
    scores[repeated(tokens, terms[tokens.ids])] -= 50  # as every selector ranks repeats
    budgets = sorted(budgets)
    changed = plan(tokens, scores, terms, budgets, strength)
    served = sorted(range(12), key=lambda item: len(set(terms[tokens[item]])))
    for budget in budgets:
        selected, owners = kept(changed, tokens, budget), {}
        for item in served:
            own = set(terms[tokens[item]])
            if len(own) < budget:
                continue
            selection, text = frozenset(terms[selected[item]]), tuple(tokens[item])
            assert len(selection) == budget, "no repeat is kept"
            if owners.setdefault(selection, text) != text:  # then every other last token was taken as well
                assert all(
                    any(owners.get((selection - {out}) | {last}, text) != text for out in selection)
                    for last in own - selection
                )
    outside = np.setdiff1d(np.arange(tokens.num_tokens), np.flatnonzero(changed != scores))
    np.testing.assert_array_equal(changed[outside], scores[outside])
    assert (changed >= scores).all()


def test_without_strength_only_clashing_items_change():
    tokens = RaggedTokens.from_lists([[1, 2, 3], [1, 2, 4], [5, 6]])
    scores = np.float32([9, 8, 1, 9, 8, 1, 2, 1])
    changed = plan(tokens, scores, np.arange(7), [2], 0.0)
    assert [part.tolist() for part in kept(changed, tokens, 2)] == [[1, 2], [1, 4], [5, 6]]
    assert np.flatnonzero(changed != scores).tolist() == [5]


def test_short_texts_are_served_first():
    tokens = RaggedTokens.from_lists([[1, 2, 3], [1, 2]])
    changed = plan(tokens, np.float32([3, 2, 1, 3, 2]), np.arange(4), [2], 0.0)
    assert [part.tolist() for part in kept(changed, tokens, 2)] == [[1, 3], [1, 2]]


def test_strength_prefers_what_narrows_down():
    """All items share tokens 1 and 2; the third one of each is its own and scores a little less."""
    tokens = RaggedTokens.from_lists([[1, 2, 3], [1, 2, 4], [1, 2, 5]])
    changed = plan(tokens, np.float32([9, 2, 1] * 3), np.arange(6), [2], 1.0)
    assert [part.tolist() for part in kept(changed, tokens, 2)] == [[1, 3], [1, 4], [1, 5]]


def test_unchanged_items_hold_what_they_keep():
    """The first item keeps a repeat, so its selection is {1} and not {1, 2}."""
    tokens = RaggedTokens.from_lists([[1, 1, 2], [1, 2]])
    scores = np.float32([3, 2.5, 1, 2, 1])
    changed = plan(tokens, scores, np.arange(3), [2], 0.0, unchanged=1)
    np.testing.assert_array_equal(changed, scores)


FORMS = ["{a} pen, {b} pens ({a}) Pilot-{b} {c}", "PILOT {a}: {b}/{a} {b}s {c}", "日本語 {a} привет {b} {c}"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("kind", "budgets"), [("bpe", [3]), ("wordpiece", [3, 4, 5]), ("unigram", [4]), ("bpe", [Budget(keep_ratio=0.6)])]
)
def test_what_is_kept_is_distinct(form, kind, budgets):
    texts = [form.format(a=a, b=b, c=c) for a in WORDS[:4] for b in WORDS[4:8] for c in WORDS[8:]]
    tokenizer = make_tokenizer(kind, [*TEXTS, *texts])
    tokens = RaggedTokens.from_lists(tokenizer(texts, add_special_tokens=False)["input_ids"])
    selector = TokenSelector().for_tokenizer(tokenizer).fit(tokens).make_distinct(tokens, budgets)
    for budget in budgets:
        assert distinct_share(selector.select(tokens, budget).apply(tokens), segment_digests(tokens)) == 1


def test_every_way_in_keeps_what_was_chosen(tmp_path):
    tokens, selector, distinct = made(TEXTS, [3])
    assert distinct_share(selector.select(tokens, 3).apply(tokens), segment_digests(tokens)) < 0.9
    chosen = distinct.select(tokens, 3).apply(tokens)
    assert distinct_share(chosen, segment_digests(tokens)) == 1
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
    after = before.make_distinct(both, [3], unchanged=len(old))
    selected = after.select(both, 3).apply(both)
    assert selected.to_lists()[: len(old)] == before.select(tokens, 3).apply(tokens).to_lists()
    assert distinct_share(selected, segment_digests(both)) == 1


def test_texts_that_cannot_be_told_apart_are_counted(caplog):
    tokenizer = word_tokenizer(["gel", "pen"])
    tokens = RaggedTokens.from_lists(
        tokenizer(["gel pen", "pen gel", "gel pen"], add_special_tokens=False)["input_ids"]
    )
    with caplog.at_level(logging.WARNING, "tsporec"):
        TokenSelector().for_tokenizer(tokenizer).fit(tokens).make_distinct(tokens, [2])
    assert "2 tokens leave 3 of 3 items with the same words as another item" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budgets": []}, "one or more budgets"),
        ({"budgets": [0]}, "a whole number of at least 1"),
        ({"budgets": 8}, "one or more budgets"),
        ({"budgets": [2], "unchanged": 9}, "from 0 to 1; found 9"),
        ({"budgets": [2], "strength": float("nan")}, "finite strength"),
        ({"budgets": [2], "strength": -1.0}, "finite strength"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        made(["gel pen"], **options)
