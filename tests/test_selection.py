"""The step from scores to kept tokens, and how a scorer is asked and bound."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import random_tokens
from tsporec.budget import Budget, as_budget
from tsporec.scorers import make_scorer
from tsporec.scorers.base import bind
from tsporec.scorers.cached import CachedScorer
from tsporec.selection import rank, score_tokens, select, select_scored, select_words
from tsporec.selector.model import TokenSelector
from tsporec.tokens.fingerprint import tokenizer_fingerprint
from tsporec.tokens.ragged import RaggedTokens

BUDGETS = st.one_of(
    st.integers(1, 9),
    st.builds(Budget, keep_ratio=st.floats(0.01, 1.0)),
    st.builds(Budget, total=st.integers(1, 40), minimum=st.integers(0, 3)),
)


@given(seed=st.integers(0, 2**32 - 1), budget=BUDGETS)
def test_kept_tokens_are_the_best_in_text_order(seed, budget):
    rng = np.random.default_rng(seed)
    tokens = random_tokens(rng, segments=5)
    scores = rng.choice([0.0, 1.0, 2.0, np.nan], size=tokens.num_tokens).astype(np.float32)
    protected = rng.random(tokens.num_tokens) < 0.2
    options = {"sample_offsets": [0, 2, 5], "protected": protected}
    found = select_scored(scores, tokens, budget, **options)
    lengths, order = np.diff(found.cu_seqlens), np.where(protected, 9, np.nan_to_num(scores, nan=-1))
    again = select_scored(scores, tokens, lengths, **options)
    assert again.kept.tolist() == found.kept.tolist()
    for i, count in enumerate(lengths.tolist()):
        start, end = tokens.cu_seqlens[i : i + 2].tolist()
        best = sorted(range(start, end), key=lambda t: (-order[t], t))[:count]
        assert found.kept[found.cu_seqlens[i] : found.cu_seqlens[i + 1]].tolist() == sorted(best)
        if isinstance(budget, int):
            assert count == min(max(budget, protected[start:end].sum()), end - start)


@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 6))
def test_ranks_say_what_a_smaller_budget_keeps(seed, k):
    rng = np.random.default_rng(seed)
    tokens = random_tokens(rng, segments=4)
    scores = rng.choice([0.0, -0.0, 1.0, np.nan], size=tokens.num_tokens).astype(np.float32)
    for protected in (None, rng.random(tokens.num_tokens) < 0.2):
        whole = select_scored(scores, tokens, 50, protected=protected)
        kept = whole.kept[rank(scores, whole, protected) < k]
        assert kept.tolist() == select_scored(scores, tokens, k, protected=protected).kept.tolist()


def words_one_by_one(scores, words, cu, k, protected):
    """The definition of whole-word selection, word by word."""
    kept = []
    for i, (start, end) in enumerate(pairwise(cu.tolist())):
        groups = {w: [t for t in range(start, end) if words[t] == w] for w in words[start:end].tolist()}
        chosen = {t for t in range(start, end) if protected[t]}
        room = k[i] - len(chosen)
        value = np.nan_to_num(scores.astype(np.float64), nan=-np.inf)
        means = {w: np.inf if protected[groups[w]].any() else value[groups[w]].mean() for w in groups}
        for w in sorted(groups, key=lambda w: (-means[w], w)):
            cost = sum(not protected[t] for t in groups[w])
            if cost <= room:
                chosen |= set(groups[w])
                room -= cost
        if not chosen:  # the best tokens
            chosen = set(sorted(range(start, end), key=lambda t: (-value[t], t))[: k[i]])
        assert len(chosen) <= max(k[i], protected[start:end].sum())
        kept += chosen
    return sorted(kept)


@given(seed=st.integers(0, 2**32 - 1), budget=BUDGETS)
def test_whole_words_fill_the_budget(seed, budget):
    rng = np.random.default_rng(seed)
    tokens = random_tokens(rng, segments=4)
    scores = rng.choice([0.0, 1.0, 2.0, 5.0, np.nan], size=tokens.num_tokens).astype(np.float32)
    words, protected = tokens.segment_ids(), rng.random(tokens.num_tokens) < 0.05
    words = words + np.cumsum(rng.random(tokens.num_tokens) < 0.4)
    k = as_budget(budget).resolve(scores, tokens.cu_seqlens, [0, 2, 4], protected)
    found = select_words(scores, words, tokens.cu_seqlens, k, protected)
    assert found.kept.tolist() == words_one_by_one(scores, words, tokens.cu_seqlens, k, protected)
    assert (np.diff(found.cu_seqlens) > 0).tolist() == ((tokens.lengths > 0) & (k > 0)).tolist()


def test_one_number_a_segment():
    scores, tokens = np.float32([3, 1, 2, 5, 4, 7]), RaggedTokens.from_lists([[1, 2, 3], [4, 5], [6]])
    found = select_scored(scores, tokens, np.int32([2, 1, 0]))
    assert (found.kept.tolist(), found.cu_seqlens.tolist()) == ([0, 2, 3], [0, 2, 3, 3])
    with pytest.raises(ValueError, match="k has shape"):
        select_scored(scores, tokens, np.int32([2, 1]))


def test_the_scorers_answer_is_checked_and_made_float32():
    tokens = RaggedTokens.from_lists([[1, 2], [3]])

    class Answers:
        def __init__(self, scores):
            self.scores = scores

        def score(self, tokens):
            return self.scores

    assert score_tokens(Answers([1, 2.5, 3]), tokens).dtype == np.float32
    for wrong in ([1, 2], [[1], [2], [3]], 0.0):
        with pytest.raises(
            ValueError, match=r"Answers\.score returned shape .* for 3 tokens; expected one score a token"
        ):
            select(Answers(wrong), tokens, 1)
    with pytest.raises(ValueError, match=r"a Budget or a whole number of tokens; found 2\.5"):
        select(make_scorer("head"), tokens, 2.5)


def test_binding(tokenizer, wordpiece_tokenizer):
    selector = TokenSelector()
    assert selector.tokenizer_fingerprint is None
    bound = bind(selector, tokenizer)
    assert bound.tokenizer_fingerprint == tokenizer_fingerprint(tokenizer)
    for scorer in (bound, CachedScorer(bound)):
        assert bind(scorer, tokenizer) is scorer
        with pytest.raises(ValueError, match=r"is bound to another tokenizer .* selector\.for_tokenizer\(tokenizer\)"):
            bind(scorer, wordpiece_tokenizer)
    head = make_scorer("head")
    assert bind(head, tokenizer) is head

    class Bare:
        def score(self, tokens):
            return tokens.ids.astype(np.float32)

    bare = Bare()
    assert bind(bare, tokenizer) is bare


def test_models_that_read_another_vocabulary_say_what_they_are_bound_to(tokenizer, wordpiece_tokenizer, causal_lm):
    scorer = make_scorer("self_information", model=causal_lm, tokenizer=tokenizer)
    assert scorer.tokenizer_fingerprint is None
    bound = bind(scorer, wordpiece_tokenizer)
    assert bound.tokenizer_fingerprint == tokenizer_fingerprint(wordpiece_tokenizer)
    assert bind(bound, wordpiece_tokenizer) is bound


def test_wrong_types_are_named_with_the_remedy(tokenizer):
    tokens, selector = RaggedTokens.from_lists([[4, 5, 6]]), TokenSelector().for_tokenizer(tokenizer)
    with pytest.raises(TypeError, match=r"expected a scorer.*found str\. make_scorer\(name\)"):
        select("tfidf", tokens, 2)
    with pytest.raises(TypeError, match=r"must be RaggedTokens, found list\. RaggedTokens.from_lists\(ids\) packs"):
        select(selector, [[4, 5]], 2)
    for corpus in (None, "blue gel pen", 5):
        with pytest.raises(TypeError, match="corpus must be a list of texts or RaggedTokens, found"):
            selector.fit(corpus)
    for corpus in (["blue gel pen", None], ["blue gel pen", [4, 5]]):
        with pytest.raises(TypeError, match="corpus must hold texts alone or lists of token ids alone; found"):
            selector.fit(corpus)
    for scorer in (TokenSelector(), make_scorer("tfidf")):
        with pytest.raises(ValueError, match=r"bound.*for_tokenizer"):
            scorer.fit(["blue gel pen"])
    with pytest.raises(TypeError, match="expected lists of token ids, one for each text; found NoneType"):
        RaggedTokens.from_lists(None)
