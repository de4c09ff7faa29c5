from __future__ import annotations

import hashlib
import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tests.conftest import TEXTS, make_tokenizer
from tsporec.selector import files
from tsporec.selector.model import SelectorConfig, TokenSelector
from tsporec.tokens.letter_hashes import Letters
from tsporec.tokens.pieces import read_pieces
from tsporec.tokens.ragged import RaggedTokens

SMALL = SelectorConfig(dim=8, hidden=8, gram_buckets=64, surface_buckets=64)
KINDS = ("bpe", "wordpiece", "unigram")
TOKENIZERS = {kind: make_tokenizer(kind) for kind in KINDS}
FORMS = {
    "title: description": "{0}: {1}",
    "on lines": "Title: {0}\nDescription: {1}",
    "in quotes": '"{0}\n{1}"',
    "behind a list number": "1. {0}\n{1}",
    "behind a space": " {0}\n{1}",
    "title alone": "{0}",
}


def encode(kind, texts):
    return RaggedTokens.from_lists(TOKENIZERS[kind](texts, add_special_tokens=False)["input_ids"])


def untrained(kind):
    torch.manual_seed(0)
    return TokenSelector(SMALL).for_tokenizer(TOKENIZERS[kind])


def knowing(kind, texts, seed=0, ids=None):
    corpus = encode(kind, texts)
    known = untrained(kind).with_item_weights(corpus if ids is None else corpus.with_items(ids))
    with torch.no_grad():
        known.item_weights.weight.normal_(generator=torch.Generator().manual_seed(seed))
    return known


@pytest.fixture(scope="module")
def selector():
    return untrained("bpe")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_an_item_is_known_in_every_form(kind, form):
    pairs = [(title, " ".join(title.split()[::-1])) for title in TEXTS]
    known = knowing(kind, [f"{title}\n{text}" for title, text in pairs])
    tokens = encode(kind, [FORMS[form].format(*pair) for pair in pairs])
    change = known.score(tokens) != known.without_item_weights().score(tokens)
    assert change.mean() > 0.6, "all but what the form adds"
    assert known.item_weights.known == len(pairs)
    plain = encode(kind, [pair[0] for pair in pairs])
    added, here = (known.score(one) - known.without_item_weights().score(one) for one in (tokens, plain))
    for i in range(len(pairs)):  # the weight of a word is the same in every form
        place = plain.cu_seqlens[i + 1] - 1  # the title's last token
        same = np.flatnonzero(tokens[i] == plain.ids[place]) + tokens.cu_seqlens[i]
        assert np.isclose(added[same], here[place], atol=1e-3).any()


@given(st.permutations(range(len(TEXTS))), st.integers(1, len(TEXTS)))
def test_tokens_of_known_items_have_weights_and_others_none(order, count):
    known = knowing("bpe", [TEXTS[i] for i in order[:count]])
    batch = encode("bpe", TEXTS)
    change = known.score(batch) - known.without_item_weights().score(batch)
    for i in range(len(TEXTS)):
        part = change[batch.cu_seqlens[i] : batch.cu_seqlens[i + 1]]
        assert (part != 0).all() if i in order[:count] else (part == 0).all()


@given(st.lists(st.sampled_from([*TEXTS, "", "pen", TEXTS[0][:20]]), min_size=1, max_size=8))
def test_scores_are_those_of_forward_whatever_the_batch(texts):
    known, corpus = knowing("bpe", TEXTS), encode("bpe", texts)
    scores = known.score(corpus)
    logits = known(torch.from_numpy(corpus.ids), torch.from_numpy(corpus.cu_seqlens)).detach().numpy()
    np.testing.assert_allclose(logits, scores, rtol=1e-4, atol=1e-4)
    alone = [known.score(corpus.take([i])) for i in range(len(corpus))]
    assert np.array_equal(np.concatenate(alone), scores)


def test_an_item_is_known_in_capitals():
    known = knowing("bpe", TEXTS)
    tokens = encode("bpe", [text.upper() for text in TEXTS])
    change = known.score(tokens) != known.without_item_weights().score(tokens)
    assert known.item_weights.known == len(TEXTS)
    assert 0.1 < change.mean() < 0.9, "the ends of words, which capitals split elsewhere"


def weights_added(selector, tokens):
    change = selector.score(tokens) - selector.without_item_weights().score(tokens)
    return [change[a:b].tolist() for a, b in pairwise(tokens.cu_seqlens)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_item_is_found_by_its_id_where_its_words_are_too_few(kind, tmp_path):
    titles = ["Heat", "Gel 12", "Up"]
    texts = [f"{title}\n{text}" for title, text in zip(titles, TEXTS, strict=False)]
    known = knowing(kind, texts, ids=["B01", 2, "3"])
    whole, alone = encode(kind, texts), encode(kind, titles)
    wanted = weights_added(known, whole)
    assert not any(map(any, weights_added(known, alone))), "by words they are not found"
    known.save_pretrained(tmp_path)
    loaded = TokenSelector.from_pretrained(tmp_path).for_tokenizer(TOKENIZERS[kind])
    for selector in (known, loaded, known.for_tokenizer(TOKENIZERS[kind])):
        found = weights_added(selector, alone.with_items(["B01", "2", 3]))
        for here, there in zip(found, wanted, strict=True):
            np.testing.assert_allclose(here, there[: len(here)], atol=1e-4)
            assert all(here)


def test_a_text_that_was_changed_since_has_the_weights_of_the_words_that_stayed():
    known, old, new = knowing("bpe", TEXTS, ids=range(6)), encode("bpe", TEXTS[:1]), TEXTS[0].replace("Pilot", "Acme")
    (kept,), (found,) = weights_added(known, old), weights_added(known, encode("bpe", [new]).with_items([0]))
    same = [token for token in new.split() if token in TEXTS[0].split()]
    count = len(encode("bpe", [" ".join(["", *same])])[0])
    np.testing.assert_allclose(found[-count:], kept[-count:], atol=1e-4)
    assert not all(found), "the new word has none"


def test_an_id_of_another_text_gives_way_to_the_words():
    known, tokens = knowing("bpe", TEXTS, ids=range(6)), encode("bpe", [*TEXTS[:2], "an item that nobody knows"])
    right = weights_added(known, tokens)
    for ids in ([1, 0, 3], [None, 99, "x"], [4, 4, None]):
        assert weights_added(known, tokens.with_items(ids)) == right
    assert not any(right[2])


def test_equal_texts_are_found_by_each_of_their_ids():
    known = knowing("bpe", [TEXTS[0], TEXTS[0], "Up"], ids=["a", "b", "b"])
    assert len(known.item_weights) == 2
    first, second, again = weights_added(known, encode("bpe", [TEXTS[0]] * 2 + ["Up"]).with_items(["a", "b", "b"]))
    assert first == second
    assert all(again), "an id that came twice is that of its first text; the second is found by its words"


def test_siblings_that_differ_in_one_word_are_told_apart():
    texts = [
        f"{TEXTS[2]} in {colour}{end}" for colour in ("red", "blue", "tan", "gray") for end in ("", ", large", " XL")
    ]
    index = knowing("bpe", texts).item_weights._read()[0]
    for form in ("{}", "1. {}", '"{}"'):
        tokens = encode("bpe", [form.format(text) for text in texts])
        assert index.find(Letters(tokens, read_pieces(TOKENIZERS["bpe"]))).tolist() == list(range(len(texts)))


def test_a_text_that_only_shares_a_phrase_is_not_that_item():
    known = knowing("bpe", TEXTS)
    other = "a cordless drill with two batteries and a charger in a sturdy case, sold with " + TEXTS[1][:16]
    tokens = encode("bpe", [other])
    assert np.array_equal(known.score(tokens), known.without_item_weights().score(tokens))


def test_only_item_weights_learn(selector):
    known = selector.with_item_weights(encode("bpe", TEXTS[:2])).train()
    tokens = encode("bpe", [TEXTS[0], TEXTS[3]])
    ids, cu = torch.from_numpy(tokens.ids), torch.from_numpy(tokens.cu_seqlens)
    known(ids, cu)[[0, -1]].sum().backward()
    gradients = {name for name, weight in known.named_parameters() if weight.grad is not None}
    assert gradients == {"item_weights.weight"}
    assert known.item_weights.weight.grad.count_nonzero() == 1, "the second text is not known"
    torch.nn.init.normal_(known.network.out.weight)
    assert torch.equal(known(ids, cu), known(ids, cu)), "the network has no dropout"
    torch.nn.init.zeros_(known.network.out.weight)


def test_a_selector_and_its_copy_with_item_weights_share_the_rest(selector):
    corpus = encode("bpe", TEXTS[:1])
    known = selector.with_item_weights(corpus)
    torch.nn.init.normal_(known.item_weights.weight)
    assert selector.item_weights is None
    assert known.network is selector.network
    without = known.without_item_weights()
    assert known.item_weights is not None
    assert np.array_equal(without.score(corpus), selector.score(corpus))
    assert without.fingerprint == selector.fingerprint != known.fingerprint


def test_scores_of_known_items_can_be_set(selector):
    corpus, batch = encode("bpe", TEXTS[:2]), encode("bpe", [TEXTS[1], TEXTS[4], TEXTS[0]])
    wanted = np.arange(batch.num_tokens, dtype=np.float32)
    known = selector.with_item_weights(corpus).set_item_scores(batch, wanted)
    found, (a, b) = known.score(batch), batch.cu_seqlens[1:3]
    _, first = np.unique(batch[0], return_index=True)
    np.testing.assert_allclose(found[:a][first], wanted[:a][first], atol=1e-3)
    assert np.array_equal(found[a:b], selector.score(batch)[a:b])
    with pytest.raises(ValueError, match="has no item weights; call"):
        selector.set_item_scores(batch, wanted)
    with pytest.raises(ValueError, match="one score for each of"):
        known.set_item_scores(batch, wanted[1:])


def test_another_tokenizer_finds_the_items_too():
    known = knowing("bpe", TEXTS)
    other, tokens = known.for_tokenizer(TOKENIZERS["unigram"]), encode("unigram", TEXTS)
    share = (other.score(tokens) != other.without_item_weights().score(tokens)).mean()
    assert share > 0.1, "where both split a word alike"


def test_a_warning_says_that_nothing_is_known(caplog):
    known, tokens = knowing("bpe", TEXTS[:1]), encode("bpe", TEXTS[1:])
    for _ in range(60):
        known.score(tokens)
    assert [record.message for record in caplog.records] == [
        "none of the first 100 texts is an item that this selector has learned from, so it scores them by its shared "
        "weights alone. Are the spans those of the items' texts?"
    ]
    assert (known.item_weights.seen, known.item_weights.known) == (300, 0)


def test_a_frozen_copy_does_not_drop_them_in_silence():
    with pytest.raises(ValueError, match=r"without_item_weights\(\)\.frozen"):
        knowing("bpe", TEXTS).frozen()


# -- on disk


@pytest.fixture
def saved(tmp_path):
    """A folder, and the selector in it."""
    known = knowing("bpe", ["gel pen", "", "a red stapler"], ids="abc")
    return known.save_pretrained(tmp_path), known


def test_all_that_was_trained_is_loaded(saved, selector):
    folder, known = saved
    loaded = TokenSelector.from_pretrained(folder)
    assert loaded.for_tokenizer(TOKENIZERS["bpe"]).fingerprint == known.fingerprint
    batch = encode("bpe", ["gel pen", "a blue stapler"])
    assert np.array_equal(loaded.for_tokenizer(make_tokenizer("bpe")).score(batch), known.score(batch))
    assert "learned weights for the words of 2 items" in (folder / files.CARD).read_text()
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
    ("change", "message"),
    [
        (lambda t: t | {"items": t["items"][1:]}, "items and hashes differ in length"),
        (lambda t: t | {"items": t["items"] + 3}, "items are out of bounds"),
        (lambda t: t | {"items": t["items"] - 3}, "items are out of bounds"),
        (lambda t: t | {"items": t["items"].long()}, "expected tensors of one dimension"),
        (lambda t: t | {"hashes": t["hashes"].flip(0)}, "hashes do not ascend"),
        (lambda t: t | {"keys": t["keys"].flip(0)}, "keys do not ascend"),
        (lambda t: t | {"id_items": t["id_items"] + 3}, "id_items are out of bounds"),
        (lambda t: t | {"ids": t["ids"].flip(0)}, "ids do not ascend"),
        (lambda t: t | {"ids": t["ids"][1:]}, "ids and id_items differ in length"),
        (lambda t: t | {"keys": t["keys"][1:]}, "keys and weight differ in length"),
        (lambda t: t | {"lengths": -t["lengths"] - 1}, "lengths are negative"),
        (lambda t: t | {"weight": t["weight"] * float("nan")}, "weights are not finite"),
        (lambda t: t | {"weight": t["weight"].half()}, "expected tensors of one dimension"),
        (lambda t: t | {"weight": t["weight"][:, None].contiguous()}, "expected tensors of one dimension"),
        (lambda t: {name: part for name, part in t.items() if name != "weight"}, "expected tensors"),
        (lambda t: t | {"bias": torch.zeros(1)}, "expected tensors of one dimension"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(saved, change, message):
    folder, _ = saved
    path = folder / files.ITEM_WEIGHTS
    save_file({name: part.contiguous() for name, part in change(load_file(path)).items()}, path)
    config = json.loads((folder / files.CONFIG).read_text())
    config["item_weights"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / files.CONFIG).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        TokenSelector.from_pretrained(folder)


@pytest.mark.parametrize("bad", [3, {}, {"sha256": "x"}, {"items": "3"}])
def test_damaged_headers_are_refused(saved, bad):
    folder, _ = saved
    config = json.loads((folder / files.CONFIG).read_text())
    whole = isinstance(bad, dict) and len(bad) == 1 and "sha256" not in bad
    config["item_weights"] = {**config["item_weights"], **bad} if whole else bad
    (folder / files.CONFIG).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"item_weights|max_tokens must be"):
        TokenSelector.from_pretrained(folder)


def test_no_item_is_fine(selector):
    empty = selector.with_item_weights(RaggedTokens.from_lists([])).item_weights
    positions, places = empty.find(encode("bpe", ["gel pen", ""]), selector.vocabulary.pieces)
    assert len(positions) == len(places) == len(empty) == 0


def test_a_text_that_many_items_share_is_known():
    known = knowing("bpe", [TEXTS[0]] * 40 + [TEXTS[1]])
    assert len(known.item_weights) == 2
    tokens = encode("bpe", TEXTS[:2])
    change = known.score(tokens) != known.without_item_weights().score(tokens)
    assert change.all()
