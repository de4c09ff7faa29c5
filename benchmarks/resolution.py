"""Measure which differences the reference recommender can show: fits of one selection by several seeds.

python -m benchmarks.resolution --data DIR --model DIR --catalogue Office_Products --output FILE

Rows are each training user's last item, so no test row is read. ``--items`` cuts the catalogue to its most touched
items and 2,000 users.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.datasets import CATALOGUES, most_touched, read_task
from benchmarks.options import comma_separated, make_parser
from tsporec.evaluation.evaluator import Evaluator
from tsporec.evaluation.results import environment, write_results
from tsporec.language_model import load_causal_lm
from tsporec.metrics import ndcg
from tsporec.recommenders.embedding import EmbeddingConfig
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.scorers import make_scorer

LAYERS = 4


def measure(evaluator: Evaluator, scorers: dict[str, Any], budget: int, seeds: list[int]) -> list[dict[str, Any]]:
    """Return one row for each scorer: NDCG@10 of new targets and of repeats by seed, and seconds of each fit."""
    task, rows = evaluator.task, []
    for name, scorer in scorers.items():
        vectors = evaluator.features(scorer, budget)["vectors"]
        found: dict[str, list[float]] = {"new": [], "repeats": [], "wall": [], "cpu": []}
        for seed in seeds:
            wall, cpu = time.perf_counter(), time.process_time()
            recommender = task.fit(vectors, EmbeddingConfig(seed=seed))
            found["wall"].append(time.perf_counter() - wall)
            found["cpu"].append(time.process_time() - cpu)
            values = ndcg(task.ranks(recommender, vectors), 10)
            found["new"].append(float(values[task.new].mean()))
            if not task.new.all():
                found["repeats"].append(float(values[~task.new].mean()))
            print(name, seed, {key: round(part[-1], 4) for key, part in found.items() if part}, flush=True)
        deviation = float(np.std(found["new"], ddof=1))
        rows.append({"scorer": name, "budget": budget, "mean": float(np.mean(found["new"])), "deviation": deviation,
                     "shown by 3 seeds": 2 * math.sqrt(2 / 3) * deviation, **found})  # fmt: skip
        print({key: value for key, value in rows[-1].items() if key not in found}, flush=True)
    return rows


def main() -> None:
    """Measure, print a line a fit and write the results file."""
    parser = make_parser(__doc__, seeds=[0, 1, 2, 3, 4])
    parser.add_argument("--catalogue", default=CATALOGUES[0], choices=CATALOGUES)
    parser.add_argument("--scorers", type=comma_separated, default=["head", "tfidf"])
    parser.add_argument("--budget", type=int, default=8)
    parser.add_argument("--items", type=int)
    parser.add_argument("--cache", type=Path, default=Path("evaluate-cache"))
    options = parser.parse_args()
    origin = environment(options.seeds[0])
    lm, tokenizer = load_causal_lm(options.model, LAYERS)
    task = read_task(options.data, options.catalogue, tokenizer)
    made = {"head": make_scorer("head"), "tfidf": make_scorer("tfidf", tokenizer=tokenizer).fit(task.tokens),
            "tfidf of ids": make_scorer("tfidf").fit(task.tokens)}  # fmt: skip
    part = task.last_items()
    if options.items:
        part = most_touched(part, options.items, users=2000)
    evaluator = Evaluator(part, ItemEncoder(lm), seeds=options.seeds, cache=options.cache)
    popularity = ndcg(part.popularity_ranks(), 10)[part.new].mean()
    sizes = {"items": len(part.tokens), "users": len(part.train), "rows": len(part.test), "repeats": part.repeats}
    print({**sizes, "popularity": round(float(popularity), 4)}, flush=True)
    rows = measure(evaluator, {name: made[name] for name in options.scorers}, options.budget, options.seeds)
    settings = {"catalogue": options.catalogue, "layers": LAYERS, **sizes, "popularity": float(popularity)}
    write_results(options.output, {"settings": settings, "seeds": options.seeds, "rows": rows}, origin)


if __name__ == "__main__":
    main()
