"""What a selection does to recommendations and to their cost: scorers by budgets, one table.

Two cases. *Adapted*: the recommender is fitted on each selection, as a user would who trains with it. *Frozen*: one
recommender, warmed up on the subsets that cheap rules keep, meets every selection without being fitted again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tsporec._internal.digest import digest
from tsporec._internal.progress import progress
from tsporec.budget import Budget
from tsporec.evaluation.task import Task
from tsporec.metrics import ndcg, paired_bootstrap, recall, reciprocal_rank
from tsporec.recommenders.embedding import EmbeddingConfig, EmbeddingRecommender, make_recommender
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.scorers import Scorer, make_scorer
from tsporec.selection import select
from tsporec.tokens.ragged import RaggedTokens

FULL = "full"
"""The name of the whole text in a list of scorers."""
OneOrEach = Scorer | list[Scorer] | None
OfBudget = OneOrEach | Mapping[int, OneOrEach]

METRICS: dict[str, Callable[[NDArray[np.int64]], NDArray[np.float64]]] = {
    "recall@10": lambda rank: recall(rank, 10),
    "ndcg@10": lambda rank: ndcg(rank, 10),
    "mrr": reciprocal_rank,
}


@dataclass(frozen=True)
class Cell:
    """One scorer at one budget in one case; means over test rows and seeds.

    Parameters
    ----------
    scorer, budget, case : str, tokens (None: the whole text), "adapted" or "frozen"
    metrics : mean of each metric
    deviation : standard deviation of each metric's mean over the seeds, around their mean (divided by their number)
    tokens : kept by all items together
    score_seconds, encode_seconds : to score and to encode the catalogue
    versus : rival -> metric -> (mean difference, low, high), a 95% interval over users
    """

    scorer: str
    budget: int | None
    case: str
    metrics: dict[str, float]
    deviation: dict[str, float]
    tokens: int
    score_seconds: float
    encode_seconds: float
    versus: dict[str, dict[str, tuple[float, float, float]]]


@dataclass(frozen=True)
class Evaluation:
    """The cells of a table and what they were measured on."""

    cells: list[Cell]
    rows: int
    repeats: float
    seeds: list[int]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a results file."""
        return {
            "test_rows": self.rows,
            "repeat_targets": self.repeats,
            "seeds": self.seeds,
            "cells": [asdict(cell) for cell in self.cells],
        }


class Evaluator:
    """Runs the cells of one task with one encoder, each remembered in ``cache`` as soon as it is done.

    Parameters
    ----------
    task : Task
    encoder : ItemEncoder
    config : EmbeddingConfig
        Of the recommender; its seed is replaced by each of ``seeds``.
    seeds : ints
    cache : folder, optional
        Finished work is kept here and found again by what it was made from.
    warm_up : scorers, optional
        The frozen recommender is warmed up on what these keep; by default :func:`warm_up_rules`.
    """

    def __init__(
        self,
        task: Task,
        encoder: ItemEncoder,
        config: EmbeddingConfig | None = None,
        seeds: Sequence[int] = (0,),
        cache: str | Path | None = None,
        warm_up: Sequence[Scorer] | None = None,
    ) -> None:
        self.task, self.encoder, self.seeds = task, encoder, list(seeds)
        self.warm_up = warm_up_rules(task.tokens) if warm_up is None else list(warm_up)
        self.config = asdict(config or EmbeddingConfig())
        self.cache = None if cache is None else Path(cache)
        self._task_digest = digest(task.tokens.ids, task.tokens.cu_seqlens, task.train, task.held_out, task.test)
        self._memory: dict[str, dict[str, NDArray[Any]]] = {}
        self._unnamed: list[tuple[Scorer, dict[str, NDArray[Any]]]] = []
        if not self.seeds:
            raise ValueError("seeds is empty; give at least one seed.")

    def run(
        self,
        scorers: Mapping[str, OfBudget],
        budgets: Sequence[int],
        cases: Sequence[str] = ("adapted",),
        rivals: Sequence[str] = ("head", FULL),
    ) -> Evaluation:
        """Every scorer at every budget in every case.

        None is the whole text, a list one for each seed; a mapping gives either for each budget.

        Those of ``rivals`` that are among ``scorers`` are what the others are compared with, at the same budget.
        """
        for case in cases:
            if case not in ("adapted", "frozen"):
                raise ValueError(f"a case is 'adapted' or 'frozen', found {case!r}.")
        plan: list[tuple[str, OneOrEach, int | None, str]] = []
        for case in cases:
            plan += [
                (name, _at(scorer, b), b, case)
                for name, scorer in scorers.items()
                if scorer is not None
                for b in budgets
            ]
            plan += [(name, None, None, case) for name, scorer in scorers.items() if scorer is None]
        found: dict[tuple[str, int | None, str], dict[str, NDArray[Any]]] = {}
        for name, scorer, budget, case in progress(plan, description="evaluate"):
            found[name, budget, case] = self._cell(scorer, budget, case, budgets)
        cells = [self._summary(key, result, found, rivals) for key, result in found.items()]
        return Evaluation(cells, len(self.task.test), self.task.repeats, self.seeds)

    def features(self, scorer: Scorer | None, budget: int | None) -> dict[str, NDArray[Any]]:
        """``vectors`` float32 ``[N, W]`` of what the scorer keeps, ``tokens`` and the ``seconds`` it took."""
        tokens = self.task.tokens
        score_seconds = 0.0
        if scorer is not None and budget is not None:
            scored = self.scores(scorer)
            score_seconds = float(scored["seconds"])
            tokens = select(_Known(scored["scores"]), tokens, Budget(tokens=budget)).apply(tokens)

        return {
            **self.encode(tokens),
            "tokens": np.int64(tokens.num_tokens),  # type: ignore[dict-item]
            "score_seconds": np.float64(score_seconds),  # type: ignore[dict-item]
        }

    def encode(self, tokens: RaggedTokens) -> dict[str, NDArray[Any]]:
        """``vectors`` float32 ``[N, W]`` of texts and the ``seconds`` they took."""

        def encode() -> dict[str, NDArray[Any]]:
            start = time.perf_counter()
            vectors = self.encoder.encode(tokens)
            return {"vectors": vectors, "seconds": np.float64(time.perf_counter() - start)}  # type: ignore[dict-item]

        return self._remember(digest("encode", tokens.ids, tokens.cu_seqlens, self.encoder.fingerprint), encode)

    def scores(self, scorer: Scorer) -> dict[str, NDArray[Any]]:
        """``scores`` float32 ``[T]`` of all texts and the ``seconds`` they took.

        A scorer without a ``fingerprint`` is remembered by this evaluator only: nothing would tell its scores from
        another's in ``cache``.
        """

        def score() -> dict[str, NDArray[Any]]:
            start = time.perf_counter()
            values = scorer.score(self.task.tokens)
            return {"scores": values, "seconds": np.float64(time.perf_counter() - start)}  # type: ignore[dict-item]

        name = getattr(scorer, "fingerprint", None)
        if name is not None:
            return self._remember(digest("score", self._task_digest, name), score)
        for known, scored in self._unnamed:
            if known is scorer:
                return scored
        self._unnamed.append((scorer, score()))
        return self._unnamed[-1][1]

    def warmed(self, budgets: Sequence[int], seed: int) -> EmbeddingRecommender:
        """The recommender of the frozen case: fitted on :meth:`warm_up_views`."""
        recommender = self._recommender(seed)
        state = self._remember(
            digest(
                "warm", self._task_digest, self.config, seed, self._warm_up_names(budgets), self.encoder.fingerprint
            ),
            lambda: {
                key: value.numpy().copy()  # whoever is given the recommender may go on training it
                for key, value in recommender.fit(self.warm_up_views(budgets), self.task.train, self.task.held_out)
                .state_dict()
                .items()
            },
        )
        recommender.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in state.items()})
        return recommender.eval()

    def _recommender(self, seed: int) -> EmbeddingRecommender:
        return make_recommender(self.encoder.width, EmbeddingConfig(**{**self.config, "seed": seed}))

    def _cell(
        self, scorer: OneOrEach, budget: int | None, case: str, budgets: Sequence[int]
    ) -> dict[str, NDArray[Any]]:
        each = scorer if isinstance(scorer, list) else [scorer] * len(self.seeds)
        if len(each) != len(self.seeds):
            raise ValueError(f"expected a scorer for each of {len(self.seeds)} seeds in a list; found {len(each)}.")
        features = [self.features(one, budget) for one in each]
        ranked = [self._ranks(f["vectors"], case, seed, budgets) for f, seed in zip(features, self.seeds, strict=True)]
        return {**features[0], "ranks": np.stack(ranked)}

    def _ranks(self, vectors: NDArray[np.float32], case: str, seed: int, budgets: Sequence[int]) -> NDArray[np.int64]:
        parts = [self._task_digest, case, self.config, [seed], vectors]
        if case == "frozen":
            parts.append(self._warm_up_names(budgets))

        def rank() -> dict[str, NDArray[Any]]:
            if case == "frozen":
                recommender = self.warmed(budgets, seed)
            else:
                recommender = self._recommender(seed).fit(vectors, self.task.train, self.task.held_out)
            return {"ranks": self.task.ranks(recommender, vectors)[None]}

        found: NDArray[np.int64] = self._remember(digest("cell, ties drawn", *parts), rank)["ranks"][0]
        return found

    def warm_up_views(self, budgets: Sequence[int]) -> NDArray[np.float32]:
        """float32 ``[V, N, W]``: the catalogue as the scorers of ``warm_up`` keep it at each budget."""
        return np.stack([self.features(rule, budget)["vectors"] for budget in budgets for rule in self.warm_up])

    def _warm_up_names(self, budgets: Sequence[int]) -> list[Any]:
        return [list(budgets), *(getattr(rule, "fingerprint", repr(rule)) for rule in self.warm_up)]

    def _summary(
        self,
        key: tuple[str, int | None, str],
        result: dict[str, NDArray[Any]],
        found: Mapping[tuple[str, int | None, str], dict[str, NDArray[Any]]],
        rivals: Sequence[str],
    ) -> Cell:
        name, budget, case = key
        per_seed = {metric: of(result["ranks"]) for metric, of in METRICS.items()}
        versus = {}
        for rival in rivals:
            other = found.get((rival, budget, case), found.get((rival, None, case)))
            if other is not None and rival != name:
                versus[rival] = {
                    metric: paired_bootstrap(
                        values.mean(axis=0), METRICS[metric](other["ranks"]).mean(axis=0), self.task.users
                    )
                    for metric, values in per_seed.items()
                }
        return Cell(
            name,
            budget,
            case,
            {metric: float(values.mean()) for metric, values in per_seed.items()},
            {metric: float(values.mean(axis=1).std()) for metric, values in per_seed.items()},
            int(result["tokens"]),
            float(result["score_seconds"]),
            float(result["seconds"]),
            versus,
        )

    def _remember(self, key: str, compute: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """The arrays that ``compute`` gives, from memory or from the cache where they were made before."""
        if key in self._memory:
            return self._memory[key]
        path = None if self.cache is None else self.cache / f"{key}.npz"
        if path is not None and path.exists():
            with np.load(path, allow_pickle=False) as stored:
                arrays = dict(stored)
        else:
            arrays = compute()
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                part = path.with_suffix(f".{os.getpid()}.part")  # another run may be making the same
                with part.open("wb") as stream:
                    np.savez(stream, **arrays)  # type: ignore[arg-type]
                part.replace(path)
        self._memory[key] = arrays
        return arrays


def warm_up_rules(tokens: RaggedTokens, draws: int = 8) -> list[Scorer]:
    """The cheap rules whose subsets a recommender is warmed up on: head, some random draws, tf-idf.

    With few draws it knows the few vectors of each item by heart, and reads no other subset.
    """
    drawn: list[Scorer] = [make_scorer("random", seed=seed) for seed in range(1, draws + 1)]
    return [make_scorer("head"), *drawn, make_scorer("tfidf").fit(tokens)]


def _at(scorer: OfBudget, budget: int) -> OneOrEach:
    if not isinstance(scorer, Mapping):
        return scorer
    if budget not in scorer:
        raise ValueError(f"a scorer is given for budgets {sorted(scorer)} and none for {budget}.")
    return scorer[budget]


class _Known:
    """Scores computed before, as a scorer."""

    def __init__(self, scores: NDArray[np.float32]) -> None:
        self._scores = scores

    def score(self, tokens: RaggedTokens) -> NDArray[np.float32]:
        """The scores given."""
        return self._scores
