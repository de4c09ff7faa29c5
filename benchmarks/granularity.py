"""Measure what whole words cost or bring a recommender against single tokens, at the same budgets.

python -m benchmarks.granularity --data DIR --model DIR --cache DIR

A fit is as in :mod:`benchmarks.quality`, for the cases ``embedding`` and ``generative``. Rows are the last item of
each training user, since the defaults are chosen by these figures. "rule" is the bundled selector; "selector" has
learned for each budget from the items before the last ones. A fit that is in the results file is skipped.
"""

from __future__ import annotations

import json
import time
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks.cells import Cell
from benchmarks.datasets import CATALOGUES, read_catalogue, read_task
from benchmarks.embedding import Embedding
from benchmarks.generative import Generative, GenerativeConfig
from benchmarks.learned import Learner
from benchmarks.options import comma_separated, make_parser, whole_numbers
from benchmarks.quality import cut
from tsporec.evaluation.evaluator import Evaluator
from tsporec.evaluation.results_file import environment, write_results
from tsporec.language_model import load_causal_lm
from tsporec.recommenders.embedding import EmbeddingConfig
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.scorers import Scorer, make_scorer
from tsporec.selector.model import TokenSelector

GRANULARITIES = ("token", "word")


class Results:
    """Hold the rows of a results file, which is written after each.

    Parameters
    ----------
    path : Path
    origin : dict
        The environment that new rows are measured in.
    """

    def __init__(self, path: Path, origin: dict[str, Any]) -> None:
        self.path, self.origin = path, origin
        self.rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if path.exists() else []

    def has(self, row: dict[str, Any]) -> bool:
        """Return whether a row with these values is there."""
        return any(row.items() <= found.items() for found in self.rows)

    def add(self, row: dict[str, Any]) -> None:
        """Write a row."""
        self.rows.append({**row, "commit": self.origin["commit"]})
        write_results(self.path, {"command": "granularity", "rows": self.rows}, self.origin)
        shown = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()]
        print("  ".join(shown), flush=True)


def main() -> None:
    """Measure what the results file lacks."""
    parser = make_parser(__doc__, "granularity.json", seeds=[0])
    parser.add_argument("--cache", type=Path, required=True, help="folder for scores and vectors")
    parser.add_argument("--catalogues", type=comma_separated, default=list(CATALOGUES))
    parser.add_argument("--cases", type=comma_separated, default=["embedding", "generative"])
    parser.add_argument("--scorers", type=comma_separated, default=["tfidf", "rule"])
    parser.add_argument("--budgets", type=whole_numbers, default=[2, 4, 8, 16])
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32",
                        help="type that the generative case computes in")  # fmt: skip
    options = parser.parse_args()
    results = Results(options.output, environment(options.seeds[0]))
    lm, tokenizer = load_causal_lm(options.model)
    for name in options.catalogues:
        task = read_task(options.data, name, tokenizer).last_items()
        evaluator = Evaluator(task, ItemEncoder(cut(lm)), cache=options.cache)
        rule = TokenSelector.from_pretrained().for_tokenizer(tokenizer).fit(task.tokens)
        scorers: dict[str, Scorer] = {
            "head": make_scorer("head"), "tfidf": make_scorer("tfidf", tokenizer=tokenizer).fit(task.tokens),
            "rule": rule,
        }  # fmt: skip
        learner = Learner(evaluator.encoder, tokenizer, options.cache / "starts")
        for case in options.cases:
            measure: Embedding | Generative = Embedding(evaluator, EmbeddingConfig(), tokenizer)
            if case == "generative":
                titles = [item.fields.get("title", "") for item in read_catalogue(options.data, name).items]
                dtype = getattr(torch, options.dtype)
                measure = Generative(evaluator, titles, lm, tokenizer, GenerativeConfig(), dtype)
            fits = product(options.budgets, options.scorers, GRANULARITIES, options.seeds)
            for budget, scorer, granularity, seed in fits:
                row = {"catalogue": name, "case": case, "scorer": scorer, "budget": budget,
                       "granularity": granularity, "seed": seed}  # fmt: skip
                if results.has(row):
                    continue
                start = time.perf_counter()
                used = learner.learn(task, budget) if scorer == "selector" else scorers[scorer]
                fit = measure.fit(used, Cell(name, case, scorer, budget), seed, granularity)
                row |= {"ndcg@10": fit["metrics"]["ndcg@10"], "rows": int(measure.task.new.sum())}
                results.add({**row, "tokens": fit["tokens"], "seconds": time.perf_counter() - start})


if __name__ == "__main__":
    main()
