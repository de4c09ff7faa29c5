"""Scores in memory are those that the scorer would give now, for any number of threads."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from tests.conftest import TEXTS
from tsporec.collators.selector import SelectorCollator
from tsporec.scorers import make_scorer
from tsporec.scorers.cached import CachedScorer
from tsporec.selector.model import TokenSelector
from tsporec.tokens.ragged import RaggedTokens

QUERY = RaggedTokens.from_lists([[1, 2], [2, 2, 1]])


def test_scores_are_forgotten_when_the_scorer_is_fitted_again():
    tfidf = make_scorer("tfidf").fit(RaggedTokens.from_lists([[1, 2], [1]]))
    cached = CachedScorer(tfidf)
    for corpus in ([[2], [2], [1, 2]], [[1], [1], [2]]):
        cached.score(QUERY)
        tfidf.fit(RaggedTokens.from_lists(corpus))  # not through the cache
        np.testing.assert_array_equal(cached.score(QUERY), tfidf.score(QUERY))


def test_scores_are_forgotten_when_weights_change(tokenizer):
    corpus = RaggedTokens.from_lists(tokenizer(TEXTS, add_special_tokens=False)["input_ids"])
    selector = TokenSelector().for_tokenizer(tokenizer).fit(corpus)
    cached = CachedScorer(selector)
    before = cached.score(corpus)
    optimizer = torch.optim.SGD(selector.parameters(), lr=1.0)
    torch.nn.init.normal_(selector.network.out.weight)
    trained = cached.score(corpus)
    selector(torch.from_numpy(corpus.ids), torch.from_numpy(corpus.cu_seqlens)).square().sum().backward()
    optimizer.step()
    stepped = cached.score(corpus)
    selector.fit(RaggedTokens.from_lists([corpus.ids[:3].tolist()]))
    fitted = cached.score(corpus)
    for earlier, later in ((before, trained), (trained, stepped), (stepped, fitted)):
        assert not np.array_equal(earlier, later)
    np.testing.assert_array_equal(fitted, selector.score(corpus))


def test_scores_of_a_language_model_follow_its_weights(causal_lm):
    import copy

    model = copy.deepcopy(causal_lm)
    cached = CachedScorer(make_scorer("self_information", model=model))
    tokens = RaggedTokens.from_lists([[5, 6, 7]])
    before = cached.score(tokens)
    with torch.no_grad():
        model.lm_head.weight.add_(torch.randn_like(model.lm_head.weight))
    assert not np.array_equal(cached.score(tokens), before)


def test_a_scorer_that_counts_its_calls_is_cached_all_the_same():
    class Counting:
        calls = 0

        def score(self, tokens):
            self.calls += 1
            return tokens.ids.astype(np.float32)

    cached = CachedScorer(Counting())
    for _ in range(3):
        cached.score(QUERY)
    assert cached.scorer.calls == 1


def test_threads_share_a_collator_whose_memory_is_full(switching):
    rng = np.random.default_rng(0)
    texts = [rng.integers(4, 90, n).tolist() for n in rng.integers(5, 40, 100)]
    features = [{"input_ids": text, "item_spans": [(0, len(text))]} for text in texts]
    collator = SelectorCollator(list, make_scorer("random"), 5, cache_tokens=600)
    expected, wrong = collator(features), []

    def work(seed):
        chosen = np.random.default_rng(seed).integers(0, 100, (60, 8))
        for rows in chosen.tolist():
            try:
                if collator([features[i] for i in rows]) != [expected[i] for i in rows]:
                    wrong.append(rows)
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    memory = collator.scorer
    assert memory._tokens == sum(map(len, memory._scores)) // 4 <= 600


def test_tfidf_refuses_negative_ids():
    tfidf = make_scorer("tfidf").fit(RaggedTokens.from_lists([[4, 5, 6]]))
    with pytest.raises(ValueError, match="token id -1 is outside"):
        tfidf.score(RaggedTokens.from_lists([[-1]]))


def test_scores_of_one_text_under_two_item_ids_are_apart(tokenizer):
    titles = RaggedTokens.from_lists(tokenizer(["Up", "Up"], add_special_tokens=False)["input_ids"])
    whole = tokenizer([f"Up {TEXTS[0]}", f"Up {TEXTS[1]}"], add_special_tokens=False)["input_ids"]
    known = TokenSelector().for_tokenizer(tokenizer)
    known = known.with_item_weights(RaggedTokens.from_lists(whole).with_items([1, 2]))
    torch.nn.init.normal_(known.item_weights.weight)
    cached = CachedScorer(known)
    for ids in ([1, 2], [2, 1], [None, 1]):
        named = titles.with_items(ids)
        for _ in range(2):
            np.testing.assert_array_equal(cached.score(named), known.score(named))
    first, second = np.split(cached.score(titles.with_items([1, 2])), 2)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(cached.score(titles), known.without_item_weights().score(titles))


def test_threads_take_turns_without_a_memory_too():
    class Busy:
        inside = 0

        def score(self, tokens):
            self.inside += 1
            assert self.inside == 1
            time.sleep(0.001)
            self.inside -= 1
            return np.zeros(tokens.num_tokens, dtype=np.float32)

    cached = CachedScorer(Busy(), max_tokens=0)
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(cached.score, [QUERY] * 40))) == 40
