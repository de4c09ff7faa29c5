from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tsporec.selector.item_weights import CatalogueSelector, load_selector
from tsporec.selector.model import SelectorConfig, TokenSelector
from tsporec.tokens.ragged import RaggedTokens

SMALL = SelectorConfig(dim=8, hidden=8, gram_buckets=64, surface_buckets=64)
texts = st.lists(st.lists(st.integers(5, 40), max_size=6), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def selector(tokenizer):
    torch.manual_seed(0)
    return TokenSelector(SMALL).for_tokenizer(tokenizer)


def remembering(selector, corpus):
    memory = CatalogueSelector(selector, corpus)
    with torch.no_grad():
        memory.offsets.normal_(generator=torch.Generator().manual_seed(0))
    return memory


@given(texts, texts)
def test_known_texts_have_offsets_and_others_none(selector, known, others):
    memory = remembering(selector, RaggedTokens.from_lists(known))
    batch = RaggedTokens.from_lists([*others, *known])
    gained = RaggedTokens(batch.ids, batch.cu_seqlens)
    change = memory.score(gained) - selector.score(gained)
    for i, text in enumerate(batch.to_lists()):
        own = change[batch.cu_seqlens[i] : batch.cu_seqlens[i + 1]]
        assert (own != 0).all() if text in known else (own == 0).all()


@given(texts)
def test_scores_are_those_of_forward_whatever_the_batch(selector, known):
    corpus = RaggedTokens.from_lists(known)
    memory = remembering(selector, corpus)
    scores = memory.score(corpus)
    logits = memory(torch.from_numpy(corpus.ids), torch.from_numpy(corpus.cu_seqlens)).detach().numpy()
    np.testing.assert_allclose(logits, scores, rtol=1e-4, atol=1e-4)
    alone = [memory.score(corpus.take([i])) for i in range(len(corpus))]
    assert np.array_equal(np.concatenate(alone), scores)


def test_texts_that_were_cut_are_known_whole(selector, tokenizer, tmp_path):
    cut, whole = RaggedTokens.from_lists([[5, 6, 7], [8, 9]]), RaggedTokens.from_lists([[5, 6, 7, 8, 9], [8, 9, 10]])
    memory = remembering(selector, cut)
    assert np.array_equal(memory.score(whole), selector.score(whole))
    before, memory.max_tokens = memory.fingerprint, 3
    assert memory.fingerprint != before
    memory.save_pretrained(tmp_path)
    loaded = CatalogueSelector.from_pretrained(tmp_path, tokenizer)
    change = loaded.score(whole) - selector.score(whole)
    assert np.array_equal(change != 0, [True, True, True, False, False, False, False, False])
    np.testing.assert_allclose(change[:3], (memory.score(cut) - selector.score(cut))[:3], atol=1e-5)


def test_only_offsets_learn(selector):
    corpus = RaggedTokens.from_lists([[5, 6, 7], [8, 9]])
    memory = CatalogueSelector(selector, corpus).train()
    ids, cu = torch.tensor([5, 6, 7, 20, 21]), torch.tensor([0, 3, 5])
    memory(ids, cu)[[0, 3]].sum().backward()
    assert all(weight.grad is None for weight in memory.selector.parameters())
    assert memory.offsets.grad.count_nonzero() == 1, "the second text is not known"
    assert not memory.selector.training


def test_saves_and_loads(selector, tokenizer, wordpiece_tokenizer, tmp_path):
    corpus = RaggedTokens.from_lists([[5, 6, 7], [], [8, 9]])
    memory = remembering(selector, corpus)
    memory.save_pretrained(tmp_path)
    loaded = CatalogueSelector.from_pretrained(tmp_path, tokenizer)
    assert np.array_equal(loaded.score(corpus), memory.score(corpus))
    assert loaded.fingerprint == memory.fingerprint != remembering(selector, corpus.take([0])).fingerprint
    assert isinstance(load_selector(tmp_path, tokenizer), CatalogueSelector)
    alone = TokenSelector.from_pretrained(tmp_path).for_tokenizer(tokenizer)
    assert np.array_equal(alone.score(corpus), selector.score(corpus)), "the folder serves as a selector's too"
    with pytest.raises(ValueError, match="another tokenizer"):
        CatalogueSelector.from_pretrained(tmp_path, wordpiece_tokenizer)
    with torch.no_grad():
        other = TokenSelector(SMALL).for_tokenizer(tokenizer)
        other.blend += 1
    other.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="other weights than those beside it"):
        load_selector(tmp_path, tokenizer)
    selector.save_pretrained(tmp_path / "plain")
    assert isinstance(load_selector(tmp_path / "plain", tokenizer), TokenSelector)
    with pytest.raises(ValueError, match=r"has no catalogue\.safetensors"):
        CatalogueSelector.from_pretrained(tmp_path / "plain", tokenizer)
