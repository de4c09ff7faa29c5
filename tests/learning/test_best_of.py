"""Rankings chosen by a reward: what is kept is what the chosen scorer keeps."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsporec.budget import Budget
from tsporec.data.synthetic import word_tokenizer
from tsporec.learning.best_of import best_of, choose, ranking_rewards
from tsporec.scorers import make_scorer
from tsporec.selection import select
from tsporec.selector.model import SelectorConfig, TokenSelector
from tsporec.tokens.ragged import RaggedTokens

SMALL = SelectorConfig(dim=8, hidden=8, gram_buckets=64, surface_buckets=64)
WORDS = ["".join(letters) for letters in product("bcd", "aeio", "lmn")]  # of equal length: no text reads as another


@st.composite
def corpora(draw):
    """Texts that share no word, so that each is found again; one of them may stand twice."""
    ids = draw(st.permutations(range(5, 40)))
    ends = np.cumsum(draw(st.lists(st.integers(0, 8), min_size=1, max_size=4)))
    texts = [part.tolist() for part in np.split(np.array(ids), ends)[:-1]]
    return RaggedTokens.from_lists(texts + texts[: draw(st.integers(0, 1))])


RULES = [make_scorer("head"), make_scorer("random", seed=1), make_scorer("random", seed=2)]


@pytest.fixture(scope="module")
def selector():
    return TokenSelector(SMALL).for_tokenizer(word_tokenizer(WORDS))


class Count:
    """How many tokens of a set were kept."""

    fingerprint = "count"

    def __init__(self, liked):
        self.liked = liked

    def __call__(self, tokens, candidates):
        kept = np.isin(tokens.ids[candidates.kept], self.liked)
        owner = np.repeat(np.arange(len(candidates)), np.diff(candidates.cu_seqlens))
        return np.bincount(owner, kept, minlength=len(candidates)).astype(np.float32)


def kept_of(scorer, tokens, k):
    return select(scorer, tokens, Budget(tokens=k)).apply(tokens).to_lists()


@given(corpora(), st.integers(1, 5), st.lists(st.integers(5, 39)), st.integers(0, 100))
def test_each_text_keeps_what_its_best_scorer_keeps(selector, tokens, k, liked, seed):
    rewards = ranking_rewards(tokens, RULES, Count(liked), [k])
    found = kept_of(best_of(tokens, selector, RULES, rewards), tokens, k)
    each = [kept_of(rule, tokens, k) for rule in RULES]
    lists = tokens.to_lists()
    for i, text in enumerate(lists):
        same = [j for j, other in enumerate(lists) if other == text]
        assert found[i] == each[int(rewards[same].mean(axis=0).argmax())][same[0]] or len(same) > 1
        if len(same) == 1:
            assert sum(t in liked for t in found[i]) == max(sum(t in liked for t in kept[i]) for kept in each)


@given(corpora(), st.integers(1, 5))
def test_the_first_scorer_stands_within_the_margin(selector, tokens, k):
    rewards = np.random.default_rng(0).random((len(tokens), 3), dtype=np.float32)
    assert kept_of(best_of(tokens, selector, RULES, rewards, margin=1.0), tokens, k) == kept_of(RULES[0], tokens, k)


def test_equal_texts_take_their_mean(selector):
    tokens = RaggedTokens.from_lists([[5, 6, 7], [5, 6, 7], [8, 9, 5]])
    rules = [make_scorer("head"), Last()]
    rewards = np.array([[0.0, 1.0], [0.0, -3.0], [0.0, 1.0]], dtype=np.float32)
    assert kept_of(best_of(tokens, selector, rules, rewards), tokens, 1) == [[5], [5], [5]]
    assert kept_of(best_of(tokens, selector, rules, -rewards), tokens, 1) == [[7], [7], [8]]


class Last:
    def score(self, tokens):
        return tokens.offsets().astype(np.float32)


def test_bad_input_is_refused(selector):
    tokens = RaggedTokens.from_lists([[5, 6], [7]])
    with pytest.raises(ValueError, match=r"expected rewards \[2, 3\]"):
        best_of(tokens, selector, RULES, np.zeros((2, 2), dtype=np.float32))
    with pytest.raises(ValueError, match="margin of at least 0"):
        best_of(tokens, selector, RULES, np.zeros((2, 3), dtype=np.float32), margin=-1.0)
    with pytest.raises(ValueError, match="not finite"):
        ranking_rewards(tokens, RULES, lambda tokens, subsets: np.full(len(subsets), np.nan), [1])
    for rewards, margin in ((np.zeros((1, 2)), 0.0), (np.zeros((2, 0)), 0.0), (np.zeros((2, 2)), float("nan"))):
        with pytest.raises(ValueError, match="a margin of at least 0"):
            choose(tokens, rewards.astype(np.float32), margin)
    with pytest.raises(ValueError, match="NaN or infinite"):
        choose(tokens, np.array([[0, np.nan], [0, 1]], dtype=np.float32), 5.0)
    with pytest.raises(ValueError, match="budgets is empty"):
        ranking_rewards(tokens, RULES, Count([5]), [])
