"""Measure preference learning: on planted words, where the truth is known, and on real items.

python -m benchmarks.learning planted --seeds 0,1,2 --output benchmarks/results/planted.json
python -m benchmarks.learning real --data DIR --model DIR --category Office_Products --budget 2 --output FILE
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tsporec.budget import Budget
from tsporec.demo import LEARNING
from tsporec.evaluation import METRICS, Evaluator, prepare
from tsporec.metrics import paired_bootstrap
from tsporec.pipeline import LearningConfig, learn_selector
from tsporec.preference.rewards.coconsumption import CoConsumptionReward
from tsporec.results import environment, write_results
from tsporec.scorers import make_scorer
from tsporec.selection import select
from tsporec.selector import TokenSelector
from tsporec.synthetic import CatalogueConfig, generate, planted_recall


def planted(seed: int, budget: int = 4) -> dict[str, Any]:
    """Share of planted words kept on a tenth of the items, of which no pair was seen."""
    catalogue = generate(CatalogueConfig(seed=seed))
    task = prepare(catalogue.items, catalogue.train, catalogue.test, catalogue.tokenizer, ("description",), seed=seed)
    held = np.sort(np.random.default_rng(seed).permutation(len(task.tokens))[: len(task.tokens) // 10])
    torch.manual_seed(seed)
    start = TokenSelector().for_tokenizer(catalogue.tokenizer).fit(task.tokens)
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        learned, rounds = learn_selector(
            task.tokens, start, CoConsumptionReward(task.tokens, task.train), folder,
            replace(LEARNING, budgets=(budget,), seed=seed),
            segments=np.setdiff1d(np.arange(len(task.tokens)), held),
        )  # fmt: skip
    seconds = time.perf_counter() - begun
    part = task.tokens.take(held)
    truth = catalogue.planted[np.isin(task.tokens.segment_ids(), held)]
    scorers = {"head": make_scorer("head"), "random": make_scorer("random"),
               "tfidf": make_scorer("tfidf").fit(task.tokens), "start": start, "learned": learned}  # fmt: skip
    found = {
        name: planted_recall(truth, select(s, part, Budget(tokens=budget)).kept, part.segment_ids(), budget)
        for name, s in scorers.items()
    }
    return {"seed": seed, "planted_recall": found, "seconds": seconds, "rounds": rounds}


def real(data: Path, model: str, category: str, budget: int, seeds: list[int], cache: Path) -> dict[str, Any]:
    """Learn from co-consumption at budgets 2 and 4, description only, then rank all test rows (adapted)."""
    from tsporec.language_model import cut_layers, load_causal_lm
    from tsporec.readers import read_items, read_sequences
    from tsporec.recommenders.encoder import ItemEncoder

    folder = data / "amazon18"
    lm, tokenizer = load_causal_lm(model)
    rows = [read_sequences(folder / f"{category}.{part}.csv") for part in ("valid", "test")]
    task = prepare(read_items(folder / f"{category}.item.json"), *rows, tokenizer, ("description",))
    start = TokenSelector().for_tokenizer(tokenizer).fit(task.tokens)
    config = LearningConfig(budgets=(2, 4), rounds=1, preference={"num_train_epochs": 5, "use_cpu": True})
    reward = CoConsumptionReward(task.tokens, task.train)
    learned, rounds = learn_selector(task.tokens, start, reward, cache / f"{category}-rounds", config)
    evaluator = Evaluator(task, ItemEncoder(cut_layers(lm, 4)), seeds=seeds, cache=cache)
    scorers = {"head": make_scorer("head"), "random": make_scorer("random"),
               "tfidf": make_scorer("tfidf").fit(task.tokens), "learned": learned}  # fmt: skip
    ranks = {name: evaluator._cell(s, budget, "adapted", [budget])["ranks"] for name, s in scorers.items()}
    values = {n: {m: of(r).mean(axis=0) for m, of in METRICS.items()} for n, r in ranks.items()}
    return {
        "category": category, "budget": budget, "case": "adapted", "seeds": seeds, "rounds": rounds,
        "metrics": {n: {m: float(v.mean()) for m, v in row.items()} for n, row in values.items()},
        "learned_minus": {
            n: {m: paired_bootstrap(values["learned"][m], v, task.users) for m, v in row.items()}
            for n, row in values.items() if n != "learned"
        },
    }  # fmt: skip


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["planted", "real"])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--budget", type=int, default=2)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--category", default="Office_Products")
    parser.add_argument("--cache", type=Path, default=Path("learning-cache"))
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    origin = environment(seeds[0])
    if options.what == "planted":
        results: dict[str, Any] = {"command": "planted", "runs": [planted(seed) for seed in seeds]}
        for run in results["runs"]:
            print(run["seed"], {name: round(value, 3) for name, value in run["planted_recall"].items()}, run["seconds"])
    else:
        results = real(options.data, options.model, options.category, options.budget, seeds, options.cache)
        print(results["metrics"], results["learned_minus"])
    write_results(options.output, results, origin)


if __name__ == "__main__":
    main()
