"""A selector that knows words scores them alike, however a tokenizer splits them."""

from __future__ import annotations

import copy
import pickle
import unicodedata
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import TEXTS, make_tokenizer, random_tokens
from tests.selector.test_model import plain
from tsporec.budget import Budget
from tsporec.selector.lexicon import bind_words, frequent_words, tokenize_words
from tsporec.selector.model import SelectorConfig, TokenSelector
from tsporec.tokenizer import wrap_tokenizer
from tsporec.tokens.pieces import read_pieces
from tsporec.tokens.ragged import RaggedTokens

OTHER = ["zebra crossing lamp", "printer for large books", "notes on paper: 12 x 34", "green metal point"]
OTHER += ["xabcdefghijklmnopqrstuvwxyz x0123456789", " ".join("abcdefghijklmnopqrstuvwxyz0123456789")]
SIZES = {"bpe": 290, "wordpiece": 140, "unigram": 100}
TOKENIZERS = {kind: make_tokenizer(kind, OTHER, size) for kind, size in SIZES.items()}
PLAIN = [
    " ".join(word for word in text.lower().replace(",", " ").split() if word.isalpha() and word.isascii())
    for text in TEXTS
]


def encode(tokenizer, texts) -> RaggedTokens:
    return RaggedTokens.from_lists(tokenizer(texts, add_special_tokens=False)["input_ids"])


def knowing(count=200, texts=tuple(TEXTS + PLAIN)) -> TokenSelector:
    """A selector that knows words, whose network counts."""
    torch.manual_seed(0)
    selector = TokenSelector(SelectorConfig(gram_buckets=512, surface_buckets=1024)).fit_words(texts, count)
    torch.nn.init.normal_(selector.network.out.weight)
    return selector.fit([(tokenizer, encode(tokenizer, TEXTS)) for tokenizer in TOKENIZERS.values()])


@pytest.fixture(scope="module")
def selector():
    return knowing()


@cache
def spellings(kind, lexicon):
    """Runs of ids -> the known word each spells, from the words tokenised one by one."""
    tokenizer, known = TOKENIZERS[kind], {}
    pieces = read_pieces(tokenizer)
    for word in lexicon.decode().split(" "):
        bare = "".join(c for c in unicodedata.normalize("NFD", word.lower()) if not unicodedata.combining(c))
        ids = [tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (" " + word, "\n" + word)]
        for run in (ids[0], ids[1], ids[1][1:], ids[1][2:]):
            spelled = b"".join(pieces.bytes[i] for i in run).decode(errors="replace").strip(" ")
            if spelled in (word, bare):
                known[run] = " " + spelled
    return known | {(i,): " " + text for i, text in enumerate(pieces.texts) if " " + text in known.values()}


def oracle(kind, lexicon, segment):
    """(start, end, known word or None) of every unit of a segment."""
    pieces, known = read_pieces(TOKENIZERS[kind]), spellings(kind, lexicon)
    runs, before = [], ""
    for at, token in enumerate(segment):
        text = pieces.bytes[token].decode(errors="replace")
        joint = before[-1:], text[:1]
        sign = text[:1] == "\ufffd" and pieces.bytes[token][0] in (0xC2, 0xE2, 0xEF, 0xF0)
        goes_on = any(all(is_(c) or c == "\ufffd" for c in joint) for is_ in (str.isalpha, str.isdigit)) and not sign
        if "" in joint or not (goes_on or (before == " " and text[:1] != " ")):
            runs.append([])
        runs[-1].append(at)
        before = text
    for run in runs:
        word = known.get(tuple(segment[run[0] : run[-1] + 1]))
        yield from [(run[0], run[-1] + 1, word)] if word or len(run) == 1 else [(at, at + 1, None) for at in run]


@pytest.mark.parametrize("kind", SIZES)
@given(st.data())
def test_units_are_those_of_a_plain_oracle(kind, data):
    tokenizer = TOKENIZERS[kind]
    lexicon = frequent_words(TEXTS, data.draw(st.sampled_from([1, 9, 60])))
    words, new = bind_words(pieces := read_pieces(tokenizer), lexicon, tokenize_words(tokenizer, lexicon))
    texts = data.draw(st.lists(st.sampled_from([*TEXTS, *OTHER, "x(pen)pens 30a pen30", "—café é"]), max_size=3))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    tokens = RaggedTokens.from_lists(encode(tokenizer, texts).to_lists() if texts else [])
    tokens = RaggedTokens.from_lists([*tokens.to_lists(), *random_tokens(rng, 4, len(pieces)).to_lists()])
    ids, cu_seqlens, of_token = words.units(tokens.ids, tokens.cu_seqlens)
    assert len(ids) == cu_seqlens[-1]
    for segment, ids_of, at, first in zip(
        tokens.to_lists(), RaggedTokens(ids, cu_seqlens).to_lists(), tokens.cu_seqlens, cu_seqlens, strict=False
    ):
        expected = list(oracle(kind, lexicon, segment))
        assert len(ids_of) == len(expected)
        numbers = [number for number, (start, end, _) in enumerate(expected) for _ in range(start, end)]
        assert (of_token[at : at + len(segment)] - first).tolist() == numbers
        for entry, (start, _, word) in zip(ids_of, expected, strict=True):
            if word is None:
                assert entry == segment[start]
            elif entry >= len(pieces):
                assert new[entry - len(pieces)] == word
            else:
                assert pieces.texts[entry] == word


@pytest.mark.parametrize("kind", SIZES)
def test_a_word_has_the_same_logit_with_every_tokenizer(kind, selector):
    """All words are known, so nothing is left of how a tokenizer splits them."""
    words = []
    for tokenizer in (TOKENIZERS[kind], make_tokenizer("bpe", PLAIN, vocab_size=2000)):
        bound, tokens = selector.for_tokenizer(tokenizer), encode(tokenizer, PLAIN)
        _, cu_seqlens, of_token = bound.vocabulary.words.units(tokens.ids, tokens.cu_seqlens)
        assert np.diff(cu_seqlens).tolist() == [len(text.split()) for text in PLAIN]
        scores = bound.score(tokens)
        words.append(scores[np.unique(of_token, return_index=True)[1]])
        np.testing.assert_array_equal(words[-1][of_token], scores)
    np.testing.assert_allclose(*words, rtol=1e-5, atol=1e-5)
    assert encode(TOKENIZERS[kind], PLAIN).num_tokens > 2 * tokens.num_tokens, "it splits most words"


@pytest.mark.parametrize("kind", SIZES)
@given(st.integers(0, 2**32 - 1))
@settings(max_examples=8)
def test_all_paths_score_alike_whatever_the_batch(kind, selector, seed):
    tokenizer, rng = TOKENIZERS[kind], np.random.default_rng(seed)
    bound = selector.for_tokenizer(tokenizer)
    texts = encode(tokenizer, [*TEXTS, *PLAIN]).take(rng.integers(0, 2 * len(TEXTS), 5))
    tokens = RaggedTokens.from_lists([*texts.to_lists(), *random_tokens(rng, 4, len(bound.vocabulary)).to_lists()])
    scores = bound.score(tokens)
    ids, cu_seqlens = torch.from_numpy(tokens.ids), torch.from_numpy(tokens.cu_seqlens)
    with torch.no_grad():
        np.testing.assert_allclose(bound(ids, cu_seqlens).numpy(), scores, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(bound.frozen()(ids, cu_seqlens).numpy(), scores, rtol=1e-5, atol=1e-5)
        units = bound.vocabulary.words.units(tokens.ids, tokens.cu_seqlens)
        segments = RaggedTokens(*units[:2]).to_lists()
        expected = torch.cat([plain(bound, segment) for segment in segments if segment])
        np.testing.assert_allclose(expected.numpy()[units.of_token], scores, rtol=1e-4, atol=1e-4)
    for i in range(len(tokens)):
        alone = bound.score(tokens.take([i]))
        np.testing.assert_array_equal(alone, scores[tokens.cu_seqlens[i] : tokens.cu_seqlens[i + 1]])


def test_compiles_and_exports_with_dynamic_lengths(selector, tmp_path):
    bound = selector.for_tokenizer(TOKENIZERS["unigram"])
    frozen = bound.frozen()
    compiled = torch.compile(frozen, fullgraph=True, dynamic=True, backend="aot_eager")
    tokens = encode(TOKENIZERS["unigram"], TEXTS)
    shapes = {"ids": {0: torch.export.Dim("tokens")}, "cu_seqlens": {0: torch.export.Dim("segments")}}
    example = torch.from_numpy(tokens.ids), torch.from_numpy(tokens.cu_seqlens)
    exported = torch.export.export(frozen, example, dynamic_shapes=shapes).module()
    for count in (3, 6, 1):
        part = tokens.take(range(count))
        given_ = torch.from_numpy(part.ids), torch.from_numpy(part.cu_seqlens)
        for module in (compiled, exported):
            np.testing.assert_allclose(module(*given_).numpy(), bound.score(part), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_wrapped_tokenizer_does_not_cut_the_words(selector, kind):
    """Its budget is for texts; the list of words would be one."""
    bound, tokens = selector.for_tokenizer(TOKENIZERS[kind]), encode(TOKENIZERS[kind], TEXTS)
    wrapped = wrap_tokenizer(TOKENIZERS[kind], bound, Budget(tokens=4))
    for again in (wrapped, pickle.loads(pickle.dumps(wrapped))):
        np.testing.assert_array_equal(selector.for_tokenizer(again).score(tokens), bound.score(tokens))


def test_words_are_tokenised_again_where_the_tokenizer_has_grown(selector):
    tokenizer = copy.deepcopy(TOKENIZERS["bpe"])
    before = tokenize_words(tokenizer, lexicon := b"gel stapler")
    assert tokenize_words(tokenizer, lexicon) is before
    assert tokenize_words(tokenizer, b"stapler") is not before
    tokenizer.add_tokens(["stapler"])
    assert len(tokenizer) - 1 in tokenize_words(tokenizer, lexicon).ids


def test_words_are_saved_and_count_as_weights(selector, tmp_path):
    tokenizer = TOKENIZERS["bpe"]
    bound, tokens = selector.for_tokenizer(tokenizer), encode(tokenizer, TEXTS)
    again = TokenSelector.from_pretrained(selector.save_pretrained(tmp_path)).for_tokenizer(tokenizer)
    np.testing.assert_array_equal(again.score(tokens), bound.score(tokens))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(again)).score(tokens), bound.score(tokens))
    assert again.fingerprint == bound.fingerprint != knowing(count=20).for_tokenizer(tokenizer).fingerprint
    assert "lexicon" not in TokenSelector().state_dict()
    assert len(bound.vocabulary) == len(tokenizer), "ids of words are not ids of tokens"
    with pytest.raises(ValueError, match="outside the vocabulary"):
        bound.score(RaggedTokens.from_lists([[len(tokenizer)]]))


def test_frequencies_are_those_of_words(selector):
    """A word that a tokenizer splits has its own document frequency."""
    tokenizer = TOKENIZERS["wordpiece"]
    fitted = TokenSelector().fit_words(TEXTS).for_tokenizer(tokenizer).fit(tokens := encode(tokenizer, TEXTS))
    ids, cu_seqlens, _ = fitted.vocabulary.words.units(tokens.ids, tokens.cu_seqlens)
    entry = ids[cu_seqlens[0]]
    assert entry >= len(tokenizer), "pilot is split"
    count = sum("pilot" in text.lower() for text in TEXTS)
    found = float(fitted.idf[fitted.vocabulary.surface[entry]])
    assert found == pytest.approx(np.log((1 + len(TEXTS)) / (1 + count)) + 1)


def test_gradients_reach_every_weight(selector):
    bound = selector.for_tokenizer(TOKENIZERS["unigram"])
    tokens = encode(TOKENIZERS["unigram"], TEXTS)
    bound(torch.from_numpy(tokens.ids), torch.from_numpy(tokens.cu_seqlens)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in bound.parameters())
    bound.zero_grad(set_to_none=True)


def test_words_come_before_binding(selector):
    with pytest.raises(ValueError, match="is bound to a tokenizer; call fit_words on a new one"):
        selector.for_tokenizer(TOKENIZERS["bpe"]).fit_words(TEXTS)
    with pytest.raises(ValueError, match="reads embeddings; call fit_words"):
        TokenSelector(SelectorConfig.of_embeddings(torch.zeros(9, 4))).fit_words(TEXTS)
    fitted = TokenSelector().fit([(TOKENIZERS["bpe"], encode(TOKENIZERS["bpe"], TEXTS))])
    for known in (fitted, TokenSelector.from_pretrained(), knowing()):
        with pytest.raises(ValueError, match="is fitted or has learned; call fit_words on a new one"):
            known.fit_words(TEXTS)


def test_words_come_from_texts():
    with pytest.raises(ValueError, match=r"found one string, 'blue ink'\. Give a list"):
        TokenSelector().fit_words("blue ink")
    for texts, count in ([], 9), (["", " "], 9), (TEXTS, 0), (TEXTS, -1):
        with pytest.raises(ValueError, match=r"found \d+ words in the texts, and count="):
            TokenSelector().fit_words(texts, count)
    assert len(TokenSelector().fit_words(iter(TEXTS), 2).lexicon) > 2
