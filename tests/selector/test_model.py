from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import TEXTS, make_tokenizer, random_tokens
from tsporec.budget import Budget
from tsporec.data.items import Item, item_text
from tsporec.data.synthetic import word_tokenizer
from tsporec.scorers import make_scorer
from tsporec.scorers.base import Scorer, read_corpus
from tsporec.selection import select
from tsporec.selector import network
from tsporec.selector.config import WEIGHTINGS
from tsporec.selector.model import SelectorConfig, TokenSelector
from tsporec.selector.text_rows import TEXT_SIGNALS, lay_out, lay_out_numpy
from tsporec.selector.vocabulary import count_texts
from tsporec.tokens.pieces import read_pieces
from tsporec.tokens.ragged import RaggedTokens


def small(tokenizer, seed=0) -> TokenSelector:
    """A selector whose network counts, fitted on TEXTS."""
    torch.manual_seed(seed)
    selector = TokenSelector(SelectorConfig(gram_buckets=512, surface_buckets=1024)).for_tokenizer(tokenizer)
    torch.nn.init.normal_(selector.network.out.weight)
    return selector.fit(corpus(tokenizer))


def corpus(tokenizer) -> RaggedTokens:
    return RaggedTokens.from_lists(tokenizer(TEXTS, add_special_tokens=False)["input_ids"])


@pytest.fixture(scope="module")
def selector(tokenizer):
    return small(tokenizer)


def test_is_a_scorer(selector):
    assert isinstance(selector, Scorer)


def test_size(selector):
    network = sum(p.numel() for p in TokenSelector().network.parameters())
    config = TokenSelector().config
    work = 3 * config.hidden**2 + config.hidden * (len(TEXT_SIGNALS) + 1)
    assert network < 600_000
    assert work <= 4_000


@given(st.integers(0, 2**32 - 1))
def test_scores_do_not_depend_on_the_batch(selector, seed):
    rng = np.random.default_rng(seed)
    tokens = random_tokens(rng, segments=12, vocab=len(selector.vocabulary), longest=150)
    together = selector.score(tokens)
    assert together.dtype == np.float32
    for i in rng.permutation(len(tokens))[:4]:
        alone = selector.score(tokens.take([i]))
        np.testing.assert_array_equal(alone, together[tokens.cu_seqlens[i] : tokens.cu_seqlens[i + 1]])
    np.testing.assert_array_equal(together, selector.score(tokens))


def test_long_and_many_segments_agree_with_forward(selector):
    rng = np.random.default_rng(0)
    size = len(selector.vocabulary)
    tokens = RaggedTokens.from_lists([rng.integers(0, size, n) for n in (6000, 0, 3, 4096, 1, 500)])
    with torch.no_grad():
        expected = selector(torch.from_numpy(tokens.ids), torch.from_numpy(tokens.cu_seqlens)).numpy()
    np.testing.assert_allclose(selector.score(tokens), expected, rtol=1e-5, atol=1e-5)


@given(st.integers(0, 2**32 - 1))
def test_both_layouts_agree(seed):
    rng = np.random.default_rng(seed)
    tokens, absent = random_tokens(rng, 9, 12, 40), 12
    terms = rng.integers(0, 4, tokens.num_tokens)
    given = torch.from_numpy(tokens.ids), torch.from_numpy(terms), torch.from_numpy(tokens.cu_seqlens)
    expected = lay_out(*given, absent)
    found = lay_out_numpy(tokens.ids, terms, tokens.cu_seqlens, absent)
    for name in ("rows", "row_ids", "segment", "inside", "lengths"):
        assert torch.equal(getattr(found, name), getattr(expected, name).to(getattr(found, name).dtype)), name
    rows = expected.rows
    torch.testing.assert_close(found.signals[:, rows].float(), expected.signals[:, rows])


def plain(selector, ids):
    """The logits of one text, written out from the definition."""
    vocabulary, network, n = selector.vocabulary, selector.network, len(ids)
    bags = [vocabulary.grams[vocabulary.gram_offsets[i] : vocabulary.gram_offsets[i + 1]] for i in ids]
    rows = torch.stack([selector.network.grams.weight[torch.from_numpy(bag)].mean(dim=0) for bag in bags])
    classes = torch.from_numpy(vocabulary.classes[ids])
    rows = rows + selector.network.classes(classes)
    place = torch.arange(n).float()
    terms = vocabulary.pieces.terms[ids].tolist()
    signals = torch.stack(
        [
            selector.idf[torch.from_numpy(vocabulary.surface[ids])],
            torch.tensor([float(terms.index(term) == at) for at, term in enumerate(terms)]),
            torch.tensor([float(terms.count(term)) for term in terms]).log(),
            place / n,
            place.log1p(),
            torch.full((n,), float(n)).log1p(),
        ],
        dim=1,
    )
    signals = torch.cat([signals, classes], dim=1)
    wide = torch.nn.functional.pad(rows, (0, 0, 2, 2))
    hidden = network.first(torch.cat([*(wide[at : at + n] for at in range(5)), signals], dim=1)).relu()
    near = torch.nn.functional.pad(hidden, (0, 0, 1, 1))
    deeper = network.second(torch.cat([near[at : at + n] for at in range(3)], dim=1))
    deeper = (deeper + network.context(hidden.mean(dim=0))).relu()
    return signals @ selector.blend + network.out(deeper)[:, 0]


def test_the_network_is_what_its_definition_says(selector):
    rng = np.random.default_rng(3)
    tokens = random_tokens(rng, 8, len(selector.vocabulary), 30)
    with torch.no_grad():
        expected = torch.cat([plain(selector, ids) for ids in tokens.to_lists() if ids]).numpy()
    np.testing.assert_allclose(selector.score(tokens), expected, rtol=1e-5, atol=1e-5)


def test_an_untrained_network_is_passed_over(tokenizer):
    selector, tokens = small(tokenizer), corpus(tokenizer)
    torch.nn.init.zeros_(selector.network.out.weight)
    assert selector._scoring().slots is None
    with torch.no_grad():
        expected = selector(torch.from_numpy(tokens.ids), torch.from_numpy(tokens.cu_seqlens)).numpy()
    np.testing.assert_allclose(selector.score(tokens), expected, rtol=1e-6)


def batches(selector):
    for segments in (3, 7, 1):
        tokens = random_tokens(np.random.default_rng(segments), segments, len(selector.vocabulary), 40)
        yield torch.from_numpy(tokens.ids), torch.from_numpy(tokens.cu_seqlens), selector.score(tokens)


compiles = pytest.mark.skipif(not network._COMPILES, reason="a selector compiles with torch 2.13 or newer")


@compiles
def test_exports_with_dynamic_lengths(selector, tmp_path):
    tokens, segments = torch.export.Dim("tokens"), torch.export.Dim("segments")
    shapes = {"ids": {0: tokens}, "cu_seqlens": {0: segments}}
    ids, cu_seqlens, _ = next(batches(selector))
    program = torch.export.export(selector.frozen(), (ids, cu_seqlens), dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "selector.pt2")
    module = torch.export.load(tmp_path / "selector.pt2").module()
    for ids, cu_seqlens, expected in batches(selector):
        np.testing.assert_allclose(module(ids, cu_seqlens).numpy(), expected, rtol=1e-5, atol=1e-5)


@compiles
def test_compiles_as_one_graph_with_dynamic_lengths(selector):
    compiled = torch.compile(selector.frozen(), fullgraph=True, dynamic=True, backend="aot_eager")
    for ids, cu_seqlens, expected in batches(selector):
        np.testing.assert_allclose(compiled(ids, cu_seqlens).numpy(), expected, rtol=1e-5, atol=1e-5)


def test_an_older_torch_does_not_compile_to_other_scores(selector, monkeypatch):
    monkeypatch.setattr(network, "_COMPILES", False)
    ids, cu_seqlens, expected = next(batches(selector))
    with pytest.raises(Exception, match=r"torch 2\.13 or newer|Unsupported|unsupported"):
        torch.compile(selector.frozen(), fullgraph=True, backend="eager")(ids, cu_seqlens)
    # Without fullgraph it runs uncompiled, and as it is.
    found = torch.compile(selector.frozen(), backend="eager")(ids, cu_seqlens).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_threads_do_not_change_scores(selector):
    tokens = random_tokens(np.random.default_rng(1), 40, len(selector.vocabulary), 100)
    one = selector.score(tokens)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        np.testing.assert_array_equal(one, selector.score(tokens))
    finally:
        torch.set_num_threads(before)


def test_untrained_it_is_the_rule_asked_for(tokenizer):
    tokens = corpus(tokenizer)
    terms = [read_pieces(tokenizer).terms[ids].tolist() for ids in tokens]
    first = np.array([t not in s[:j] for s in terms for j, t in enumerate(s)])
    counts = np.array([s.count(t) for s in terms for t in s])
    place = np.array([at for s in tokens.to_lists() for at in range(len(s))])
    signs = np.array([not any(c.isalnum() for c in tokenizer.decode(int(i))) for i in tokens.ids])
    for weighting in WEIGHTINGS:
        selector = TokenSelector(SelectorConfig(weighting=weighting)).for_tokenizer(tokenizer).fit(tokens)
        idf = selector.idf[selector.vocabulary.surface[tokens.ids]].numpy()
        expected = {
            "idf": idf + 10 * first,
            "tfidf": 4 * np.log(counts * idf) + 50 * first,
            "placed": 4 * np.log(np.sqrt(counts) * idf / (1 + place) ** 0.4) - 4 * signs + 50 * first,
        }[weighting]
        np.testing.assert_allclose(selector.score(tokens), expected, rtol=1e-5)
        document_frequency = sum(" ink" in text for text in TEXTS)
        ink = tokenizer(" ink", add_special_tokens=False)["input_ids"]
        if len(ink) == 1:
            at = tokens.ids.tolist().index(ink[0])
            assert idf[at] == pytest.approx(np.log((1 + len(TEXTS)) / (1 + document_frequency)) + 1)


@given(
    words=st.lists(st.lists(st.integers(0, 39), max_size=30), min_size=1, max_size=12),
    k=st.integers(1, 12),
)
def test_untrained_it_keeps_what_tfidf_keeps(words, k):
    """Where every id spells another word: frequencies are by spelling here, there by id."""
    tokenizer = word_tokenizer([f"w{i}" for i in range(40)])
    first = tokenizer.convert_tokens_to_ids("Ġw0")
    tokens = RaggedTokens.from_lists([[first + word for word in text] for text in words])
    selector = TokenSelector(SelectorConfig(weighting="tfidf")).for_tokenizer(tokenizer).fit(tokens)
    rule = make_scorer("tfidf").fit(tokens)
    scores = rule.score(tokens)
    kept = [np.sort(select(scorer, tokens, Budget(tokens=k)).kept) for scorer in (selector, rule)]
    # Which of equals is kept may differ by rounding, not what is kept in all.
    totals = [np.bincount(tokens.segment_ids()[at], scores[at], len(tokens)) for at in kept]
    np.testing.assert_allclose(*totals, rtol=1e-5)


def test_a_prior_holds_what_is_rare_to_be_less_rare(tokenizer):
    tokens = corpus(tokenizer)
    texts = [set(text) for text in tokens.to_lists()]
    selector = TokenSelector().for_tokenizer(tokenizer)
    idf = {prior: selector.fit(tokens, prior=prior).idf.clone() for prior in (1.0, 10.0)}
    torch.testing.assert_close(idf[1.0], selector.fit(tokens).idf)
    for token in set(tokens.ids.tolist()):
        same = np.flatnonzero(selector.vocabulary.surface == selector.vocabulary.surface[token])
        df = sum(bool(text & set(same.tolist())) for text in texts)
        for prior, found in idf.items():
            expected = np.log((prior + len(texts)) / (prior + df)) + 1
            assert float(found[selector.vocabulary.surface[token]]) == pytest.approx(expected, rel=1e-5)
    for prior in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="prior is a number of texts above 0"):
            selector.fit(tokens, prior=prior)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_repeats_come_behind_all_and_special_tokens_last(tokenizer, weighting):
    special = tokenizer.all_special_ids[0]
    ids = [t for t in range(len(tokenizer)) if t not in tokenizer.all_special_ids][:40]
    text = [special, *ids, *[ids[0]] * 400, special]  # ids[0] is frequent here, and everywhere else there is no text
    tokens = RaggedTokens.from_lists([text] + [[]] * 50)
    selector = TokenSelector(SelectorConfig(weighting=weighting)).for_tokenizer(tokenizer)
    order = np.argsort(-selector.fit(tokens).score(tokens), kind="stable")
    assert sorted(order[:40].tolist()) == list(range(1, 41))
    assert sorted(order[-2:].tolist()) == [0, len(text) - 1]


def test_gradients_reach_every_weight(selector):
    tokens = corpus_ids = random_tokens(np.random.default_rng(2), 6, len(selector.vocabulary), 30)
    logits = selector(torch.from_numpy(tokens.ids), torch.from_numpy(corpus_ids.cu_seqlens))
    logits.square().sum().backward()
    for name, weight in selector.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name
    selector.zero_grad(set_to_none=True)


def test_table_follows_the_weights(tokenizer):
    selector = small(tokenizer)
    tokens = corpus(tokenizer)
    before = selector.score(tokens)
    for weight in (selector.network.grams.weight, selector.network.second.weight, selector.blend):
        with torch.no_grad():
            weight.add_(1.0)
        after = selector.score(tokens)
        assert not np.array_equal(before, after)
        before = after


def test_training_mode_scores_without_dropout_and_stays(tokenizer):
    selector = small(tokenizer)
    tokens = corpus(tokenizer)
    before = selector.score(tokens)
    selector.train()
    np.testing.assert_array_equal(before, selector.score(tokens))
    assert selector.training


def test_bound_selectors_have_modes_apart(tokenizer):
    """They share the network, and the mode of one changes nothing of the other."""
    selector = small(tokenizer)
    other, tokens = selector.for_tokenizer(tokenizer), corpus(tokenizer)
    ids, cu_seqlens = torch.from_numpy(tokens.ids), torch.from_numpy(tokens.cu_seqlens)
    before = selector.score(tokens)
    other.train()
    assert not any(part.training for part in selector.modules())
    np.testing.assert_array_equal(before, selector.score(tokens))
    np.testing.assert_array_equal(before, other.score(tokens))
    assert torch.equal(selector(ids, cu_seqlens), selector(ids, cu_seqlens))
    selector.eval()
    assert not torch.equal(other(ids, cu_seqlens), other(ids, cu_seqlens)), "it still learns with dropout"
    assert (other.training, selector.training) == (True, False)


def test_made_in_inference_mode_it_scores_and_learns(tokenizer, tmp_path):
    with torch.inference_mode():
        made = small(tokenizer)
        saved = made.save_pretrained(tmp_path)
        loaded = TokenSelector.from_pretrained(saved).for_tokenizer(tokenizer)
        known = made.with_item_weights(corpus(tokenizer))
        frozen = made.frozen()
    tokens = corpus(tokenizer)
    batch = torch.from_numpy(tokens.ids), torch.from_numpy(tokens.cu_seqlens)
    assert frozen(*batch).shape == (tokens.num_tokens,)
    for selector in (made, loaded, known):
        assert not any(part.is_inference() for part in selector.state_dict(keep_vars=True).values())
        assert np.isfinite(selector.score(tokens)).all()
        selector(*batch).sum().backward()
    assert known.item_weights.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_refused(tokenizer, dtype):
    selector = small(tokenizer)
    tokens = corpus(tokenizer)
    before = selector.score(tokens)
    selector.to(dtype)
    for score in (selector.score, lambda tokens: selector(torch.from_numpy(tokens.ids), torch.tensor([0, 3]))):
        with pytest.raises(ValueError, match=f"weights are {dtype}, and it scores in torch.float32"):
            score(tokens)
    with pytest.raises(ValueError, match=f"weights are {dtype}, and it scores in torch.float32"):
        selector.fingerprint  # noqa: B018 - a property that raises
    np.testing.assert_allclose(selector.float().score(tokens), before, rtol=0.1, atol=0.3)


def test_unbound_or_foreign_ids_are_refused(selector):
    tokens = RaggedTokens.from_lists([[0, len(selector.vocabulary)]])
    with pytest.raises(ValueError, match="is outside the vocabulary"):
        selector.score(tokens)
    with pytest.raises(ValueError, match="not bound to a tokenizer"):
        TokenSelector().score(tokens)


def test_save_and_load(selector, tokenizer, tmp_path):
    folder = selector.save_pretrained(tmp_path / "mine")
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    again = TokenSelector.from_pretrained(folder).for_tokenizer(tokenizer)
    tokens = corpus(tokenizer)
    np.testing.assert_array_equal(selector.score(tokens), again.score(tokens))
    assert again.fingerprint == selector.fingerprint
    assert small(tokenizer, seed=1).fingerprint != selector.fingerprint


def test_a_rule_is_saved_without_its_network(tokenizer, tmp_path):
    tokens = corpus(tokenizer)
    torch.manual_seed(0)
    rule = TokenSelector().for_tokenizer(tokenizer).fit(tokens)
    folder = rule.save_pretrained(tmp_path)
    size = (folder / "model.safetensors").stat().st_size
    assert size < 4 * rule.config.surface_buckets + 2000
    one, two = TokenSelector.from_pretrained(folder), TokenSelector.from_pretrained(folder)
    np.testing.assert_array_equal(one.for_tokenizer(tokenizer).score(tokens), rule.score(tokens))
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, two.state_dict()[name]), name
        spread = rule.state_dict()[name].std()  # as torch spreads new weights; biases are 0
        if weight.dim() > 1:
            torch.testing.assert_close(weight.std(), spread, rtol=0.1, atol=0.01)
    torch.manual_seed(1)
    other = TokenSelector().for_tokenizer(tokenizer).fit(tokens)
    assert other.fingerprint == rule.fingerprint, "the same scores"
    torch.nn.init.ones_(rule.network.out.weight)
    torch.nn.init.ones_(other.network.out.weight)
    assert other.fingerprint != rule.fingerprint
    again = TokenSelector.from_pretrained(rule.save_pretrained(tmp_path)).for_tokenizer(tokenizer)
    np.testing.assert_array_equal(again.score(tokens), rule.score(tokens))


def test_select_is_exact(selector, tokenizer):
    tokens = corpus(tokenizer)
    selection = selector.select(tokens, Budget(tokens=3))
    assert np.diff(selection.cu_seqlens).tolist() == np.minimum(tokens.lengths, 3).tolist()
    assert selection.apply(tokens).to_lists() == [
        tokens.ids[selection.kept[a:b]].tolist()
        for a, b in zip(selection.cu_seqlens, selection.cu_seqlens[1:], strict=False)
    ]


def test_serves_any_tokenizer(selector):
    for kind in ("wordpiece", "unigram"):
        tokenizer = make_tokenizer(kind)  # once: training a Unigram vocabulary twice may give another
        other = selector.for_tokenizer(tokenizer)
        assert np.isfinite(other.score(corpus(tokenizer))).all()
        assert other.network is selector.network
        assert other.tokenizer_fingerprint != selector.tokenizer_fingerprint
    assert TokenSelector().tokenizer_fingerprint is None


def test_frequencies_of_several_tokenizers(tokenizer, wordpiece_tokenizer):
    corpora = [(t, corpus(t)) for t in (tokenizer, wordpiece_tokenizer)]
    one = TokenSelector().fit([corpora[0]])
    np.testing.assert_array_equal(one.idf, TokenSelector().for_tokenizer(tokenizer).fit(corpora[0][1]).idf)
    both = TokenSelector().fit(corpora)
    vocabulary = both.for_tokenizer(wordpiece_tokenizer).vocabulary
    black = int(vocabulary.surface[wordpiece_tokenizer.convert_tokens_to_ids("black")])
    count = sum("black" in text for text in TEXTS)
    # A word that both tokenizers have counts in the texts of both; one that only one has, in that one's.
    shared = black in one.for_tokenizer(tokenizer).vocabulary.surface
    times = 2 if shared else 1
    assert both.idf[black] == pytest.approx(np.log((1 + times * len(TEXTS)) / (1 + times * count)) + 1)
    with pytest.raises(ValueError, match="is outside the vocabulary"):
        TokenSelector().fit([(wordpiece_tokenizer, RaggedTokens.from_lists([[10**6]]))])


@given(st.lists(st.lists(st.sampled_from(TEXTS), max_size=3), min_size=1, max_size=4))
def test_counts_of_parts_are_those_of_the_whole(tokenizer, parts):
    selector = TokenSelector().for_tokenizer(tokenizer)
    whole = selector.fit([text for part in parts for text in part]).idf.clone()
    known, buckets = selector.vocabulary, selector.config.surface_buckets
    counts = [(known, count_texts(known, read_corpus(part, tokenizer), buckets), len(part)) for part in parts]
    assert selector.fit_counts(reversed(counts)).idf.equal(whole)


def test_a_selector_knows_where_its_frequencies_are_from(tokenizer, tmp_path):
    plain = TokenSelector.from_pretrained()
    bound = plain.for_tokenizer(tokenizer)
    assert (TokenSelector().frequencies, plain.frequencies) == ("none", "as shipped")
    items = [Item(str(number), {"title": "blue pen", "description": text}) for number, text in enumerate(TEXTS)]
    by_items = bound.fit(items).idf.clone()
    assert plain.frequencies == bound.frequencies == "counted from 6 texts", "they share the frequencies"
    assert bound.fit([item_text(item) for item in items]).idf.equal(by_items)
    assert TokenSelector.from_pretrained(bound.save_pretrained(tmp_path)).frequencies == "counted from 6 texts"
    with pytest.raises(TypeError, match="found Item beside others"):
        bound.fit([items[0], [4, 5]])


@compiles
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="inductor needs a C++ compiler")
def test_compiles_with_inductor(selector):
    compiled = torch.compile(selector.frozen(), fullgraph=True, dynamic=True)
    for ids, cu_seqlens, expected in batches(selector):
        np.testing.assert_allclose(compiled(ids, cu_seqlens).numpy(), expected, rtol=1e-5, atol=1e-5)


def test_copies_of_a_bound_selector_take_texts(tokenizer):
    selector = TokenSelector().for_tokenizer(tokenizer).fit(TEXTS)
    corpus = read_corpus(TEXTS, tokenizer)
    for copied in (selector.with_item_weights(corpus), selector.with_item_weights(corpus).without_item_weights()):
        assert copied.fit(TEXTS).idf.equal(selector.idf)


def test_tuples_of_ids_are_texts(tokenizer):
    texts = [(4, 5), (5, 6), (6, 6)]
    selector = TokenSelector().for_tokenizer(tokenizer)
    assert selector.fit(texts).idf.equal(TokenSelector().for_tokenizer(tokenizer).fit(list(map(list, texts))).idf)


def test_a_table_is_no_list_of_texts(tokenizer):
    selector = TokenSelector().for_tokenizer(tokenizer)
    for table in ({"title": "blue pen"}, SimpleNamespace(columns=["title"])):
        with pytest.raises(TypeError, match="column of texts"):
            selector.fit(table)
        with pytest.raises(ValueError, match="expected a text or a list of texts"):
            selector.compress_text(table, 2, tokenizer)
