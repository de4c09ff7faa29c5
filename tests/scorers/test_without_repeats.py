"""Tokens that say the same again count once, whatever their case and the space before them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import make_tokenizer
from tsporec.scorers import make_scorer
from tsporec.scorers.without_repeats import WithoutRepeats
from tsporec.selection import select
from tsporec.tokens.pieces import read_pieces
from tsporec.tokens.ragged import RaggedTokens

TOKENIZER = make_tokenizer("bpe")


@given(st.lists(st.lists(st.integers(0, len(TOKENIZER) - 1), max_size=12), max_size=4), st.integers(1, 6))
def test_a_repeat_is_kept_only_if_nothing_else_is_left(rows, k):
    tokens = RaggedTokens.from_lists(rows)
    terms = read_pieces(TOKENIZER).terms
    for scorer in (
        make_scorer("tfidf", tokenizer=TOKENIZER).fit(tokens),
        WithoutRepeats(make_scorer("head"), TOKENIZER),
    ):
        kept = select(scorer, tokens, k).apply(tokens)
        for row, short in zip(tokens, kept, strict=True):
            assert len(set(terms[short])) == min(k, len(set(terms[row])))


def test_case_and_space_make_no_other_term():
    ids = TOKENIZER("ink Ink ink, INK", add_special_tokens=False)["input_ids"]
    texts = [TOKENIZER.decode([i]).strip().casefold() for i in ids]
    terms = read_pieces(TOKENIZER).terms[ids].tolist()
    assert len(set(terms)) == len(set(texts)) < len(set(ids))


def test_tfidf_of_terms_counts_all_their_spellings():
    first, second = TOKENIZER.convert_tokens_to_ids(["k", "K"])
    tokens = RaggedTokens.from_lists([[first, second], [second]])
    assert make_scorer("tfidf", tokenizer=TOKENIZER).fit(tokens).score(tokens).tolist() == [2, -1, 1]
    bound = make_scorer("tfidf", tokenizer=TOKENIZER)
    assert bound.tokenizer_fingerprint
    with pytest.raises(ValueError, match=f"token id {len(TOKENIZER)} is outside the tokenizer's vocabulary"):
        bound.fit(RaggedTokens.from_lists([[len(TOKENIZER)]]))


def test_a_wrapped_scorer_needs_a_name():
    class Nameless:
        def score(self, tokens):
            return np.zeros(tokens.num_tokens, np.float32)

    with pytest.raises(ValueError, match="Nameless has no fingerprint"):
        WithoutRepeats(Nameless(), TOKENIZER)
