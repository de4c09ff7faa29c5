"""The case ``embedding`` of the quality suite: a recommender over item vectors is fitted to each selection."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import Any

from benchmarks.cells import Cell, measured
from tsporec._internal.digest import digest
from tsporec.evaluation.evaluator import Evaluator
from tsporec.recommenders.embedding import EmbeddingConfig
from tsporec.scorers import Scorer
from tsporec.selection import pieces_of_words


class Embedding:
    """Encode what a scorer keeps with a language model, and fit :class:`EmbeddingRecommender` to the vectors.

    Parameters
    ----------
    evaluator : Evaluator
        It holds the task, and keeps scores and vectors.
    config : EmbeddingConfig
        Its seed is replaced by each fit's.
    tokenizer, optional
        It shows where words begin, for the granularity "word".
    """

    def __init__(self, evaluator: Evaluator, config: EmbeddingConfig, tokenizer: Any = None) -> None:
        self.evaluator, self.config, self.task, self.tokenizer = evaluator, config, evaluator.task, tokenizer

    def settings(self) -> dict[str, Any]:
        """Return what decides the figures, beside the task and the scorer."""
        recommender = asdict(self.config)
        del recommender["seed"]
        encoder = self.evaluator.encoder
        return {"encoder": encoder.fingerprint, "layers": encoder.model.config.num_hidden_layers,
                "recommender": recommender}  # fmt: skip

    def fit(self, scorer: Scorer | None, cell: Cell, seed: int, granularity: str = "token") -> dict[str, Any]:
        """Fit a recommender and rank the task's rows."""
        whole_words = pieces_of_words(granularity, self.tokenizer)
        found = self.evaluator.features(scorer, cell.budget, whole_words)
        vectors, start = found["vectors"], time.perf_counter()
        recommender = self.task.fit(vectors, replace(self.config, seed=seed))
        fitted = time.perf_counter() - start
        return {
            **measured(self.task, self.task.ranks(recommender, vectors)),
            "tokens": int(found["tokens"]),
            "vectors": digest(vectors),
            "seconds": {"score": float(found["score_seconds"]), "encode": float(found["seconds"]), "fit": fitted},
        }
