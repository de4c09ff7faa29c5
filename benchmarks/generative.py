"""Compare selections in a generative recommender: a causal LM that reads prompts which hold what each keeps.

python -m benchmarks.generative --data DIR --model DIR --category Office_Products --output FILE

The prompt shows the last items of a history, each cut to the budget; the label is the first words of the next item's
title. Recommendation candidates, the true next item and nine others sampled at random, are ranked by the exact
likelihood of their labels. The selector gives each item the first tokens or tf-idf's ranking, by the log-likelihood of
labels after training histories that hold it.

With ``--epochs 0`` the LM stays as it is. Otherwise the three stages are run: it is fine-tuned on mixed cuts, gives the
reward, and is fine-tuned on each selection, always on the same rows; ``--train-layers`` are its last ones that learn.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from benchmarks.datasets import CATALOGUES, read_catalogue
from benchmarks.learning import untrained
from benchmarks.options import comma_separated, make_parser
from benchmarks.tables import interval
from tsporec.budget import Budget
from tsporec.collators.mixed import MixedCollator
from tsporec.collators.selector import SelectorCollator
from tsporec.evaluation.results import environment, write_results
from tsporec.evaluation.task import Task, prepare
from tsporec.language_model import layer_stack, load_causal_lm
from tsporec.learning.best_of import best_of, ranking_rewards
from tsporec.learning.rewards.label import LabelReward
from tsporec.metrics import ndcg, paired_bootstrap, recall
from tsporec.recommenders.generative import GenerativeRecommender, PromptTemplate
from tsporec.scorers import Scorer, make_scorer
from tsporec.selector.model import TokenSelector

LEARNING_RATE = 2e-4
HISTORY, TITLE_WORDS, CANDIDATES = 4, 6, 10
BUDGETS = (8, 16)
MARGINS = (0.0, 0.5, 1.0, 2.0, math.inf)
"""Margins of the reward that are tried on held-out users, in nats a context."""

Row = tuple[list[int], int]


def rows_of(sequences: list[list[int]], count: int | None, seed: int) -> list[Row]:
    """Sample ``count`` places of ``sequences`` (None: all): the last items before each, and its own."""
    places = [(s[max(0, i - HISTORY) : i], s[i]) for s in sequences for i in range(1, len(s))]
    return [places[i] for i in np.random.default_rng(seed).permutation(len(places))[:count]]


def candidates_of(row: Row, items: int, rng: np.random.Generator) -> list[int]:
    """Return the target, then others that are not in the history."""
    history, target = row
    others = rng.choice(items, size=CANDIDATES + HISTORY, replace=False).tolist()
    return [target, *[i for i in others if i != target and i not in history][: CANDIDATES - 1]]


def last_rows(sequences: list[list[int]]) -> list[Row]:
    """Return the last item of each sequence and those before it."""
    return [(sequence[-HISTORY - 1 : -1], sequence[-1]) for sequence in sequences]


def covering(rows: list[Row], items: set[int], limit: int) -> list[Row]:
    """Choose up to ``limit`` rows, each with an item of ``items`` in its history that no row before it has."""
    chosen, missing = [], set(items)
    for row in rows:
        if len(chosen) < limit and missing & set(row[0]):
            chosen.append(row)
            missing -= set(row[0])
    return chosen


def learn_from_labels(
    model: GenerativeRecommender, base: Any, task: Task, start: TokenSelector, rows: list[Row], held: list[Row]
) -> tuple[Scorer, dict[str, Any]]:
    """Choose for each item the ranking that makes the labels of ``rows`` likelier by a margin: (selector, report).

    The margin is the one after which the labels of ``held`` are likeliest. An item in none of ``rows`` takes the
    ranking that is better on the whole.
    """
    start_time, template, budget = time.perf_counter(), model.template, BUDGETS[0]
    rules = {"head": make_scorer("head"), "tfidf": make_scorer("tfidf").fit(task.tokens)}
    reward = LabelReward(model.model, base, [template.feature(*row) for row in rows], rest=budget)
    rated = ranking_rewards(reward.segments, list(rules.values()), reward, (budget,))
    order = np.argsort(-rated.mean(axis=0), kind="stable")
    ordered = [list(rules.values())[i] for i in order]
    spans = np.array([item for history, _ in rows for item in history if len(task.tokens[item])])
    rewards = np.zeros((len(task.tokens), len(rules)), dtype=np.float32)
    np.add.at(rewards, spans, rated[:, order])
    rewards /= np.bincount(spans, minlength=len(rewards)).clip(1)[:, None].astype(np.float32)
    made = {margin: best_of(task.tokens, start, ordered, rewards, margin) for margin in MARGINS}
    features = [template.feature(*row) for row in held]
    likely = {margin: label_log_likelihood(model, SelectorCollator(base, one, Budget(tokens=budget)), features)
              for margin, one in made.items()}  # fmt: skip
    best = max(MARGINS, key=lambda margin: likely[margin])
    return made[best], {
        "seconds": time.perf_counter() - start_time, "rows": len(rows), "items": len(set(spans.tolist())),
        "first": list(rules)[order[0]], "margin": str(best),
        "held-out log-likelihood by margin": {str(margin): value for margin, value in likely.items()},
    }  # fmt: skip


@torch.inference_mode()
def label_log_likelihood(model: GenerativeRecommender, collator: Any, features: list[dict[str, Any]]) -> float:
    """Return the mean over ``features``, in nats a label token."""
    found = [
        -float(model.model(**collator([dict(feature)])).loss)
        for feature in tqdm(features, desc="held", disable=None, leave=False)
    ]
    return float(np.mean(found))


def rank(model: GenerativeRecommender, collator: Any, rows: list[Row], items: int) -> NDArray[np.int64]:
    """Rank each row's target among its candidates: int64 ``[R]``. An equal likelihood counts against it."""
    rng, found = np.random.default_rng(0), []
    for row in tqdm(rows, desc="rank", disable=None, leave=False):
        (feature,) = collator.cut([model.template.feature(row[0])])
        likelihood = model.candidate_log_likelihoods(feature, candidates_of(row, items, rng))
        found.append(int((likelihood >= likelihood[0]).sum()))
    return np.array(found)


def run(
    start: GenerativeRecommender,
    base: Any,
    scorers: dict[str, Scorer],
    rows: tuple[list[Row], list[Row]],
    users: list[str],
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Return figures for every scorer and budget. ``rows`` are those to train on and those to test on."""
    template = start.template
    train, test = [template.feature(*row) for row in rows[0]], rows[1]
    ranks: dict[tuple[str, int], list[NDArray[np.int64]]] = {}
    figures = []
    for budget in BUDGETS:
        for name, scorer in scorers.items():
            collator = SelectorCollator(base, scorer, Budget(tokens=budget))
            start_time, read = time.perf_counter(), [template.feature(history) for history, _ in test]
            tokens = sum(len(feature["input_ids"]) for feature in collator.cut(read))
            for seed in options.seeds:
                model = GenerativeRecommender(copy.deepcopy(start.model), template)
                model.fit(train, collator, options.epochs, batch_size=16, learning_rate=LEARNING_RATE, seed=seed)
                ranks.setdefault((name, budget), []).append(rank(model, collator, test, len(template.texts)))
            found = np.stack(ranks[name, budget])
            figures.append(
                {
                    "scorer": name,
                    "k": budget,
                    "NDCG@10": float(ndcg(found, 10).mean()),
                    "Recall@1": float(recall(found, 1).mean()),
                    "tokens a prompt": tokens / len(test),
                    "seconds": time.perf_counter() - start_time,
                }
            )
            for rival in ("head", "tfidf"):
                if (rival, budget) in ranks and rival != name:
                    other = np.stack(ranks[rival, budget])
                    difference = paired_bootstrap(ndcg(found, 10).mean(0), ndcg(other, 10).mean(0), users)
                    figures[-1][f"minus {rival} (95%)"] = interval(difference)
            print(figures[-1], flush=True)
    return figures


def warm_up(model: GenerativeRecommender, base: Any, rules: list[Scorer], rows: list[Row], epochs: int) -> None:
    """Fine-tune on what the rules keep at every budget, one of these cuts in each feature."""
    cuts = [SelectorCollator(base, rule, Budget(tokens=k)) for rule in rules for k in BUDGETS]
    features = [model.template.feature(*row) for row in rows]
    model.fit(features, MixedCollator(cuts), epochs, batch_size=16, learning_rate=LEARNING_RATE)


def train_last_layers(model: Any, count: int | None) -> None:
    """Leave the weights below the last ``count`` layers as they are, embeddings included; None: none."""
    if count is not None:
        if count < 1:
            raise ValueError(f"at least the last layer must learn; found {count}.")
        model.requires_grad_(False)
        for layer in layer_stack(model)[-count:]:
            layer.requires_grad_(True)


def main() -> None:
    """Learn the selector, compare, write the results file."""
    from transformers import DataCollatorForSeq2Seq

    parser = make_parser(__doc__, seeds=[0])
    parser.add_argument("--category", default=CATALOGUES[0], choices=CATALOGUES)
    parser.add_argument("--fields", type=comma_separated, default=["title", "description"])
    parser.add_argument("--layers", type=int, help="by default all")
    parser.add_argument("--train-layers", type=int, help="the last ones, which are fine-tuned; by default all")
    parser.add_argument("--train-rows", type=int, default=3000, help="to fine-tune on")
    parser.add_argument("--reward-rows", type=int, default=300, help="whose labels the selector learns from")
    parser.add_argument("--held-rows", type=int, default=80, help="of held-out users, to choose the margin by")
    parser.add_argument("--test-rows", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=0)
    options = parser.parse_args()
    origin = environment(options.seeds[0])
    lm, tokenizer = load_causal_lm(options.model, options.layers)
    catalogue = read_catalogue(options.data, options.category)
    items, train, test = catalogue.items, catalogue.train, catalogue.test
    task = prepare(items, train, test, tokenizer, options.fields)
    tokenizer.padding_side = "left"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    titles = [" ".join(item.fields.get("title", "").split()[:TITLE_WORDS]) for item in items]
    template = PromptTemplate.build(task.tokens, titles, tokenizer)
    base, start = DataCollatorForSeq2Seq(tokenizer), untrained(tokenizer, task)
    sampled = np.random.default_rng(1).permutation(len(task.test))[: options.test_rows].tolist()
    test_rows, held = last_rows([task.test[i] for i in sampled]), last_rows(task.held_out)[: options.held_rows]
    # The reward is measured on labels that the LM was not fitted to: those of other users.
    fitted, rated = (task.train[0::2], task.train[1::2]) if options.epochs else ([], task.train)
    train_rows, model = rows_of(fitted, options.train_rows, 0), GenerativeRecommender(lm, template)
    scorers: dict[str, Scorer] = {
        "head": make_scorer("head"), "random": make_scorer("random"), "tfidf": make_scorer("tfidf").fit(task.tokens),
    }  # fmt: skip
    train_last_layers(lm, options.train_layers)
    warm_up(model, base, [*scorers.values(), start], train_rows, options.epochs)
    # Only items that are read here are worth a forward: those before the targets, which are not looked at.
    read = {item for history, _ in test_rows + held for item in history}
    rows = covering(rows_of(rated, None, 0), read, options.reward_rows)
    scorers["selector"], report = learn_from_labels(model, base, task, start, rows, held)
    print(report, flush=True)
    users = [task.users[i] for i in sampled]
    figures = run(model, base, scorers, (train_rows, test_rows), users, options)
    settings = {key: str(value) for key, value in vars(options).items() if key not in ("data", "model", "output")}
    write_results(options.output, {"settings": settings, "learning": report, "rows": figures}, origin)


if __name__ == "__main__":
    main()
