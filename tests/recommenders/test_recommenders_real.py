"""Beam search over a real catalogue's titles by a real language model."""

from __future__ import annotations

import numpy as np
import pytest

from tsporec.budget import Budget
from tsporec.collators.selector import SelectorCollator
from tsporec.data.items import item_text, tokenize_items
from tsporec.data.readers import read_items, read_sequences
from tsporec.language_model import cut_layers
from tsporec.recommenders.generative import GenerativeRecommender, PromptTemplate
from tsporec.scorers import make_scorer

pytestmark = pytest.mark.real


def test_beams_spell_titles_and_carry_their_exact_likelihood(data_dir, real_lm):
    from transformers import DataCollatorForSeq2Seq

    base = data_dir / "amazon18" / "Office_Products"
    items = read_items(f"{base}.item.json")
    row = read_sequences(f"{base}.test.csv")[0]
    lm, tokenizer = cut_layers(real_lm[0], 1), real_lm[1]  # the search is tested, not the model
    template = PromptTemplate.build(
        tokenize_items(items, tokenizer, max_tokens=64), [item_text(i, ("title",)) or "?" for i in items], tokenizer
    )
    recommender = GenerativeRecommender(lm, template)
    collator = SelectorCollator(DataCollatorForSeq2Seq(tokenizer), make_scorer("head"), Budget(tokens=8))
    index = {item.id: i for i, item in enumerate(items)}
    history = [index[item] for item in row.item_ids[:-1]][-3:]
    (cut,) = collator.cut([template.feature(history)])
    found = recommender.recommend(cut, beams=6, exclude=history)
    chosen = [item for item, _ in found]
    assert len(chosen) == len(set(chosen)) == 6
    assert not set(chosen) & set(history)
    scores = np.array([score for _, score in found])
    assert (np.diff(scores) <= 0).all()
    np.testing.assert_allclose(scores, recommender.candidate_log_likelihoods(cut, chosen), atol=0.02)
