"""Measure selections on real items: every scorer at every budget, frozen and adapted.

python -m benchmarks.real --data DIR --model DIR --category Office_Products --fields description --output FILE

*Adapted*: the selector learns from what training users touched together. At each budget it starts from the weighting
that predicts their last items best. A recommender is fitted on each selection.
*Frozen*: one recommender is warmed up on what cheap rules and samples of the untrained policy keep. It reads every
selection and is not fitted again. A selector for each budget gives each item the ranking of the bundled rule, of tf-idf
or of its first tokens, by that recommender's own reward. Every seed has its own recommender and selectors.
Finished work is kept in ``--cache``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import CATALOGUES, read_task
from benchmarks.learning import REAL, RULE, learn, untrained
from benchmarks.options import comma_separated, make_parser, whole_numbers
from tsporec._internal.digest import digest
from tsporec.evaluation.evaluator import FULL, Evaluator
from tsporec.evaluation.report import make_console, results_table
from tsporec.evaluation.results import environment, write_results
from tsporec.evaluation.task import Task, warm_up_rules
from tsporec.language_model import load_causal_lm
from tsporec.learning.best_of import best_of, choose, ranking_rewards
from tsporec.learning.candidates import CandidateConfig, Candidates, sample_candidates
from tsporec.learning.rewards.recommendation import RecommendationReward
from tsporec.metrics import ndcg
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.scorers import Scorer, make_scorer
from tsporec.selector.config import WEIGHTINGS
from tsporec.selector.model import TokenSelector
from tsporec.tokens.ragged import RaggedTokens

BUDGETS = (2, 4, 8, 16)
LAYERS = 4
MARGINS = (0.0, 0.15, 0.3, 0.6, 1.2, math.inf)
"""Margins of the reward that are tried on held-out users, in nats a context."""
CANDIDATES = CandidateConfig(BUDGETS, 8, uniform=0.3, swapped=0.4)
"""Candidates of the ceiling."""


class Sampled:
    """A sample of a policy: the k best of its scores plus Gumbel noise are kept."""

    def __init__(self, policy: Any, seed: int) -> None:
        self.policy, self.seed, self.fingerprint = policy, seed, digest("sampled", policy.fingerprint, seed)

    def score(self, tokens: RaggedTokens) -> NDArray[np.float32]:
        """Return float32 ``[T]``."""
        noise = np.random.default_rng(self.seed).gumbel(size=tokens.num_tokens)
        return (self.policy.score(tokens) + noise).astype(np.float32)


def warm_up(task: Task, policy: Any) -> list[Scorer]:
    """Return what a frozen recommender is warmed up on: rules, random ones, the policy and samples of it."""
    return [*warm_up_rules(task.tokens, random=2), policy, *(Sampled(policy, seed) for seed in range(3))]


class CachedEncoder:
    """Encode candidates, with the evaluator's cache."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator, self.encoder = evaluator, evaluator.encoder

    def __call__(self, tokens: RaggedTokens, candidates: Candidates) -> NDArray[np.float32]:
        """Return float32 ``[C, W]``."""
        vectors: NDArray[np.float32] = self.evaluator.encode(candidates.apply(tokens))["vectors"]
        return vectors


def frozen_reward(task: Task, evaluator: Evaluator, budgets: Sequence[int], seed: int) -> RecommendationReward:
    """Return the reward of the recommender of ``seed``, on the users it learned from."""
    reference = evaluator.warm_up_views(budgets).mean(axis=0)
    return RecommendationReward(CachedEncoder(evaluator), evaluator.warmed(budgets, seed), reference, task.train)


def learn_frozen(
    task: Task, evaluator: Evaluator, rule: TokenSelector, budgets: Sequence[int], seed: int
) -> tuple[dict[int, Scorer], dict[str, Any]]:
    """Return (budget -> selector, report): the best of three rankings, or another where its reward is surely higher.

    Held-out users choose the first ranking and the margin of each budget, by the recommender as it is.
    """
    start_time, tokens = time.perf_counter(), task.tokens
    rules = {"rule": rule, "tfidf": make_scorer("tfidf").fit(tokens), "head": make_scorer("head")}
    reward, recommender = frozen_reward(task, evaluator, budgets, seed), evaluator.warmed(budgets, seed)
    made: dict[int, Scorer] = {}
    report: dict[str, Any] = {"seed": seed, "first": {}, "margin": {}, "held-out NDCG@10 by margin": {}}
    for budget in budgets:
        features = {name: evaluator.features(scorer, budget)["vectors"] for name, scorer in rules.items()}
        alone = {name: recommender.held_out_ndcg(vectors, task.held_out) for name, vectors in features.items()}
        names = sorted(rules, key=lambda name: -alone[name])
        ordered, read = [rules[name] for name in names], np.stack([features[name] for name in names])
        rewards = ranking_rewards(tokens, ordered, reward, (budget,))
        quality = {}
        for margin in MARGINS:
            vectors = read[choose(tokens, rewards, margin), np.arange(len(tokens))]
            quality[margin] = recommender.held_out_ndcg(vectors, task.held_out)
        best = max(MARGINS, key=lambda margin: quality[margin])
        made[budget] = best_of(tokens, rule, ordered, rewards, best)
        report["first"][budget] = names[0]
        report["margin"][budget] = str(best)
        report["held-out NDCG@10 by margin"][budget] = {str(margin): value for margin, value in quality.items()}
    return made, {**report, "seconds": time.perf_counter() - start_time}


def learn_from(task: Task, tokenizer: Any, weighting: str, seed: int) -> tuple[Scorer, list[dict[str, Any]], float]:
    """Learn from co-consumption, starting from ``weighting``: (selector, rounds, seconds)."""
    config = replace(REAL, selector=replace(RULE, weighting=weighting), seed=seed)
    return learn(task, untrained(tokenizer, task, config.selector), config)


def choose_starts(task: Task, encoder: ItemEncoder, tokenizer: Any, options: Any) -> dict[str, Any]:
    """Choose the weighting to start from at each budget: the one whose selector predicts last items best.

    "found": NDCG@10 of each, fitted once on what came before; "starts": budget -> weighting.
    """
    start_time, part = time.perf_counter(), task.last_items()
    evaluator = Evaluator(part, encoder, None, options.seeds[:1], options.cache)
    learned = {name: learn_from(part, tokenizer, name, options.seeds[0])[0] for name in WEIGHTINGS}
    cells = evaluator.run(learned, options.budgets).cells
    found = {b: {c.scorer: c.metrics["ndcg@10"] for c in cells if c.budget == b} for b in options.budgets}
    starts = {budget: max(values, key=lambda name: values[name]) for budget, values in found.items()}
    return {"starts": starts, "found": found, "rows": len(part.test), "seconds": time.perf_counter() - start_time}


def learn_adapted(
    task: Task, tokenizer: Any, starts: dict[int, str], seed: int
) -> tuple[dict[int, Scorer], dict[str, Any]]:
    """Learn from co-consumption, starting from the weighting named for each budget: (budget -> selector, report)."""
    learned = {name: learn_from(task, tokenizer, name, seed) for name in sorted(set(starts.values()))}
    report = {
        "seed": seed,
        "seconds": sum(seconds for _, _, seconds in learned.values()),
        "rounds": {name: rounds for name, (_, rounds, _) in learned.items()},
    }
    return {budget: learned[name][0] for budget, name in starts.items()}, report


def ceiling(task: Task, evaluator: Evaluator, start: Scorer, budgets: Sequence[int], seed: int) -> list[dict[str, Any]]:
    """Return rows of the candidate that the frozen reward likes best, of those sampled from the rule.

    This bounds what selection can gain with this recommender and these candidates.
    """
    reward, recommender = frozen_reward(task, evaluator, budgets, seed), evaluator.warmed(budgets, seed)
    first, rows = np.arange(len(task.tokens)) * CANDIDATES.count, []
    for budget in budgets:
        config = replace(CANDIDATES, budgets=(budget,))
        sampled = sample_candidates(start.score(task.tokens), task.tokens, config, seed)
        rated = reward(task.tokens, sampled).reshape(-1, CANDIDATES.count)
        vectors = evaluator.encode(sampled.apply(task.tokens).take(first + rated.argmax(axis=1)))["vectors"]
        found = ndcg(task.ranks(recommender, vectors), 10)
        gain = float((rated.max(axis=1) - rated[:, 0]).mean())
        rows.append(
            {
                "k": budget,
                "candidates": CANDIDATES.count,
                "NDCG@10": float(found.mean()),
                "reward above the rule's (nats)": gain,
            }
        )
        print(rows[-1], flush=True)
    return rows


def others(names: Sequence[str], task: Task, lm: Any, model: str, rule: Scorer) -> dict[str, Scorer | None]:
    """Return the scorers of these names but the selector. Self-information reads with all layers of ``model``."""
    made: dict[str, Scorer | None] = {}
    for name in names:
        if name == FULL:
            made[name] = None
        elif name == "self_information":
            made[name] = make_scorer(name, model=load_causal_lm(model)[0])
        elif name in ("attention", "centroid"):
            made[name] = make_scorer(name, model=lm)
        elif name == "rule":
            made[name] = rule
        elif name != "selector":
            made[name] = make_scorer(name).fit(task.tokens)
    return made


def main() -> None:
    """Run the cells, print a table a case, write the results file."""
    parser = make_parser(__doc__, seeds=[0, 1, 2])
    parser.add_argument("--category", default=CATALOGUES[0], choices=CATALOGUES)
    parser.add_argument("--fields", type=comma_separated, default=["description"])
    parser.add_argument("--scorers", type=comma_separated, default=["head", "tfidf", "selector", FULL])
    parser.add_argument("--case", choices=["adapted", "frozen"], default="adapted")
    parser.add_argument(
        "--budgets",
        type=whole_numbers,
        default=list(BUDGETS),
        help="in tokens; frozen: the recommender is warmed up on these too",
    )
    parser.add_argument(
        "--weighting", choices=WEIGHTINGS, help="adapted: the rule to start from; by default training users choose"
    )
    parser.add_argument("--ceiling", action="store_true", help="frozen: also the best candidates by the reward")
    parser.add_argument("--cache", type=Path, default=Path("evaluate-cache"))
    options = parser.parse_args()
    if options.case == "frozen" and options.weighting:
        parser.error("--weighting needs --case adapted: a frozen recommender's selector does not learn from it.")
    origin = environment(options.seeds[0])
    lm, tokenizer = load_causal_lm(options.model, LAYERS)
    task = read_task(options.data, options.category, tokenizer, options.fields)
    policy, rule, learned, reports = untrained(tokenizer, task), untrained(tokenizer, task, RULE), [], []
    encoder, asked = ItemEncoder(lm), "selector" in options.scorers
    chosen: dict[str, Any] = {}
    if asked and options.case == "adapted":
        given = {"starts": dict.fromkeys(options.budgets, options.weighting)}
        chosen = given if options.weighting else choose_starts(task, encoder, tokenizer, options)
        print(chosen, flush=True)
    evaluator = Evaluator(task, encoder, None, options.seeds, options.cache, warm_up(task, policy))
    for seed in options.seeds if asked else []:
        if options.case == "frozen":
            selectors, report = learn_frozen(task, evaluator, rule, options.budgets, seed)
        else:
            selectors, report = learn_adapted(task, tokenizer, chosen["starts"], seed)
        learned.append(selectors)
        reports.append(report)
        print(report, flush=True)
    known = others(options.scorers, task, lm, options.model, rule)
    by_budget = {budget: [selectors[budget] for selectors in learned] for budget in options.budgets}
    scorers = {name: by_budget if name == "selector" else known[name] for name in options.scorers}
    evaluation = evaluator.run(scorers, options.budgets, [options.case], list(scorers))
    make_console().print(results_table(evaluation, options.case))
    described = (
        f"{REAL!r}, surface_buckets={RULE.surface_buckets}"
        if options.case == "adapted"
        else f"best of {RULE.weighting}, tfidf and head at each budget, margins {MARGINS}"
    )
    results = {
        "settings": {"category": options.category, "fields": options.fields, "case": options.case,
                     "budgets": options.budgets, "layers": LAYERS, "learning": described},
        "chosen": chosen, "learned": reports, **evaluation.to_dict(),
    }  # fmt: skip
    if options.ceiling:
        results["ceiling"] = ceiling(task, evaluator, policy, options.budgets, options.seeds[0])
    write_results(options.output, results, origin)


if __name__ == "__main__":
    main()
