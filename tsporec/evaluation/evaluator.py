"""Measure recommendations and their cost for scorers at budgets.

There are two cases. *Adapted*: the recommender is fitted on each selection, as by a user who trains with it. *Frozen*:
one recommender, warmed up on the subsets that cheap rules keep, reads every selection and is not fitted again.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tsporec._internal.digest import digest
from tsporec._internal.files import writing
from tsporec._internal.progress import progress
from tsporec._internal.types import expect
from tsporec.budget import Budget
from tsporec.evaluation.measures import (
    POPULARITY,
    Cell,
    Evaluation,
    Size,
    budget_of,
    compare,
    counted,
    repeats_ndcg,
    resolutions,
    size_label,
    size_of,
)
from tsporec.evaluation.task import Task, warm_up_rules
from tsporec.recommenders.embedding import EmbeddingConfig, EmbeddingRecommender, make_recommender
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.scorers import Scorer
from tsporec.selection import score_tokens, select_scored
from tsporec.selector.distinct_items import distinct_share
from tsporec.tokens.pieces import Pieces
from tsporec.tokens.ragged import RaggedTokens, segment_digests

FULL = "full"
"""The name of the whole text in a list of scorers."""
CASES = ("adapted", "frozen")
_MEMORY = 2**30  # bytes of scores and vectors that are kept in memory, the latest used
_log = logging.getLogger("tsporec")
OneOrEach = Scorer | list[Scorer] | None
OfBudget = OneOrEach | Mapping[Size, OneOrEach]
Arrays = dict[str, NDArray[Any]]


class Evaluator:
    """Run scorers on one task with one encoder.

    Parameters
    ----------
    task, encoder
        The texts with the users' rows, and the model that reads the texts.
    config : EmbeddingConfig, optional
        Shape and training of the recommender. Its seed is replaced by each of ``seeds``.
    seeds : sequence of int
        One recommender is fitted for each. Default: ``(0,)``.
    cache : folder, optional
        Finished work is written here and found again by the digest of its arguments. Default: it is kept in memory.

    Examples
    --------
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> from tsporec.data.synthetic import CatalogueConfig, generate
    >>> from tsporec.evaluation.task import prepare
    >>> from tsporec.scorers import make_scorer
    >>> made = generate(CatalogueConfig(items=30, users=30, tastes=3, words_per_taste=2, mentions=4))
    >>> task = prepare(made.items, made.train, made.test, made.tokenizer, ("description",))
    >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=len(made.tokenizer), n_embd=8, n_layer=1, n_head=2))
    >>> evaluator = Evaluator(task, ItemEncoder(model), EmbeddingConfig(eval_every=5))
    >>> [cell.tokens for cell in evaluator.run({"head": make_scorer("head"), FULL: None}, budgets=[2]).cells]
    [60, 1549]
    """

    def __init__(
        self,
        task: Task,
        encoder: ItemEncoder,
        config: EmbeddingConfig | None = None,
        seeds: Sequence[int] = (0,),
        cache: str | Path | None = None,
    ) -> None:
        if not isinstance(task, Task):
            raise TypeError(f"task must be a Task, found {type(task).__name__}; evaluation.task.prepare makes one.")
        if not hasattr(encoder, "width"):
            raise TypeError(f"encoder must be an ItemEncoder(model), found {type(encoder).__name__}.")
        expect("config", config, EmbeddingConfig | None, "an EmbeddingConfig")
        expect("seeds", seeds, list[int], "a list of whole numbers, such as [0, 1, 2]")
        self.task, self.encoder, self.seeds = task, encoder, list(seeds)
        self.warm_up = warm_up_rules(task.tokens)
        self.config = config or EmbeddingConfig()
        self.cache = None if cache is None else Path(cache)
        self._memory: OrderedDict[str, Arrays] = OrderedDict()
        if not self.seeds:
            raise ValueError("seeds is empty; give at least one seed.")

    def run(
        self,
        scorers: Mapping[str, OfBudget],
        budgets: Sequence[Budget | int],
        cases: Sequence[str] = ("adapted",),
        rivals: Sequence[str] = ("head", FULL),
    ) -> Evaluation:
        """Measure every scorer at every budget in every case.

        Metrics are of new targets; see :mod:`tsporec.evaluation.measures`. A recommender that is not clearly better
        than popularity is a warning.

        Parameters
        ----------
        scorers : dict of str to Scorer
            None is the whole text, a list is one scorer for each seed, and a mapping gives either for each budget.
        budgets : sequence of int or Budget
            Tokens of each item, or shares of its tokens (``Budget(keep_ratio=0.25)``; 0.25 in tables and mappings).
        cases : sequence of str
            "adapted", "frozen" or both. Default: adapted.
        rivals : sequence of str
            Names of scorers that the others are compared with at the same budget. Names that are not among ``scorers``
            are ignored. Default: "head" and "full". All are compared with popularity besides.
        """
        if not self.task.new.any():
            raise ValueError("no test row has a new target, one that does not stand in its history; expected some.")
        if not isinstance(scorers, Mapping):
            raise TypeError(f"scorers must be a dict of name to scorer, found {type(scorers).__name__}.")
        expect("budgets", budgets, list[Any], "a list, such as [8, 16]")
        expect("cases", cases, list[str], "a list of names, such as ['adapted']")
        expect("rivals", rivals, list[str], "a list of names, such as ['head']")
        sizes = [size_of(budget) for budget in budgets]
        if len({type(size) for size in sizes}) > 1:
            raise ValueError(f"budgets must be all numbers of tokens or all shares; found {sizes}.")
        for case in cases:
            if case not in CASES:
                raise ValueError(f"a case must be one of {', '.join(CASES)}; found {case!r}.")
        plan: list[tuple[str, OneOrEach, Size | None]] = []
        for name, scorer in scorers.items():
            plan += [(name, None, None)] if scorer is None else [(name, _at(scorer, b), b) for b in sizes]
        made = counted(len(plan) * len(cases), "selection"), counted(len(self.seeds), "seed")
        _log.info("evaluate: %s, each by %s", *made)
        done: dict[tuple[str, Size | None, str], Arrays] = {}
        scored: dict[int, Arrays] = {}
        for name, one, budget in progress(plan, "evaluate"):
            each = one if isinstance(one, list) else [one] * len(self.seeds)
            if len(each) != len(self.seeds):
                raise ValueError(f"expected a scorer for each of {len(self.seeds)} seeds in a list; found {len(each)}.")
            features = [self._features(scorer, budget, scored) for scorer in each]
            costs = {key: value for key, value in features[0].items() if key != "vectors"}
            for case in cases:
                both = zip(features, self.seeds, strict=True)
                ranked = [self._ranks(found["vectors"], case, seed, sizes) for found, seed in both]
                done[name, budget, case] = {**costs, "ranks": np.stack(ranked)}
        order = [(name, budget, case) for case in cases for name, _, budget in plan]
        popular = self.task.popularity_ranks()[None]
        cells = [self._summary(key, done, rivals, popular) for key in order]
        popularity = {metric: float(values.mean()) for metric, values in compare(self.task, popular, {})[0].items()}
        _warn_if_not_better(cells, popularity["ndcg@10"])
        shared = [name for name, one, _ in plan if not isinstance(one, list)]
        return Evaluation(
            cells, len(self.task.test), self.task.repeats, self.seeds, popularity,
            resolutions(cells, len(self.seeds), shared),
        )  # fmt: skip

    def features(self, scorer: Scorer | None, budget: Budget | int | None, whole_words: Pieces | None = None) -> Arrays:
        """Encode what the scorer keeps: ``vectors`` float32 ``[N, W]``, number of ``tokens``, and the seconds."""
        return self._features(scorer, None if budget is None else size_of(budget), {}, whole_words)

    def _features(
        self, scorer: Scorer | None, size: Size | None, scored: dict[int, Arrays], whole_words: Pieces | None = None
    ) -> Arrays:
        """Encode what the scorer keeps; ``scored`` holds the scores of this run's scorers by their ``id``."""
        tokens, score_seconds = self.task.tokens, np.array(0.0)
        if scorer is not None and size is not None:
            if id(scorer) not in scored:
                scored[id(scorer)] = self.scores(scorer)
            score_seconds = scored[id(scorer)]["seconds"]
            scores = scored[id(scorer)]["scores"]
            tokens = select_scored(scores, tokens, budget_of(size), whole_words=whole_words).apply(tokens)
        distinct = distinct_share(tokens, segment_digests(self.task.tokens))
        return {
            **self.encode(tokens), "tokens": np.array(tokens.num_tokens), "score_seconds": score_seconds,
            "distinct": np.array(distinct),
        }  # fmt: skip

    def encode(self, tokens: RaggedTokens) -> Arrays:
        """Encode texts: ``vectors`` float32 ``[N, W]`` and the ``seconds`` that it took."""
        key = digest("encode", tokens.ids, tokens.cu_seqlens, self.encoder.fingerprint)
        return self._remember(key, lambda: _timed("vectors", lambda: self.encoder.encode(tokens)))

    def scores(self, scorer: Scorer) -> Arrays:
        """Score all texts: ``scores`` float32 ``[T]`` and the ``seconds`` that it took.

        Scores of a scorer without a ``fingerprint`` are not kept: they could be taken for another scorer's.
        """

        def score() -> Arrays:
            return _timed("scores", lambda: score_tokens(scorer, self.task.tokens))

        name = getattr(scorer, "fingerprint", None)
        tokens = self.task.tokens
        return score() if name is None else self._remember(digest("score", tokens.ids, tokens.cu_seqlens, name), score)

    def warmed(self, budgets: Sequence[Size], seed: int) -> EmbeddingRecommender:
        """Return the recommender of the frozen case, fitted on :meth:`warm_up_views`."""
        config = replace(self.config, seed=seed)
        key = digest(
            "warm", self.task.fingerprint, asdict(config), self._warm_up_names(budgets), self.encoder.fingerprint
        )

        def fit() -> Arrays:
            weights = self.task.fit(self.warm_up_views(budgets), config, "warm up").state_dict()
            return {name: value.numpy().copy() for name, value in weights.items()}

        recommender = make_recommender(self.encoder.width, config)
        # Copies: whoever is given the recommender may train it.
        weights = {name: torch.from_numpy(np.array(value)) for name, value in self._remember(key, fit).items()}
        recommender.load_state_dict(weights)
        return recommender.eval()

    def warm_up_views(self, budgets: Sequence[Size]) -> NDArray[np.float32]:
        """Encode the catalogue as :func:`warm_up_rules` keep it at each budget: float32 ``[V, N, W]``."""
        return np.stack([self._features(rule, budget, {})["vectors"] for budget in budgets for rule in self.warm_up])

    def _ranks(self, vectors: NDArray[np.float32], case: str, seed: int, budgets: Sequence[Size]) -> NDArray[np.int64]:
        config = replace(self.config, seed=seed)
        parts = [self.task.fingerprint, case, asdict(config), vectors]
        if case == "frozen":
            parts.append(self._warm_up_names(budgets))

        def rank() -> Arrays:
            recommender = self.warmed(budgets, seed) if case == "frozen" else self.task.fit(vectors, config)
            return {"ranks": self.task.ranks(recommender, vectors)}

        return self._remember(digest("ranks", *parts), rank)["ranks"]

    def _warm_up_names(self, budgets: Sequence[Size]) -> list[Any]:
        return [list(budgets), *(rule.fingerprint for rule in self.warm_up)]  # type: ignore[attr-defined]

    def _summary(
        self,
        key: tuple[str, Size | None, str],
        done: Mapping[tuple[str, Size | None, str], Arrays],
        rivals: Sequence[str],
        popular: NDArray[np.int64],
    ) -> Cell:
        name, budget, case = key
        result = done[key]
        others = {rival: done.get((rival, budget, case), done.get((rival, None, case))) for rival in rivals}
        theirs = {rival: o["ranks"] for rival, o in others.items() if o is not None and rival != name}
        per_seed, versus = compare(self.task, result["ranks"], {**theirs, POPULARITY: popular})
        return Cell(
            name,
            budget,
            case,
            {metric: float(values.mean()) for metric, values in per_seed.items()},
            repeats_ndcg(self.task, result["ranks"]),
            {metric: float(values.mean(axis=1).std()) for metric, values in per_seed.items()},
            int(result["tokens"]),
            float(result["score_seconds"]),
            float(result["seconds"]),
            versus,
            float(result["distinct"]),
        )

    def _remember(self, key: str, compute: Callable[[], Arrays]) -> Arrays:
        """Return the arrays of ``key`` from memory or from the cache, or compute and keep them."""
        if key not in self._memory:
            path = None if self.cache is None else self.cache / f"{key}.npz"
            if path is None or not path.exists():
                self._memory[key] = compute()
                if path is not None:
                    with writing(path) as part, part.open("wb") as stream:
                        np.savez(stream, **self._memory[key])  # type: ignore[arg-type]
            else:
                with np.load(path, allow_pickle=False) as stored:
                    self._memory[key] = dict(stored)
        self._memory.move_to_end(key)
        found = self._memory[key]
        while sum(array.nbytes for arrays in self._memory.values() for array in arrays.values()) > _MEMORY:
            self._memory.popitem(last=False)
        return found


def _warn_if_not_better(cells: Sequence[Cell], popularity: float) -> None:
    """Warn of cells whose NDCG@10 is not above popularity's by more than the interval of the difference."""
    weak = [f"{c.scorer} {size_label(c.budget)} {c.case}" for c in cells if c.versus[POPULARITY]["ndcg@10"][1] <= 0]
    if weak:
        warnings.warn(
            f"{len(weak)} of {len(cells)} cells are not clearly better than popularity (NDCG@10 {popularity:.4f}): "
            f"{', '.join(weak)}. Their recommender has learned little from these texts, so compare nothing by it.",
            stacklevel=3,
        )


def _timed(name: str, compute: Callable[[], NDArray[Any]]) -> Arrays:
    """Return what ``compute`` returns under ``name``, and the ``seconds`` that it took."""
    start = time.perf_counter()
    found = compute()
    return {name: found, "seconds": np.array(time.perf_counter() - start)}


def _at(scorer: OfBudget, budget: Size) -> OneOrEach:
    if not isinstance(scorer, Mapping):
        return scorer
    if budget not in scorer:
        raise ValueError(f"a scorer is given for budgets {sorted(scorer)}, but none for {budget}.")
    return scorer[budget]
