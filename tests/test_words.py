from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import TEXTS
from tsporec.budget import Budget
from tsporec.ragged import RaggedTokens
from tsporec.scorers import make_scorer
from tsporec.selector import TokenSelector
from tsporec.words import compress_text


@given(text=st.one_of(st.sampled_from(TEXTS), st.text(max_size=30)), k=st.integers(1, 30))
def test_words_stay_whole_and_in_order(tokenizer, text, k):
    words = text.split()
    kept = compress_text(make_scorer("random"), tokenizer, text, Budget(tokens=k)).split()
    walk = iter(words)
    assert all(word in walk for word in kept)
    assert kept or not words


@given(text=st.one_of(st.sampled_from(TEXTS), st.text(max_size=30)), k=st.integers(1, 30))
def test_no_more_tokens_are_kept_than_the_budget(tokenizer, text, k):
    words = text.split()
    kept = compress_text(make_scorer("random"), tokenizer, " ".join(words), Budget(tokens=k)).split()
    # With single spaces a word has the same tokens wherever it stands, but for the text's first, which has no space.
    costs = [
        len(tokenizer((" " if place else "") + word, add_special_tokens=False)["input_ids"])
        for place, word in enumerate(words)
    ]
    cheapest = {word: min(cost for w, cost in zip(words, costs, strict=True) if w == word) for word in words}
    assert sum(cheapest[word] for word in kept) <= k or len(kept) == 1


def test_a_budget_that_holds_all_keeps_all(tokenizer):
    for text in [*TEXTS, "naïve 日本 🙂 é"]:
        assert compress_text(make_scorer("head"), tokenizer, text, Budget(keep_ratio=1.0)) == " ".join(text.split())
    assert compress_text(make_scorer("head"), tokenizer, "", Budget(tokens=3)) == ""


def test_the_best_words_are_kept(tokenizer):
    ids = tokenizer(TEXTS, add_special_tokens=False)["input_ids"]
    selector = TokenSelector().for_tokenizer(tokenizer).fit(RaggedTokens.from_lists(ids))
    short = selector.compress_text(TEXTS[0], Budget(tokens=8), tokenizer)
    assert 0 < len(short.split()) < len(TEXTS[0].split())
    assert np.array_equal(short, selector.compress_text(TEXTS[0], Budget(tokens=8), tokenizer))
