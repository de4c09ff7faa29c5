"""What a pattern matches is kept first, in the scorer's order, whatever else is in the batch."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import TEXTS, make_tokenizer, random_tokens
from tsporec.scorers import make_scorer
from tsporec.scorers.patterns import PATTERNS, Keeping, join_patterns
from tsporec.selection import select
from tsporec.tokens.ragged import RaggedTokens

TOKENIZER = make_tokenizer("bpe")


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("numbers", "12 pack, 3/4 x 1,000 in 2.5", ["12", "3/4", "1,000", "2.5"]),
        ("identifiers", "Pilot G2, HP-74 and MX500 or 210B: 30 self-adhesive", ["G2", "HP-74", "MX500", "210B"]),
        ("identifiers", "fine point pack of 12", []),
    ],
)
def test_the_named_patterns(name, text, found):
    assert re.findall(PATTERNS[name], text) == found


def packed(texts):
    return RaggedTokens.from_lists(TOKENIZER(texts, add_special_tokens=False)["input_ids"])


def test_matches_are_kept_first_and_alike_in_any_batch():
    scorer = Keeping(make_scorer("head"), TOKENIZER, ["numbers", "Italy"])
    tokens = packed(TEXTS)
    kept = select(scorer, tokens, 6).apply(tokens)
    spelled = [TOKENIZER.decode(text) for text in kept]
    assert "12" in spelled[0]
    assert "1000" in spelled[2]
    assert "80" in spelled[5]
    assert "Italy" in spelled[5]
    for i in range(len(tokens)):
        alone = tokens.take([i])
        assert select(scorer, alone, 6).apply(alone).to_lists() == [kept.to_lists()[i]]
    again = pickle.loads(pickle.dumps(scorer))
    assert again.fingerprint == scorer.fingerprint
    np.testing.assert_array_equal(again.score(tokens), scorer.score(tokens))


@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_the_scorer_stands_on_both_sides(seed):
    rng = np.random.default_rng(seed)
    tokens = random_tokens(rng, segments=4, vocab=300, longest=12)

    class Few:
        fingerprint = "few"

        def score(self, tokens):
            return np.array([hash_ % 3 for hash_ in tokens.ids], dtype=np.float32)

    plain, scorer = Few(), Keeping(Few(), TOKENIZER, ["[a-f]"])
    scores, marks, before = scorer.score(tokens), scorer.marks(tokens), plain.score(tokens)
    np.testing.assert_array_equal(scores[~marks], before[~marks])
    for start, end in zip(tokens.cu_seqlens[:-1], tokens.cu_seqlens[1:], strict=True):
        part, marked = scores[start:end], marks[start:end]
        if marked.any():
            assert part[marked].min() > part[~marked].max(initial=-1)
            first = np.argsort(-before[start:end][marked], kind="stable")
            np.testing.assert_array_equal(np.argsort(-part[marked], kind="stable"), first)


def test_bad_patterns_and_scorers_are_named():
    with pytest.raises(ValueError, match=r"keep=… \(--keep\) takes numbers, identifiers or regular expressions"):
        Keeping(make_scorer("head"), TOKENIZER, ["("])
    with pytest.raises(ValueError, match="object has no fingerprint"):
        Keeping(object(), TOKENIZER, ["numbers"])


@pytest.mark.parametrize("patterns", ["numbers", [""], ["numbers", ""]])
def test_what_is_no_list_of_patterns_is_refused(patterns):
    with pytest.raises(ValueError, match="takes a list of patterns, none of them empty"):
        join_patterns(patterns)
