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


def mentioned(catalogue, tokens):
    """True for every word of any taste, planted or not: ``[T]``."""
    return np.isin(tokens.ids, np.unique(tokens.ids[catalogue.planted]))


def test_a_word_is_a_token_and_every_item_has_its_planted_words(planted):
    catalogue, tokens = planted
    config = CatalogueConfig()
    assert tokens.num_tokens == len(catalogue.planted)
    assert catalogue.tokenizer.unk_token_id not in tokens.ids
    assert (np.bincount(tokens.segment_ids(), catalogue.planted) == config.words_per_taste).all()
    assert (np.bincount(tokens.segment_ids(), mentioned(catalogue, tokens)) == config.mentions).all()
    texts = catalogue.tokenizer.batch_decode([row.tolist() for row in tokens])
    assert [text.strip() for text in texts] == [item.fields["description"] for item in catalogue.items]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_counting_does_not_tell_planted_words_from_others(seed):
    catalogue = generate(CatalogueConfig(seed=seed))
    tokens = tokenize_items(catalogue.items, catalogue.tokenizer, ("description",))
    kept = {
        name: select(make_scorer(name).fit(tokens), tokens, Budget(tokens=20)).kept
        for name in ("head", "random", "tfidf")
    }
    assert planted_recall(catalogue.planted, kept["head"], tokens.segment_ids(), 20) == 0, "they stand deep in the text"
    config, any_taste = CatalogueConfig(), mentioned(catalogue, tokens)
    for name in ("random", "tfidf"):
        share = catalogue.planted[kept[name]].sum() / any_taste[kept[name]].sum()
        assert abs(share - config.words_per_taste / config.mentions) < 0.05, (name, share)


def test_planted_words_and_others_are_alike_in_frequency_and_place(planted):
    catalogue, tokens = planted
    any_taste = mentioned(catalogue, tokens)
    count, place = np.bincount(tokens.ids)[tokens.ids].astype(float), tokens.offsets().astype(float)
    for value in (count, place):
        apart = value[catalogue.planted].mean() - value[any_taste & ~catalogue.planted].mean()
        assert abs(apart) < 0.2 * value[any_taste].std()


def test_the_same_word_is_planted_in_some_texts_only(planted):
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
    with pytest.raises(ValueError, match="Give fewer mentions or more tastes"):
        CatalogueConfig(tastes=2, mentions=18)
    for wrong in ({"tastes": 31}, {"tastes": 0}, {"words_per_taste": 7}):
        with pytest.raises(ValueError, match="there are 30 tastes of 6 words; found"):
            CatalogueConfig(**wrong)


def test_a_selector_that_is_told_learns_to_find_them_on_other_items(planted):
    catalogue, tokens = planted
    split = 450
    seen, unseen = tokens.take(np.arange(split)), tokens.take(np.arange(split, len(tokens)))
    truth = torch.from_numpy(catalogue.planted[: seen.num_tokens]).float()
    torch.manual_seed(0)
    selector = TokenSelector().for_tokenizer(catalogue.tokenizer).fit(seen)
    optimizer = torch.optim.AdamW(selector.parameters(), lr=6e-3)
    for _ in range(20):
        for part in torch.split(torch.randperm(split), 50):
            batch = seen.take(part.numpy())
            logits = selector(torch.from_numpy(batch.ids), torch.from_numpy(batch.cu_seqlens))
            wanted = torch.cat([truth[seen.cu_seqlens[i] : seen.cu_seqlens[i + 1]] for i in part])
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    kept = select(selector.eval(), unseen, Budget(tokens=6)).kept
    assert planted_recall(catalogue.planted[seen.num_tokens :], kept, unseen.segment_ids(), 6) >= 0.95
