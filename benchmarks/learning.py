"""Measure preference learning on planted words, where the truth is known, and the cost of the stages.

python -m benchmarks.learning planted --seeds 0,1,2 --output benchmarks/results/planted.json
python -m benchmarks.learning cost --data DIR --model DIR --output benchmarks/results/cost.json
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.datasets import read_task
from benchmarks.options import comma_separated, whole_numbers
from tsporec.budget import Budget
from tsporec.cli.demo import LEARNING
from tsporec.data.synthetic import CatalogueConfig, generate, planted_recall
from tsporec.evaluation.results import environment, write_results
from tsporec.evaluation.task import Task, prepare
from tsporec.learning.candidates import CandidateConfig
from tsporec.learning.config import ITEM_TRAINING, LearningConfig
from tsporec.learning.dataset import collect_preferences
from tsporec.learning.pipeline import adapt
from tsporec.learning.rewards.coconsumption import CoConsumptionReward
from tsporec.learning.rounds import learn_selector
from tsporec.learning.trainer import PreferenceConfig, PreferenceTrainer
from tsporec.learning.warm_up import warm_up
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.scorers import make_scorer
from tsporec.selection import select
from tsporec.selector.config import WEIGHTINGS
from tsporec.selector.model import SelectorConfig, TokenSelector
from tsporec.tokens.fingerprint import tokenizer_fingerprint

REAL = LearningConfig(
    budgets=(2, 4, 8),
    network_training={"use_cpu": True},
    item_training={"use_cpu": True},
)
"""The arguments of ``tsporec train``, with candidates of up to 8 tokens. The same scores keep more tokens."""
RULE = SelectorConfig(weighting="placed", surface_buckets=2**18)
"""The rule for texts that nothing is learned from. Few words share a bucket of frequencies."""


def untrained(tokenizer: Any, task: Task, config: SelectorConfig | None = None, seed: int = 0) -> TokenSelector:
    """Return the rule over frequencies that learning starts from."""
    torch.manual_seed(seed)
    return TokenSelector(config).for_tokenizer(tokenizer).fit(task.tokens)


def learn(
    task: Task, start: TokenSelector, config: LearningConfig, segments: Any = None
) -> tuple[Any, list[dict[str, Any]], float]:
    """Learn from what training users touched together: (selector, rounds, seconds)."""
    start_time = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        reward = CoConsumptionReward(task.tokens, task.train)
        learned, rounds = learn_selector(task.tokens, start, reward, folder, config, segments=segments)
    return learned, rounds, time.perf_counter() - start_time


def planted(seed: int, config: SelectorConfig, budget: int = 4) -> dict[str, Any]:
    """Return the share of planted words kept on a tenth of the items, of which no pair was seen."""
    catalogue = generate(CatalogueConfig(seed=seed))
    task = prepare(catalogue.items, catalogue.train, catalogue.test, catalogue.tokenizer, ("description",), seed=seed)
    held = np.sort(np.random.default_rng(seed).permutation(len(task.tokens))[: len(task.tokens) // 10])
    start, others = untrained(catalogue.tokenizer, task, config, seed), np.setdiff1d(np.arange(len(task.tokens)), held)
    learned, rounds, seconds = learn(task, start, replace(LEARNING, budgets=(budget,), seed=seed), others)
    part = task.tokens.take(held)
    truth = catalogue.planted[np.isin(task.tokens.segment_ids(), held)]
    scorers = {"head": make_scorer("head"), "random": make_scorer("random"),
               "tfidf": make_scorer("tfidf").fit(task.tokens), "start": start, "learned": learned}  # fmt: skip
    found = {
        name: planted_recall(truth, select(s, part, Budget(tokens=budget)).kept, part.segment_ids(), budget)
        for name, s in scorers.items()
    }
    return {"seed": seed, "planted_recall": found, "seconds": seconds, "rounds": rounds}


def cost(task: Task, lm: Any, tokenizer: Any, budget: int = 8) -> dict[str, Any]:
    """Return the seconds of each stage at one budget, and the tokens a second that training reads."""
    start, encoder, config = untrained(tokenizer, task), ItemEncoder(lm), replace(REAL, budgets=(budget,))
    found: dict[str, Any] = {"budget": budget}

    def timed(name: str, run: Callable[[], Any]) -> Any:
        start_time = time.perf_counter()
        made = run()
        found[name] = time.perf_counter() - start_time
        print(name, found[name], flush=True)
        return made

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reward = CoConsumptionReward(task.tokens, task.train)
        sampled = CandidateConfig((budget,), REAL.candidates, REAL.uniform, REAL.swapped)
        pairs = timed(
            "collect, a round",
            lambda: collect_preferences(
                task.tokens,
                start.score(task.tokens),
                reward,
                folder / "pairs",
                tokenizer_fingerprint=tokenizer_fingerprint(tokenizer),
                candidates=sampled,
                pairs=REAL.pairs,
            ),
        )
        policies = {"network": copy.deepcopy(start), "item weights": start.with_item_weights(task.tokens)}
        for kind, policy in policies.items():
            args = {**ITEM_TRAINING, "use_cpu": True, "disable_tqdm": True, "num_train_epochs": 1}
            trainer = PreferenceTrainer(policy, PreferenceConfig(output_dir=str(folder / kind), **args), pairs)
            timed(f"train {kind}, an epoch", trainer.train)
            found[f"train {kind}, tokens/s"] = task.tokens.num_tokens / found[f"train {kind}, an epoch"]
        learned = timed("stage 2, prefer", lambda: learn(task, start, config))[0]
        timed("stage 1, warm up", lambda: warm_up(task, encoder, start, config, folder / "warm-up"))
        timed("stage 3, adapt", lambda: adapt(task, encoder, learned, config, folder / "adapted"))
    return found


def main() -> None:
    """Run one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["planted", "cost"])
    parser.add_argument("--seeds", type=whole_numbers, default=[0, 1, 2], help="seeds of planted")
    parser.add_argument(
        "--weighting", choices=WEIGHTINGS, default=REAL.selector.weighting, help="planted: rule to start from"
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--category", default="Office_Products")
    parser.add_argument("--fields", type=comma_separated, default=["description"])
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    origin = environment(options.seeds[0])
    if options.what == "planted":
        results: dict[str, Any] = {"command": "planted", "weighting": options.weighting}
        config = replace(REAL.selector, weighting=options.weighting)
        results["runs"] = [planted(seed, config) for seed in options.seeds]
        for run in results["runs"]:
            print(run["seed"], {name: round(value, 3) for name, value in run["planted_recall"].items()}, run["seconds"])
    else:
        from tsporec.language_model import load_causal_lm

        lm, tokenizer = load_causal_lm(options.model, layers=4)
        task = read_task(options.data, options.category, tokenizer, options.fields)
        settings = {"category": options.category, "fields": options.fields, "layers": 4, "learning": repr(REAL)}
        results = {"command": options.what, "settings": settings, **cost(task, lm, tokenizer)}
    write_results(options.output, results, origin)


if __name__ == "__main__":
    main()
