"""A search takes the candidates that both halves of the users prefer."""

from __future__ import annotations

import numpy as np

from benchmarks.search import better, gains, search
from tests.conftest import make_causal_lm
from tests.learning.conftest import small_catalogue
from tsporec.evaluation.evaluator import Evaluator
from tsporec.evaluation.task import prepare
from tsporec.learning.candidates import CandidateConfig, sample_candidates
from tsporec.learning.rewards.base import CandidateEncoder
from tsporec.recommenders.embedding import EmbeddingConfig
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.scorers import make_scorer

SMALL = EmbeddingConfig(width=8, eval_every=2, patience=1)


def test_a_round_of_search():
    made = small_catalogue()
    task = prepare(made.items, made.train, made.test, made.tokenizer, ("description",)).last_items()
    evaluator = Evaluator(task, ItemEncoder(make_causal_lm(len(made.tokenizer))))
    scores = make_scorer("tfidf").fit(task.tokens).score(task.tokens)
    sampled = sample_candidates(scores, task.tokens, CandidateConfig((2,), 6, 0.0, 0.8), seed=0)
    found = gains(task, CandidateEncoder(evaluator.encoder), sampled, 6, SMALL)
    assert found.shape == (2, len(task.tokens), 6)
    assert not found[:, :, 0].any()
    report = search(evaluator, scores, 2, 6, SMALL)
    assert report["moved"] == np.mean(better(found) > 0)
    assert {"adapted", "ridge"} == set(report["start"]) == set(report["control"])
