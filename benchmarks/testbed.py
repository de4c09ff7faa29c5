"""Measure the test bed: which differences it can show, and which proxy rewards rank selections as it does.

python -m benchmarks.testbed resolution --data DIR --model DIR --cache DIR --seeds 0,1,2,3,4 --output FILE
python -m benchmarks.testbed alignment --data DIR --model DIR --cache DIR --output FILE

*resolution*: fits of one selection by several seeds. ``--items`` cuts the catalogue to its most touched items and 2,000
users. *alignment*: fourteen selections are rated by each reward (mean over the items), by a ridge recommender and by a
recommender that is adapted to each. The figure is Spearman's rank correlation; nothing is trained on a reward below .6.
In both, rows are each training user's last item, so no test row is read.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import CATALOGUES, most_touched, read_task
from benchmarks.learned import untrained
from benchmarks.options import comma_separated, make_parser, whole_numbers
from tsporec.evaluation.evaluator import Evaluator
from tsporec.evaluation.measures import Resolution
from tsporec.evaluation.results_file import environment, write_results
from tsporec.evaluation.task import Task
from tsporec.language_model import load_causal_lm
from tsporec.learning.candidates import Candidates
from tsporec.learning.config import LearningConfig
from tsporec.learning.pipeline import ridge_ndcg
from tsporec.learning.warm_up import make_reward
from tsporec.metrics import ndcg
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.scorers import BaseScorer, Scorer, Scores, make_scorer
from tsporec.selection import Selection, score_tokens, select
from tsporec.tokens.ragged import RaggedTokens, lengths_to_offsets

LAYERS = 4
REWARDS = ("coconsumption", "recommendation", "identity")


def fits(evaluator: Evaluator, scorer: Scorer, budget: int) -> dict[str, Any]:
    """Fit a recommender by each seed: NDCG@10 of new targets and of repeats, and the seconds of each fit."""
    task, vectors = evaluator.task, evaluator.features(scorer, budget)["vectors"]
    found: dict[str, list[float]] = {"new": [], "repeats": [], "wall": [], "cpu": []}
    for seed in evaluator.seeds:
        wall, cpu = time.perf_counter(), time.process_time()
        recommender = task.fit(vectors, replace(evaluator.config, seed=seed))
        found["wall"].append(time.perf_counter() - wall)
        found["cpu"].append(time.process_time() - cpu)
        values = ndcg(task.ranks(recommender, vectors), 10)
        found["new"].append(float(values[task.new].mean()))
        if not task.new.all():
            found["repeats"].append(float(values[~task.new].mean()))
        print(seed, {key: round(part[-1], 4) for key, part in found.items() if part}, flush=True)
    deviation = float(np.std(found["new"], ddof=1))
    shown = {"shown by 3 seeds": Resolution.of(deviation, 3).difference}
    return {"budget": budget, "mean": float(np.mean(found["new"])), "deviation": deviation, **shown, **found}


class Mixed(BaseScorer):
    """Score a token by the weighted mean of its ranks under two scorers, each from 0 to 1 within its text."""

    name = "mixed"

    def __init__(self, first: Any, second: Any, share: float) -> None:
        self.first, self.second, self.share = first, second, share

    def config(self) -> dict[str, Any]:
        """Return the scorers' fingerprints and the share of the first."""
        return {"first": self.first.fingerprint, "second": self.second.fingerprint, "share": self.share}

    def score(self, tokens: RaggedTokens) -> Scores:
        """Return the scores, float32 ``[T]``."""
        first, second = (_ranks(score_tokens(scorer, tokens), tokens) for scorer in (self.first, self.second))
        return (self.share * first + (1 - self.share) * second).astype(np.float32)


class Tail(BaseScorer):
    """Prefer the last tokens of a text."""

    name = "tail"

    def score(self, tokens: RaggedTokens) -> Scores:
        """Return each token's place from the start, float32 ``[T]``."""
        return tokens.offsets().astype(np.float32)


def _ranks(scores: NDArray[np.float32], tokens: RaggedTokens) -> NDArray[np.float64]:
    """Return the rank of each token within its text, 0 for the lowest score and 1 for the highest: ``[T]``."""
    segment = tokens.segment_ids()
    order = np.lexsort((-np.arange(len(scores)), scores, segment))
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(len(scores)) - tokens.cu_seqlens[segment]
    found: NDArray[np.float64] = ranks / np.maximum(tokens.lengths[segment] - 1, 1)
    return found


def known_selections(task: Task, tokenizer: Any, budgets: Sequence[int]) -> dict[str, Scorer]:
    """Return fourteen scorers, from good ones to bad ones; two of them are distinct at ``budgets``."""
    head, random, placed = make_scorer("head"), make_scorer("random", seed=1), untrained("placed", task, tokenizer)
    tfidf = make_scorer("tfidf", tokenizer=tokenizer).fit(task.tokens)
    return {
        "head": head, "tail": Tail(), "random 1": random, "random 2": make_scorer("random", seed=2),
        "tfidf": tfidf, "tfidf of ids": make_scorer("tfidf").fit(task.tokens), "placed": placed,
        "idf": untrained("idf", task, tokenizer), "head + tfidf": Mixed(head, tfidf, 0.5),
        "placed + random": Mixed(placed, random, 0.5), "tfidf + random": Mixed(tfidf, random, 0.5),
        "head + random": Mixed(head, random, 0.5),
        "placed, distinct 0": placed.make_distinct(task.tokens, budgets, 0.0),
        "placed, distinct 1.2": placed.make_distinct(task.tokens, budgets),
    }  # fmt: skip


def as_candidates(selections: Sequence[Selection], budget: int) -> Candidates:
    """Make every item's kept tokens under every selection a candidate, selection after selection."""
    items = len(selections[0].cu_seqlens) - 1
    sizes = np.concatenate([np.diff(selection.cu_seqlens) for selection in selections])
    return Candidates(
        np.tile(np.arange(items), len(selections)),
        np.full(items * len(selections), budget),
        np.concatenate([selection.kept for selection in selections]),
        lengths_to_offsets(sizes),
    )


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the correlation of the ranks of two lists without ties.

    >>> spearman([1, 2, 3], [10, 30, 20])
    0.5
    """
    ranks = [np.argsort(np.argsort(values)) for values in (first, second)]
    return round(float(np.corrcoef(*ranks)[0, 1]), 10)


def align(
    evaluator: Evaluator,
    scorers: Mapping[str, Scorer],
    policy: Scorer,
    budget: int,
    rewards: Sequence[str],
    config: LearningConfig,
) -> dict[str, Any]:
    """Rate the selections at one budget; ``policy`` is what stage 1 warms up on beside the rules."""
    task = evaluator.task
    cells = evaluator.run(scorers, [budget], rivals=[]).cells
    found: dict[str, Any] = {"budget": budget, "ndcg@10": {cell.scorer: cell.metrics["ndcg@10"] for cell in cells}}
    selections = [select(scorer, task.tokens, budget) for scorer in scorers.values()]
    ridge = [ridge_ndcg(task, evaluator.encode(selection.apply(task.tokens))["vectors"]) for selection in selections]
    found["ridge"] = _agreement(found, ridge)
    print(budget, "ridge", found["ridge"]["spearman"], flush=True)
    candidates = as_candidates(selections, budget)
    config = replace(config, budgets=(budget,))
    for name in rewards:
        with tempfile.TemporaryDirectory() as folder:
            one = replace(config, rewards={name: 1.0})
            try:
                reward = make_reward(task, evaluator.encoder, policy, one, Path(folder) / "warm-up")
            except ValueError as error:  # a recommender that is not clearly better than popularity
                found[name] = {"refused": str(error)}
                continue
            rated = reward(task.tokens, candidates).reshape(len(scorers), -1).mean(axis=1)
        found[name] = _agreement(found, rated.tolist())
        print(budget, name, found[name]["spearman"], flush=True)
    return found


def _agreement(found: dict[str, Any], values: list[float]) -> dict[str, Any]:
    """Compare the ``values`` of the selections with their adapted NDCG@10."""
    adapted = found["ndcg@10"]
    return {
        "mean": dict(zip(adapted, values, strict=True)), "spearman": spearman(list(adapted.values()), values),
    }  # fmt: skip


def main() -> None:
    """Measure, print a line a fit or a reward, and write the results file."""
    parser = make_parser(__doc__, seeds=[0])
    parser.add_argument("what", choices=["resolution", "alignment"])
    parser.add_argument("--catalogue", default=CATALOGUES[0], choices=CATALOGUES)
    parser.add_argument("--scorers", type=comma_separated, default=["head", "tfidf"], help="of resolution")
    parser.add_argument("--budgets", type=whole_numbers, default=[8])
    parser.add_argument("--rewards", type=comma_separated, default=list(REWARDS), help="of alignment")
    parser.add_argument("--items", type=int)
    parser.add_argument("--cache", type=Path, required=True)
    options = parser.parse_args()
    origin = environment(options.seeds[0])
    lm, tokenizer = load_causal_lm(options.model, LAYERS)
    task = read_task(options.data, options.catalogue, tokenizer).last_items()
    if options.items:
        task = most_touched(task, options.items, users=2000)
    evaluator = Evaluator(task, ItemEncoder(lm), None, options.seeds, options.cache)
    scorers = known_selections(task, tokenizer, options.budgets)
    popularity = float(ndcg(task.popularity_ranks(), 10)[task.new].mean())
    settings = {
        "what": options.what, "catalogue": options.catalogue, "layers": LAYERS, "items": len(task.tokens),
        "users": len(task.train), "rows": len(task.test), "repeats": task.repeats, "popularity": popularity,
    }  # fmt: skip
    print(settings, flush=True)
    if options.what == "resolution":
        both = [(name, budget) for name in options.scorers for budget in options.budgets]
        rows = [{"scorer": name, **fits(evaluator, scorers[name], budget)} for name, budget in both]
    else:
        config, policy = LearningConfig(), scorers["placed"]
        rows = [align(evaluator, scorers, policy, budget, options.rewards, config) for budget in options.budgets]
    write_results(options.output, {"settings": settings, "seeds": options.seeds, "rows": rows}, origin)


if __name__ == "__main__":
    main()
