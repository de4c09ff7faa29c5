from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tests.conftest import make_tokenizer
from tsporec.selector import files
from tsporec.selector.item_weights import ItemWeights
from tsporec.selector.model import SelectorConfig, TokenSelector
from tsporec.tokens.ragged import RaggedTokens

SMALL = SelectorConfig(dim=8, hidden=8, gram_buckets=64, surface_buckets=64)
texts = st.lists(st.lists(st.integers(5, 40), max_size=6), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def selector(tokenizer):
    torch.manual_seed(0)
    return TokenSelector(SMALL).for_tokenizer(tokenizer)


def knowing(selector, corpus, max_tokens=None):
    known = selector.with_item_weights(corpus, max_tokens)
    with torch.no_grad():
        known.item_weights.weight.normal_(generator=torch.Generator().manual_seed(0))
    return known


@given(texts, texts)
def test_tokens_of_known_texts_have_weights_and_others_none(selector, known, others):
    batch = RaggedTokens.from_lists([*others, *known])
    change = knowing(selector, RaggedTokens.from_lists(known)).score(batch) - selector.score(batch)
    for i, text in enumerate(batch.to_lists()):
        part = change[batch.cu_seqlens[i] : batch.cu_seqlens[i + 1]]
        assert (part != 0).all() if text in known else (part == 0).all()


@given(texts)
def test_scores_are_those_of_forward_whatever_the_batch(selector, known):
    corpus = RaggedTokens.from_lists(known)
    knows = knowing(selector, corpus)
    scores = knows.score(corpus)
    logits = knows(torch.from_numpy(corpus.ids), torch.from_numpy(corpus.cu_seqlens)).detach().numpy()
    np.testing.assert_allclose(logits, scores, rtol=1e-4, atol=1e-4)
    alone = [knows.score(corpus.take([i])) for i in range(len(corpus))]
    assert np.array_equal(np.concatenate(alone), scores)


def test_texts_that_were_cut_are_known_whole(selector, tokenizer, tmp_path):
    cut, whole = RaggedTokens.from_lists([[5, 6, 7], [8, 9]]), RaggedTokens.from_lists([[5, 6, 7, 8, 9], [8, 9, 10]])
    assert np.array_equal(knowing(selector, cut).score(whole), selector.score(whole))
    known = knowing(selector, cut, max_tokens=3)
    assert known.fingerprint != knowing(selector, cut).fingerprint
    loaded = TokenSelector.from_pretrained(known.save_pretrained(tmp_path)).for_tokenizer(tokenizer)
    change = loaded.score(whole) - selector.score(whole)
    assert np.array_equal(change != 0, [True, True, True, False, False, False, False, False])
    np.testing.assert_allclose(change[:3], (known.score(cut) - selector.score(cut))[:3], atol=1e-5)


def test_only_item_weights_learn(selector):
    corpus = RaggedTokens.from_lists([[5, 6, 7], [8, 9]])
    known = selector.with_item_weights(corpus).train()
    ids, cu = torch.tensor([5, 6, 7, 20, 21]), torch.tensor([0, 3, 5])
    known(ids, cu)[[0, 3]].sum().backward()
    gradients = {name for name, weight in known.named_parameters() if weight.grad is not None}
    assert gradients == {"item_weights.weight"}
    assert known.item_weights.weight.grad.count_nonzero() == 1, "the second text is not known"
    torch.nn.init.normal_(known.network.out.weight)
    assert torch.equal(known(ids, cu), known(ids, cu)), "the network has no dropout"
    torch.nn.init.zeros_(known.network.out.weight)


def test_a_selector_and_its_copy_with_item_weights_share_the_rest(selector):
    corpus = RaggedTokens.from_lists([[5, 6, 7]])
    known = knowing(selector, corpus)
    assert selector.item_weights is None
    assert known.network is selector.network
    without = known.without_item_weights()
    assert known.item_weights is not None
    assert np.array_equal(without.score(corpus), selector.score(corpus))
    assert without.fingerprint == selector.fingerprint != known.fingerprint


def test_scores_of_known_texts_can_be_set(selector):
    corpus = RaggedTokens.from_lists([[5, 6, 7], [8]])
    batch = RaggedTokens.from_lists([[8], [9, 10], [5, 6, 7]])
    known = selector.with_item_weights(corpus).set_item_scores(batch, np.arange(6, dtype=np.float32))
    np.testing.assert_allclose(known.score(batch)[[0, 3, 4, 5]], [0, 3, 4, 5], atol=1e-5)
    assert np.array_equal(known.score(batch)[1:3], selector.score(batch)[1:3])
    with pytest.raises(ValueError, match="has no item weights; call"):
        selector.set_item_scores(batch, np.arange(6))
    with pytest.raises(ValueError, match=r"one score for each of 6 tokens; found \(5,\)"):
        known.set_item_scores(batch, np.arange(5))


def test_another_tokenizer_is_refused_with_the_remedy(selector, wordpiece_tokenizer):
    known = knowing(selector, RaggedTokens.from_lists([[5, 6, 7]]))
    with pytest.raises(ValueError, match=r"another tokenizer .* selector\.without_item_weights\(\)"):
        known.for_tokenizer(wordpiece_tokenizer)
    known.without_item_weights().for_tokenizer(wordpiece_tokenizer)


def test_a_frozen_copy_does_not_drop_them_in_silence(selector):
    known = knowing(selector, RaggedTokens.from_lists([[5, 6, 7]]))
    with pytest.raises(ValueError, match=r"without_item_weights\(\)\.frozen"):
        known.frozen()


# -- on disk


@pytest.fixture
def saved(selector, tmp_path):
    """A folder, and the selector in it."""
    known = knowing(selector, RaggedTokens.from_lists([[5, 6, 7], [], [8, 9]]))
    return known.save_pretrained(tmp_path), known


def test_all_that_was_trained_is_loaded(saved, selector, tokenizer):
    folder, known = saved
    loaded = TokenSelector.from_pretrained(folder)
    assert loaded.for_tokenizer(tokenizer).fingerprint == known.fingerprint
    batch = RaggedTokens.from_lists([[5, 6, 7], [10]])
    assert np.array_equal(loaded.for_tokenizer(make_tokenizer("bpe")).score(batch), known.score(batch))
    assert "learned weights for the tokens of 3 texts" in (folder / files.CARD).read_text()
    selector.save_pretrained(folder)
    assert not (folder / files.ITEM_WEIGHTS).exists(), "those of an older selector are deleted"
    assert TokenSelector.from_pretrained(folder).item_weights is None


def test_saved_twice_the_bytes_are_the_same(saved, tokenizer, tmp_path):
    folder, _ = saved
    again = TokenSelector.from_pretrained(folder).save_pretrained(tmp_path / "again")
    for path in folder.glob("*.*"):
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name


def test_every_flipped_byte_is_refused(saved):
    folder, _ = saved
    path = folder / files.ITEM_WEIGHTS
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(ValueError, match="damaged or of another save"):
            TokenSelector.from_pretrained(folder)
    path.write_bytes(whole[:-4])
    with pytest.raises(ValueError, match="damaged or of another save"):
        TokenSelector.from_pretrained(folder)
    path.unlink()
    with pytest.raises(ValueError, match=r"has no item_weights\.safetensors"):
        TokenSelector.from_pretrained(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"starts": torch.tensor([1, 1, 4, 5])}, "starts must ascend from 0 to the 5 weights"),
        ({"starts": torch.tensor([0, 6, 4, 5])}, "starts must ascend from 0"),
        ({"starts": torch.tensor([0, 0, 3, 2**40])}, "starts must ascend from 0"),
        ({"starts": torch.tensor([0, 5])}, r"expected digests int64 \[K\], starts int64 \[K \+ 1\]"),
        ({"starts": torch.tensor([0.0, 0, 3, 5])}, "expected digests int64"),
        ({"digests": torch.tensor([3, 2, 1])}, "digests must ascend"),
        ({"digests": torch.tensor([1, 1, 2])}, "digests must ascend"),
        ({"weight": torch.tensor([0.0, float("nan"), 0, 0, 0])}, "a weight is NaN or infinite"),
        ({"weight": torch.zeros(5, dtype=torch.float16)}, "weight float32"),
        ({"weight": torch.zeros(4)}, "starts must ascend from 0 to the 4 weights"),
        ({"weight": torch.zeros(5, 1)}, "expected digests int64"),
        ({"weight": None}, "does not hold item weights"),
        ({"bias": torch.zeros(1)}, "does not hold item weights"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(saved, changes, message):
    folder, _ = saved
    path = folder / files.ITEM_WEIGHTS
    tensors = {**load_file(path), **changes}
    save_file({name: part for name, part in tensors.items() if part is not None}, path)
    config = json.loads((folder / files.CONFIG).read_text())
    config["item_weights"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / files.CONFIG).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        TokenSelector.from_pretrained(folder)


@pytest.mark.parametrize("bad", [3, {}, {"sha256": "x"}, {"max_tokens": 0}, {"max_tokens": -1}, {"texts": "3"}])
def test_damaged_headers_are_refused(saved, bad):
    folder, _ = saved
    config = json.loads((folder / files.CONFIG).read_text())
    whole = isinstance(bad, dict) and len(bad) == 1 and "sha256" not in bad
    config["item_weights"] = {**config["item_weights"], **bad} if whole else bad
    (folder / files.CONFIG).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"item_weights|max_tokens must be"):
        TokenSelector.from_pretrained(folder)


def test_no_text_is_fine():
    empty = ItemWeights.zeros(RaggedTokens.from_lists([]), "x")
    positions, places = empty.find(RaggedTokens.from_lists([[5], []]))
    assert len(positions) == len(places) == 0
