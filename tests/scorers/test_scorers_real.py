"""Scorers that read, on real items with the first layers of a real model: bit for bit the same alone or in a batch."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import make_causal_lm, make_tokenizer
from tsporec.budget import Budget
from tsporec.data.items import tokenize_items
from tsporec.data.readers import read_items
from tsporec.language_model import cut_layers
from tsporec.scorers import make_scorer
from tsporec.selection import select

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def read(data_dir, real_lm):
    """(SmolLM2 cut to 2 layers, its tokenizer, a few items: pairs of one length and a lone one)."""
    lm, tokenizer = cut_layers(real_lm[0], 2), real_lm[1]
    items = read_items(f"{data_dir / 'amazon18' / 'Office_Products'}.item.json")[:24]
    return lm, tokenizer, items, tokenize_items(items, tokenizer, max_tokens=48)


@pytest.mark.parametrize("name", ["self_information", "attention", "centroid"])
def test_a_real_models_scores_are_bit_equal_alone_and_in_a_batch(read, name):
    lm, _, _, tokens = read
    scorer = make_scorer(name, model=lm)
    scores = scorer.score(tokens)
    assert np.isfinite(scores).all()
    for i in range(0, len(tokens), 3):
        part = slice(tokens.cu_seqlens[i], tokens.cu_seqlens[i + 1])
        np.testing.assert_array_equal(scorer.score(tokens.take([i])), scores[part])
    kept = select(scorer, tokens, Budget(tokens=8)).apply(tokens)
    assert kept.lengths.tolist() == np.minimum(tokens.lengths, 8).tolist()


def test_a_real_model_reads_texts_of_another_tokenizer(read):
    lm, tokenizer, items, _ = read
    other = make_tokenizer("bpe", texts=[" ".join(item.fields.values()) for item in items], vocab_size=800)
    theirs = tokenize_items(items, other, max_tokens=48)
    scores = make_scorer("self_information", model=lm, tokenizer=tokenizer).for_tokenizer(other).score(theirs)
    assert scores.shape == (theirs.num_tokens,)
    assert np.isfinite(scores).all()
    assert scores.std() > 0.5


def test_a_small_model_reads_texts_of_a_real_tokenizer(read):
    _, tokenizer, _, tokens = read
    own = make_tokenizer("unigram")
    scorer = make_scorer("centroid", model=make_causal_lm(len(own)), tokenizer=own).for_tokenizer(tokenizer)
    scores = scorer.score(tokens)
    part = slice(tokens.cu_seqlens[5], tokens.cu_seqlens[6])
    np.testing.assert_array_equal(scorer.score(tokens.take([5])), scores[part])
