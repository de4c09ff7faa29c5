"""Compare selections in a generative recommender: a causal LM fine-tuned on prompts that hold what each keeps.

python -m benchmarks.generative --data DIR --model DIR --category Office_Products --output FILE

The prompt shows the last items of a history, each cut to the budget; the label is the first words of the next item's
title. Recommendation candidates, the true next item and nine others drawn at random, are ranked by the exact likelihood
of theirs. With ``--epochs 0`` the LM stays as it is (frozen); otherwise every selection has its own (the first
``--layers``), fine-tuned on the same rows (adapted).
"""

from __future__ import annotations

import argparse
import copy
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.amazon import CATEGORIES, read_category
from benchmarks.learning import REAL, learn, untrained
from benchmarks.options import make_parser
from tsporec.budget import Budget
from tsporec.collator import SelectorCollator
from tsporec.evaluation import Task, prepare
from tsporec.language_model import load_causal_lm
from tsporec.metrics import ndcg, paired_bootstrap, recall
from tsporec.progress import progress
from tsporec.recommenders.generative import GenerativeRecommender, PromptTemplate
from tsporec.results import environment, write_results
from tsporec.scorers import Scorer, make_scorer

HISTORY, TITLE_WORDS, CANDIDATES = 4, 6, 10
BUDGETS = (8, 16)

Row = tuple[list[int], int]


def rows_of(sequences: list[list[int]], count: int, seed: int) -> list[Row]:
    """``count`` places of ``sequences``, drawn: the last items before each, and its own."""
    places = [(s[max(0, i - HISTORY) : i], s[i]) for s in sequences for i in range(1, len(s))]
    return [places[i] for i in np.random.default_rng(seed).permutation(len(places))[:count]]


def candidates_of(row: Row, items: int, rng: np.random.Generator) -> list[int]:
    """The target first, then others that are not in the history."""
    history, target = row
    others = rng.choice(items, size=CANDIDATES + HISTORY, replace=False).tolist()
    return [target, *[i for i in others if i != target and i not in history][: CANDIDATES - 1]]


def rank(model: GenerativeRecommender, collator: Any, rows: list[Row], items: int) -> NDArray[np.int64]:
    """int64 ``[R]``: the rank of each row's target among its candidates; an equal likelihood counts against it."""
    rng, found = np.random.default_rng(0), []
    for row in progress(rows, description="rank"):
        (feature,) = collator.cut([model.template.feature(row[0])])
        likelihood = model.candidate_log_likelihoods(feature, candidates_of(row, items, rng))
        found.append(int((likelihood >= likelihood[0]).sum()))
    return np.array(found)


def run(
    task: Task, titles: list[str], lm: Any, tokenizer: Any, scorers: dict[str, Scorer], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """A row of figures for every scorer and budget."""
    from transformers import DataCollatorForSeq2Seq

    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    template = PromptTemplate.build(task.tokens, [" ".join(t.split()[:TITLE_WORDS]) for t in titles], tokenizer)
    train = [template.feature(*row) for row in rows_of(task.train, options.train_rows, 0)]
    # The last item of a test sequence is the target; a row is one user.
    drawn = np.random.default_rng(1).permutation(len(task.test))[: options.test_rows]
    test = [(task.test[i][-HISTORY - 1 : -1], task.test[i][-1]) for i in drawn]
    users = [task.users[i] for i in drawn]
    ranks: dict[tuple[str, int], list[NDArray[np.int64]]] = {}
    figures = []
    for budget in BUDGETS:
        for name, scorer in scorers.items():
            collator = SelectorCollator(DataCollatorForSeq2Seq(tokenizer), scorer, Budget(tokens=budget))
            begun, tokens = time.perf_counter(), sum(len(feature["input_ids"]) for feature in collator.cut(train))
            for seed in options.seeds:
                model = GenerativeRecommender(copy.deepcopy(lm), template)
                model.fit(train, collator, options.epochs, batch_size=16, learning_rate=2e-4, seed=seed)
                ranks.setdefault((name, budget), []).append(rank(model, collator, test, len(task.tokens)))
            found = np.stack(ranks[name, budget])
            figures.append(
                {
                    "scorer": name,
                    "k": budget,
                    "NDCG@10": float(ndcg(found, 10).mean()),
                    "Recall@1": float(recall(found, 1).mean()),
                    "tokens a prompt": tokens / len(train),
                    "seconds": time.perf_counter() - begun,
                }
            )
            for rival in ("head", "tfidf"):
                if (rival, budget) in ranks and rival != name:
                    other = np.stack(ranks[rival, budget])
                    difference = paired_bootstrap(ndcg(found, 10).mean(0), ndcg(other, 10).mean(0), users)
                    figures[-1][f"minus {rival} (95%)"] = "{:+.4f} [{:+.4f}, {:+.4f}]".format(*difference)
            print(figures[-1], flush=True)
    return figures


def main() -> None:
    """Learn the selector, compare, write the results file."""
    parser = make_parser(__doc__, seeds=[0])
    parser.add_argument("--category", default=CATEGORIES[0], choices=CATEGORIES)
    parser.add_argument("--fields", default="title,description")
    parser.add_argument("--layers", type=int, help="by default all")
    parser.add_argument("--train-rows", type=int, default=3000)
    parser.add_argument("--test-rows", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=0)
    options = parser.parse_args()
    origin = environment(options.seeds[0])
    lm, tokenizer = load_causal_lm(options.model, options.layers)
    items, train, test = read_category(options.data, options.category)
    task = prepare(items, train, test, tokenizer, options.fields.split(","))
    learned, _, seconds = learn(task, untrained(tokenizer, task), REAL)
    scorers: dict[str, Scorer] = {
        "head": make_scorer("head"), "random": make_scorer("random"),
        "tfidf": make_scorer("tfidf").fit(task.tokens), "selector": learned,
    }  # fmt: skip
    titles = [item.fields.get("title", "") for item in items]
    rows = run(task, titles, lm, tokenizer, scorers, options)
    settings = {key: str(value) for key, value in vars(options).items() if key not in ("data", "model", "output")}
    write_results(options.output, {"settings": settings, "learning_seconds": seconds, "rows": rows}, origin)


if __name__ == "__main__":
    main()
