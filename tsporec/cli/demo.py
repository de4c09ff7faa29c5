"""Run the whole job on a generated catalogue: learn, select, recommend, compare, show."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.digest import digest
from tsporec._internal.seeds import seeded
from tsporec.data.synthetic import CatalogueConfig, generate, planted_recall
from tsporec.evaluation.evaluator import FULL, Evaluator
from tsporec.evaluation.report import compare_texts, make_console, results_table
from tsporec.evaluation.results_file import environment, write_results
from tsporec.evaluation.task import Task, prepare
from tsporec.evaluation.verdict import LEARNED, judge
from tsporec.learning.config import LearningConfig
from tsporec.learning.rewards.coconsumption import CoConsumptionReward
from tsporec.learning.rounds import learn_selector
from tsporec.recommenders.embedding import EmbeddingConfig
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.recommenders.ridge import RidgeRecommender
from tsporec.scorers import Scorer, make_scorer
from tsporec.selection import select
from tsporec.selector.model import TokenSelector
from tsporec.tokens.ragged import RaggedTokens

LEARNING = LearningConfig(
    weightings=("idf",),
    distinct=(),
    network_rounds=2,
    gate=False,
    pairs=6,
    network_training={"num_train_epochs": 6, "learning_rate": 5e-3, "per_device_train_batch_size": 32, "patience": 3,
                      "use_cpu": True},
)  # fmt: skip
"""The demo's selector learns from co-consumption alone, which these texts allow."""
_WIDTH = 64  # principal components that the recommender reads: too few to know each item by its brand and number


class WordVectors(ItemEncoder):
    """Read a text as the mean of fixed vectors of its tokens, as an untrained embedding layer has them."""

    def __init__(self, vocab_size: int, width: int = 256) -> None:
        self.width = width
        self.vectors = np.random.default_rng(0).standard_normal((vocab_size, width), dtype=np.float32)

    @property
    def fingerprint(self) -> str:
        """Digest of the vectors."""
        return digest("word vectors", self.vectors)

    def encode(self, tokens: RaggedTokens) -> NDArray[np.float32]:
        """Encode every segment, none of them empty: float32 ``[N, width]``."""
        means = np.add.reduceat(self.vectors[tokens.ids], tokens.cu_seqlens[:-1]) / tokens.lengths[:, None]
        return means.astype(np.float32)


class RidgeTask(Task):
    """A task whose recommender is fitted in closed form, on a random four fifths of the training users."""

    def fit(  # type: ignore[override]  # what it returns ranks as an EmbeddingRecommender does
        self, vectors: NDArray[np.float32], config: EmbeddingConfig, description: str = "fit"
    ) -> RidgeRecommender:
        """Fit a ridge regression from histories to next items; ``config.seed`` samples the users."""
        users = np.random.default_rng(config.seed).permutation(len(self.train))[: 4 * len(self.train) // 5]
        return RidgeRecommender(width=_WIDTH).fit(vectors, [self.train[user] for user in users])


def run_demo(budget: int = 22, seed: int = 0, output: Path | None = None) -> dict[str, Any]:
    """Print the demo's table and a text, write a results file to ``output``, and return what it holds."""
    start, origin = time.perf_counter(), environment(seed)
    console = make_console()
    catalogue = generate(CatalogueConfig(seed=seed))
    rows = catalogue.items, catalogue.train, catalogue.test
    task = RidgeTask(**vars(prepare(*rows, catalogue.tokenizer, ("description",), seed=seed)))
    with seeded(seed):
        untrained = TokenSelector().for_tokenizer(catalogue.tokenizer).fit(task.tokens)
    reward, config = CoConsumptionReward(task.tokens, task.train), replace(LEARNING, budgets=(budget,), seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        learned, _ = learn_selector(task.tokens, untrained, reward, folder, config)
    short: dict[str, Scorer] = {
        "head": make_scorer("head"),
        "random": make_scorer("random"),
        "tfidf": make_scorer("tfidf").fit(task.tokens),
        LEARNED: learned,
    }
    seeds = [seed, seed + 1, seed + 2]
    evaluator = Evaluator(task, WordVectors(len(catalogue.tokenizer)), seeds=seeds)
    evaluation = evaluator.run({**short, FULL: None}, [budget], rivals=[*short, FULL])
    selections = {name: select(scorer, task.tokens, budget) for name, scorer in short.items()}
    found = {
        name: planted_recall(catalogue.planted, selection.kept, task.tokens.segment_ids(), budget)
        for name, selection in selections.items()
    }
    shares = [f"{found[name]:.0%}" for name in short]
    console.print(results_table(evaluation, "adapted", {"planted": [*shares, "100%"]}))
    verdict = judge(evaluation)
    console.print(str(verdict), style="bold")
    console.print(
        f"{len(catalogue.items)} generated items of {task.tokens.lengths.mean():.0f} tokens, {len(task.test)} users. "
        f"{int(catalogue.planted.sum()) // len(catalogue.items)} planted words a text carry what users like. "
        "No scorer is told which; the column has the share of them that each keeps. 'selector' learned from what users "
        "touched together.\n"
    )
    compare_texts(console, "One of the texts:", task.tokens, selections, catalogue.tokenizer, 0)
    results = {
        "command": "demo",
        "budget": budget,
        "planted_recall": found,
        "verdict": verdict.to_dict(),
        **evaluation.to_dict(),
        "seconds": time.perf_counter() - start,
    }
    if output is not None:
        console.print(f"results written to {write_results(output, results, origin)}")
    return results
