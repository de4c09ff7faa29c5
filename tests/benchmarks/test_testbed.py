"""Rewards and recommendations rate the same selections, and ranks are compared as Spearman does."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("accelerate")

from benchmarks.testbed import Mixed, align, as_candidates, fits, known_selections, spearman
from tests.conftest import make_causal_lm
from tests.learning.conftest import small_catalogue
from tsporec.evaluation.evaluator import Evaluator
from tsporec.evaluation.task import prepare
from tsporec.learning.config import LearningConfig
from tsporec.recommenders.embedding import EmbeddingConfig
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.scorers import make_scorer
from tsporec.selection import select
from tsporec.tokens.ragged import RaggedTokens

SMALL = EmbeddingConfig(width=8, eval_every=2, patience=1)


def test_a_dozen_selections_are_rated():
    made = small_catalogue()
    task = prepare(made.items, made.train, made.test, made.tokenizer, ("description",)).last_items()
    scorers = known_selections(task, made.tokenizer, [2])
    assert len(scorers) == 14
    evaluator = Evaluator(task, ItemEncoder(make_causal_lm(len(made.tokenizer))), SMALL)
    config = LearningConfig(recommender=SMALL)
    found = align(evaluator, scorers, scorers["head"], 2, ["coconsumption", "identity"], config)
    assert set(found["ndcg@10"]) == set(found["coconsumption"]["mean"]) == set(scorers)
    assert -1 <= found["coconsumption"]["spearman"] <= 1
    assert "not clearly better than popularity" in found["identity"]["refused"]


def test_the_deviation_is_over_fits():
    made = small_catalogue()
    task = prepare(made.items, made.train, made.test, made.tokenizer, ("description",)).last_items()
    evaluator = Evaluator(task, ItemEncoder(make_causal_lm(len(made.tokenizer))), SMALL, seeds=[0, 1, 2])
    found = fits(evaluator, make_scorer("head"), 2)
    assert found["deviation"] == np.std(found["new"], ddof=1) > 0
    assert len(found["new"]) == len(found["cpu"]) == 3


def test_every_selection_of_every_item_is_a_candidate():
    tokens = RaggedTokens.from_lists([[5, 6, 7], [8]])
    both = [select(make_scorer("head"), tokens, k) for k in (1, 2)]
    candidates = as_candidates(both, 2)
    assert candidates.segment.tolist() == [0, 1, 0, 1]
    assert candidates.apply(tokens).to_lists() == [[5], [8], [5, 6], [8]]


def test_mixtures_and_correlations():
    tokens = RaggedTokens.from_lists([[5, 6, 7], [8]])
    head = make_scorer("head")
    assert Mixed(head, head, 0.3).score(tokens).tolist() == pytest.approx([1, 0.5, 0, 0])
    assert spearman([1, 2, 3, 4], [2, 4, 6, 9]) == 1
    assert spearman([1, 2, 3, 4], np.array([9, 6, 4, 2])) == -1
