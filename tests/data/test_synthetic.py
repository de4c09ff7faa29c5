"""The generated catalogue keeps its promise: what carries taste is hidden from counting and told by context."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tsporec.budget import Budget
from tsporec.data.items import tokenize_items
from tsporec.data.synthetic import CatalogueConfig, generate, planted_recall
from tsporec.scorers import make_scorer
from tsporec.selection import select
from tsporec.selector.model import TokenSelector


@pytest.fixture(scope="module")
def planted():
    catalogue = generate(CatalogueConfig())
    return catalogue, tokenize_items(catalogue.items, catalogue.tokenizer, ("description",))


def test_a_word_is_a_token_and_every_item_has_its_planted_words(planted):
    catalogue, tokens = planted
    config = CatalogueConfig()
    assert tokens.num_tokens == len(catalogue.planted) == config.items * 2 * config.phrases
    per_item = np.bincount(tokens.segment_ids(), catalogue.planted)
    assert (per_item == config.words_per_taste).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_counting_does_not_find_the_planted_words(seed):
    catalogue = generate(CatalogueConfig(seed=seed))
    tokens = tokenize_items(catalogue.items, catalogue.tokenizer, ("description",))
    budget = Budget(tokens=4)
    found = {
        name: planted_recall(
            catalogue.planted, select(make_scorer(name).fit(tokens), tokens, budget).kept, tokens.segment_ids(), 4
        )
        for name in ("head", "random", "tfidf")
    }
    assert abs(found["tfidf"] - found["random"]) < 0.1, found
    assert abs(found["head"] - found["random"]) < 0.1, found


def test_planted_and_other_words_are_alike_in_frequency_and_place(planted):
    catalogue, tokens = planted
    count = np.bincount(tokens.ids)[tokens.ids].astype(float)
    place = np.arange(tokens.num_tokens) - tokens.cu_seqlens[tokens.segment_ids()]
    for value in (count, place.astype(float)):
        apart = value[catalogue.planted].mean() - value[~catalogue.planted].mean()
        assert abs(apart) < 0.2 * value.std()


def test_the_same_word_is_planted_in_some_contexts_only(planted):
    catalogue, tokens = planted
    times = np.bincount(tokens.ids, catalogue.planted)
    ever = times > 0
    assert (times[ever] < np.bincount(tokens.ids)[ever]).all()


def test_the_seed_decides_everything():
    small = CatalogueConfig(items=30, users=20, tastes=8)
    first, again = generate(small), generate(small)
    other = generate(CatalogueConfig(items=30, users=20, tastes=8, seed=1))
    assert first.items == again.items
    assert first.test == again.test
    assert first.items != other.items


def test_texts_that_cannot_be_made_are_refused():
    with pytest.raises(ValueError, match="Give fewer phrases or more tastes"):
        CatalogueConfig(tastes=5, words_per_taste=4, phrases=24)


def test_a_selector_that_is_told_learns_to_find_them_on_other_items(planted):
    catalogue, tokens = planted
    split = 450
    seen, unseen = tokens.take(np.arange(split)), tokens.take(np.arange(split, len(tokens)))
    truth = torch.from_numpy(catalogue.planted[: seen.num_tokens]).float().view(split, -1)
    torch.manual_seed(0)
    selector = TokenSelector().for_tokenizer(catalogue.tokenizer).fit(seen)
    optimizer = torch.optim.AdamW(selector.parameters(), lr=6e-3)
    for _ in range(20):
        for part in torch.split(torch.randperm(split), 50):
            batch = seen.take(part.numpy())
            logits = selector(torch.from_numpy(batch.ids), torch.from_numpy(batch.cu_seqlens))
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth[part].view(-1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    kept = select(selector.eval(), unseen, Budget(tokens=4)).kept
    assert planted_recall(catalogue.planted[seen.num_tokens :], kept, unseen.segment_ids(), 4) >= 0.95
