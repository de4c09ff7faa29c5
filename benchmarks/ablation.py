"""Compare ways of learning on users that neither the selector nor the recommender has seen. No test row is read.

python -m benchmarks.ablation --data DIR --model DIR --output benchmarks/results/ablation.json

Training users are split into ``--folds``. For each fold a selector learns from the others, a recommender is fitted on
what it keeps, and every next item of the fold's sequences is ranked. So all training users are judged: ten times as
many as are held out to stop by. Intervals are paired, over users. They do not cover how two fits differ; the row
"another seed" shows what learning alone does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import CATALOGUES, read_task
from benchmarks.learning import REAL, RULE, learn, untrained
from benchmarks.options import comma_separated, make_parser
from benchmarks.real import LAYERS
from benchmarks.tables import interval
from tsporec.evaluation.results import environment, write_results
from tsporec.evaluation.task import Task, fit_on_selection
from tsporec.language_model import load_causal_lm
from tsporec.learning.config import LearningConfig
from tsporec.metrics import ndcg, paired_bootstrap
from tsporec.recommenders.embedding import EmbeddingConfig
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.scorers import Scorer, make_scorer
from tsporec.selector.config import WEIGHTINGS

RULES = {f"untrained, {weighting}": replace(RULE, weighting=weighting) for weighting in WEIGHTINGS}
RECIPE = replace(REAL, selector=RULES["untrained, tfidf"])
"""All others differ from it in one point."""
VARIANTS = {
    "the recipe": RECIPE,
    "another seed": replace(RECIPE, seed=1),
    "from idf": replace(REAL, selector=RULES["untrained, idf"]),
    "from the bundled rule": replace(REAL, selector=RULE),
    "1 round": replace(RECIPE, item_rounds=1),
    "4 candidates, 2 pairs": replace(RECIPE, candidates=4, pairs=2),
    "best against worst alone": replace(RECIPE, pairs=1),
    "no swaps": replace(RECIPE, swapped=0.0),
    "regression on reward differences": replace(
        RECIPE, item_training={**RECIPE.item_training, "loss_type": "regression"}
    ),
    "the network alone, 1 round": replace(RECIPE, network_rounds=1, item_rounds=0),
}


def folds_of(task: Task, folds: int) -> Iterator[Task]:
    """Yield tasks: each tests on every place of a part of the training sequences and learns from the others."""
    for fold in range(folds):
        judged = task.train[fold::folds]
        rows = [sequence[: place + 1] for sequence in judged for place in range(1, len(sequence))]
        users = [f"{fold}/{i}" for i, sequence in enumerate(judged) for _ in sequence[1:]]
        rest = [sequence for i, sequence in enumerate(task.train) if i % folds != fold]
        yield Task(task.tokens, rest, task.held_out, rows, users)


def quality(task: Task, encoder: ItemEncoder, scorer: Scorer, budget: int, seeds: list[int]) -> NDArray[np.float64]:
    """Return NDCG@10 of each test row, as a mean over recommenders fitted on what the scorer keeps."""
    found = []
    for seed in seeds:
        recommender, vectors = fit_on_selection(task, encoder, scorer, budget, EmbeddingConfig(seed=seed))
        found.append(ndcg(task.ranks(recommender, vectors), 10))
    mean: NDArray[np.float64] = np.mean(found, axis=0)
    return mean


def scorer_of(name: str, task: Task, tokenizer: Any, variants: dict[str, LearningConfig]) -> tuple[Scorer, float]:
    """Return the scorer of that name and the seconds that it learned."""
    if name in variants:
        learned, _, seconds = learn(task, untrained(tokenizer, task, variants[name].selector), variants[name])
        return learned, seconds
    return untrained(tokenizer, task, RULES[name]) if name in RULES else make_scorer(name).fit(task.tokens), 0.0


def ablation(
    task: Task, encoder: ItemEncoder, tokenizer: Any, budget: int, seeds: list[int], folds: int,
    variants: dict[str, LearningConfig],
) -> list[dict[str, Any]]:  # fmt: skip
    """Return a row for each rule and variant: NDCG@10 and its difference to tf-idf and to the recipe above it."""
    parts, found, rows = list(folds_of(task, folds)), {}, []
    users = [user for part in parts for user in part.users]
    for name in ["head", "tfidf", *RULES, *variants]:
        made = [scorer_of(name, part, tokenizer, variants) for part in parts]
        each = [quality(part, encoder, scorer, budget, seeds) for part, (scorer, _) in zip(parts, made, strict=True)]
        found[name] = np.concatenate(each)
        rows.append({"learning": name, "NDCG@10": float(found[name].mean()), "places": len(users)})
        for rival in ("tfidf", "the recipe"):
            if rival in found and rival != name:
                difference = paired_bootstrap(found[name], found[rival], users)
                rows[-1][f"minus {rival} (95%)"] = interval(difference)
        rows[-1]["seconds a fold"] = float(np.mean([seconds for _, seconds in made]))
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Run it, write the results file."""
    parser = make_parser(__doc__, seeds=[0])
    parser.add_argument("--category", default=CATALOGUES[0], choices=CATALOGUES)
    parser.add_argument("--fields", type=comma_separated, default=["description"])
    parser.add_argument("--budget", type=int, default=4)
    parser.add_argument("--folds", type=int, default=3)
    options = parser.parse_args()
    origin = environment(options.seeds[0])
    lm, tokenizer = load_causal_lm(options.model, LAYERS)
    task = read_task(options.data, options.category, tokenizer, options.fields)
    rows = ablation(task, ItemEncoder(lm), tokenizer, options.budget, options.seeds, options.folds, VARIANTS)
    settings = {"category": options.category, "fields": options.fields, "budget": options.budget, "layers": LAYERS,
                "folds": options.folds, "fit seeds": options.seeds, "recipe": repr(RECIPE)}  # fmt: skip
    write_results(options.output, {"settings": settings, "rows": rows}, origin)


if __name__ == "__main__":
    main()
