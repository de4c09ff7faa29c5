"""Run the whole job on a generated catalogue: learn, select, recommend, compare, show."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tsporec._internal.progress import progress
from tsporec._internal.seeds import seeded
from tsporec.data.synthetic import CatalogueConfig, PlantedCatalogue, generate, planted_recall
from tsporec.evaluation.evaluator import FULL, Evaluator
from tsporec.evaluation.report import highlighted, make_console, results_table
from tsporec.evaluation.results_file import environment, write_results
from tsporec.evaluation.task import Task, prepare
from tsporec.evaluation.verdict import PLANTED, judge
from tsporec.learning.config import LearningConfig
from tsporec.learning.rewards.coconsumption import CoConsumptionReward
from tsporec.learning.rounds import learn_selector
from tsporec.recommenders.embedding import EmbeddingConfig
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.scorers import BaseScorer, Scorer, Scores, make_scorer
from tsporec.selection import select
from tsporec.selector.model import TokenSelector
from tsporec.tokens.ragged import RaggedTokens

# The texts are short, so the softmax is wider and patience longer than on real ones.
_RECOMMENDER = EmbeddingConfig(width=64, dropout=0.1, temperature=0.2, learning_rate=3e-3)
LEARNING = LearningConfig(
    budgets=(4,),
    weightings=("idf",),
    distinct=(),
    network_rounds=3,
    gate=False,
    pairs=6,
    network_training={"num_train_epochs": 8, "learning_rate": 5e-3, "per_device_train_batch_size": 32, "patience": 3,
                      "use_cpu": True},
)  # fmt: skip
"""The demo's selector learns from co-consumption alone, which these texts allow."""


class PlantedScorer(BaseScorer):
    """Score 1 for a planted token and 0 for any other. It can only score all texts of ``catalogue``, in order."""

    name = PLANTED

    def __init__(self, catalogue: PlantedCatalogue) -> None:
        self.planted = catalogue.planted

    def config(self) -> dict[str, Any]:
        """Return the planted tokens."""
        return {"planted": self.planted}

    def score(self, tokens: RaggedTokens) -> Scores:
        """Return float32 ``[T]`` for the whole catalogue."""
        return self.planted.astype(np.float32)


def run_demo(budget: int = 4, seed: int = 0, output: Path | None = None) -> dict[str, Any]:
    """Print the demo's table and texts, write a results file to ``output``, and return what it holds."""
    start, origin = time.perf_counter(), environment(seed)
    console = make_console()
    catalogue = generate(CatalogueConfig(seed=seed))
    task = prepare(catalogue.items, catalogue.train, catalogue.test, catalogue.tokenizer, ("description",), seed=seed)
    lm = train_tiny_lm(task.tokens, len(catalogue.tokenizer), seed)
    with tempfile.TemporaryDirectory() as folder:
        learned = learn_demo_selector(task, catalogue, budget, seed, Path(folder))
    scorers = demo_scorers(task, catalogue, lm, learned)
    evaluator = Evaluator(task, ItemEncoder(lm), _RECOMMENDER, seeds=[seed])
    evaluation = evaluator.run(scorers, [budget], rivals=list(scorers))
    found = {name: _recall(scorer, task, catalogue, budget) for name, scorer in scorers.items()}
    cells = [cell for cell in evaluation.cells if cell.budget] + [cell for cell in evaluation.cells if not cell.budget]
    shares = [f"{100 * found[cell.scorer]:.0f}%" for cell in cells]
    console.print(results_table(evaluation, "adapted", {"planted": shares}))
    verdict = judge(evaluation)
    console.print(str(verdict), style="bold")
    console.print(
        f"{len(catalogue.items)} generated items of {task.tokens.lengths[0]} words, {len(task.test)} users; "
        f"{int(catalogue.planted.sum()) // len(catalogue.items)} planted words a text carry what users like."
    )
    console.print(
        "'selector' learned from what users touched together which words to keep; 'planted' is the truth, which no "
        "scorer is told.\n"
    )
    for name in ("tfidf", "selector", PLANTED):
        selection = select(scorers[name], task.tokens, budget)  # type: ignore[arg-type]  # not the whole text
        console.print(f"[bold]{name}[/bold]:", highlighted(task.tokens, selection, catalogue.tokenizer, 0), "")
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


def demo_scorers(task: Task, catalogue: PlantedCatalogue, lm: Any, learned: Scorer) -> dict[str, Scorer | None]:
    """Return every scorer that needs no downloaded checkpoint."""
    return {
        "head": make_scorer("head"),
        "random": make_scorer("random"),
        "tfidf": make_scorer("tfidf").fit(task.tokens),
        "self_information": make_scorer("self_information", model=lm),
        "attention": make_scorer("attention", model=lm),
        "centroid": make_scorer("centroid", model=lm),
        "selector": learned,
        PLANTED: PlantedScorer(catalogue),
        FULL: None,
    }


def learn_demo_selector(task: Task, catalogue: PlantedCatalogue, budget: int, seed: int, folder: Path) -> Scorer:
    """Learn a selector from the training users' sequences, in some 20 seconds."""
    with seeded(seed):
        start = TokenSelector().for_tokenizer(catalogue.tokenizer).fit(task.tokens)
    config = replace(LEARNING, budgets=(budget,), seed=seed)
    return learn_selector(task.tokens, start, CoConsumptionReward(task.tokens, task.train), folder, config)[0]


def train_tiny_lm(tokens: RaggedTokens, vocab_size: int, seed: int, epochs: int = 4) -> Any:
    """Train a two-layer Llama of width 64 on the catalogue's texts, for a few seconds."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab_size, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=256, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    ids = torch.from_numpy(tokens.to_padded()[0].astype(np.int64))
    ids = torch.cat([torch.full_like(ids[:, :1], config.bos_token_id), ids], dim=1)
    with seeded(seed):
        model = LlamaForCausalLM(config).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for _ in progress(range(epochs), "language model"):
            for batch in torch.split(torch.randperm(len(ids)), 32):
                loss = model(input_ids=ids[batch], labels=ids[batch]).loss
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
    return model.eval()


def _recall(scorer: Scorer | None, task: Task, catalogue: PlantedCatalogue, budget: int) -> float:
    if scorer is None:
        return 1.0
    kept = select(scorer, task.tokens, budget).kept
    return planted_recall(catalogue.planted, kept, task.tokens.segment_ids(), budget)
