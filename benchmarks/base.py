r"""Make the bundled selector, and for each category a sibling that has not seen it.

python -m benchmarks.base train --data DIR --model DIR --work DIR
python -m benchmarks.base zero-shot --data DIR --model DIR --work DIR --seeds 0,1,2 \
    --output benchmarks/results/base.json
python -m benchmarks.base card --results benchmarks/results

The first writes ``tsporec/selector/base`` and, to the work folder, a sibling for each category, made from the other
category alone. With ``--network`` it also learns, and goes on where it was stopped. The second measures each sibling on
the category it has not seen. The third puts these figures on the card, and beside them those of the bundled selector
itself, which ``benchmarks.portability real`` measured.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks import real
from benchmarks.datasets import CATEGORIES, read_task
from benchmarks.learning import untrained
from benchmarks.options import comma_separated, whole_numbers
from benchmarks.rule import CHOSEN, read_tokenizers
from benchmarks.tables import interval
from tsporec.evaluation.evaluator import Evaluator
from tsporec.evaluation.results import environment, write_results
from tsporec.evaluation.task import Task
from tsporec.learning.best_of import ranking_rewards
from tsporec.learning.config import LearningConfig
from tsporec.learning.rewards.coconsumption import CoConsumptionReward
from tsporec.learning.rounds import learn_selector
from tsporec.scorers import make_scorer
from tsporec.selector import files, hub
from tsporec.selector.card import model_card
from tsporec.selector.model import TokenSelector

BUDGETS = (8, 16)
LEARNING = LearningConfig(
    budgets=BUDGETS,
    network_rounds=1,
    item_rounds=0,
    candidates=12,
    pairs=4,
    network_training={"num_train_epochs": 2, "use_cpu": True, "patience": 1},
)
LIMITS = [
    "English, and the words of two kinds of goods (office, industrial and scientific); other catalogues are less sure."
]
MEASURED = (
    "NDCG@10 over all test rows of a category (title and description, k tokens of each item, seeds {seeds}; rows of "
    "this selector: {made_from}) of a "
    f"recommender that reads with SmolLM2's first {real.LAYERS} layers: adapted, it is fitted on each selection; "
    "frozen, it was warmed up on other selections. A sibling is made as this selector is, from the other category "
    "alone: its rows are of texts it had not seen, though the rule's weights were chosen on validation rows of both. "
    "This selector was made from both categories, so its rows are of texts "
    "it was made from; where it has none, it was not measured. head: the first k tokens; tfidf: fitted on the category "
    "itself. Differences are with 95% intervals over test rows."
)


def learn(
    corpora: Sequence[tuple[Any, Task]], folder: Path, network: bool
) -> tuple[TokenSelector, list[dict[str, Any]]]:
    """Make the rule over the texts' frequencies; with ``network``, a round of preferences on each corpus in turn."""
    parts = [(tokenizer, task.tokens) for tokenizer, task in corpora]
    if not network:
        return CHOSEN.fit(parts), []
    torch.manual_seed(0)
    selector = TokenSelector().fit(parts)
    reports = []
    for number, (tokenizer, task) in enumerate(corpora):
        reward = CoConsumptionReward(task.tokens, task.train)
        bound = selector.for_tokenizer(tokenizer)
        config = replace(LEARNING, seed=number)
        selector, rounds = learn_selector(task.tokens, bound, reward, folder / str(number), config)
        reports += rounds
        print(folder.name, number, len(tokenizer), rounds, flush=True)
    return selector, reports


def described(network: bool) -> dict[str, Any]:
    """Make what the card says of a selector with a network, or of one without."""
    if network:
        return {
            "summary": "A general selector for product texts, for any tokenizer.",
            "reward": "co-consumption: log-lift of the kept tokens in what the same users touched",
            "limits": LIMITS,
        }
    return {
        "summary": "A general rule for product texts, for any tokenizer: by what tokens spell, "
        "idf * sqrt(tf) / (1 + place) ** 0.4.",
        "reward": None,
        "limits": [*LIMITS, "A rule: no network has learned in it."],
    }


def train(data: Path, model: str, work: Path, network: bool) -> None:
    """Make the bundled selector and its siblings."""
    from transformers import AutoTokenizer

    origin = environment(0)
    tokenizers = read_tokenizers(data, AutoTokenizer.from_pretrained(model), work)
    names = [f"{name} ({len(tokenizer):,} ids)" for name, tokenizer in tokenizers.items()]
    tasks = {(c, name): read_task(data, c, tokenizer) for c in CATEGORIES for name, tokenizer in tokenizers.items()}
    made_from = {"base": list(CATEGORIES), **{f"sibling-{c}": [d for d in CATEGORIES if d != c] for c in CATEGORIES}}
    for made, categories in made_from.items():
        corpora = [(tokenizers[name], tasks[c, name]) for name in tokenizers for c in categories]
        selector, reports = learn(corpora, work / f"{made}-rounds", network)
        training = {
            **described(network),
            "data": [f"{c}, Amazon Reviews 2018 ({len(tasks[c, 'SmolLM2'].tokens):,} items, "
                     f"{len(tasks[c, 'SmolLM2'].train):,} users)" for c in categories],
            "terms": "the texts and sequences have their owners' terms and are not part of the package",
            "tokenizers": [names[0], *(f"{name}, trained on the same texts" for name in names[1:])],
            "budgets": list(BUDGETS), "rounds": len(reports), "license": "apache-2.0",
            "environment": origin,
        }  # fmt: skip
        selector.config = replace(selector.config, training=training)
        selector.save_pretrained(work / made)
        if made == "base":
            shutil.rmtree(hub.BUNDLED / made, ignore_errors=True)
            shutil.copytree(work / made, hub.BUNDLED / made)
            describe_base({})


def describe_base(training: dict[str, Any]) -> None:
    """Add to what the bundled selector says of its training, and make its card anew."""
    place = hub.BUNDLED / "base"
    files.describe(place, training)
    (place / files.CARD).write_text(model_card(files.read_config(place / files.CONFIG), hub.DEFAULT))
    print(f"{place}: {sum(file.stat().st_size for file in place.iterdir()):,} bytes")


def figures(results: Path) -> dict[str, Any]:
    """Make what the card says of quality: the siblings' figures, then those of the bundled selector itself."""
    found = json.loads((results / "base.json").read_text())
    rivals: dict[tuple[str, str, int], dict[str, dict[str, Any]]] = {}
    for row in found["rows"]:
        rivals.setdefault((row["unseen category"], row["case"], row["k"]), {})[row["scorer"]] = row
    measured_itself, seeds = {}, set()
    for path in sorted(results.glob("portability-real*.json")):
        measured = json.loads(path.read_text())
        seeds |= set(measured["seeds"])
        for row in measured["rows"]:
            if row["tokenizer"] == "SmolLM2":  # scored by the recommender's tokens
                measured_itself[row["category"], "adapted", row["k"]] = row
    rows = []
    for (category, case, k), scored in rivals.items():
        place = {"measured on": category, "case": case, "k": k}
        sibling = scored.pop("sibling")
        row = {**place, "selector": "sibling, had not seen these texts", "NDCG@10": sibling["NDCG@10"]}
        row |= {f"minus {name} (95%)": rival["sibling minus it (95%)"] for name, rival in scored.items()}
        rows.append({**row, **{name: rival["NDCG@10"] for name, rival in scored.items()}})
        if mine := measured_itself.get((category, case, k)):
            row = {**place, "selector": "this one, made from these texts", "NDCG@10": mine["NDCG@10"]}
            rows.append({**row, "minus head (95%)": interval(mine["minus head"])})
    return {"metrics": rows, "measured": MEASURED.format(seeds=_listed(found["seeds"]), made_from=_listed(seeds))}


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))


def zero_shot(
    data: Path, model: str, work: Path, seeds: list[int], cases: list[str], cache: Path
) -> list[dict[str, Any]]:
    """Rows: each sibling on the category it has not seen, against head, random and tf-idf (which is fitted there).

    ``lift``: mean over items of the co-consumption reward of what is kept, in nats, from all of the category's
    training users. NDCG@10 is that of a recommender adapted to each selection or, frozen, of the one of
    :mod:`benchmarks.real`, warmed up on other selections (an hour or so of CPU each).
    """
    from tsporec.language_model import load_causal_lm
    from tsporec.recommenders.encoder import ItemEncoder

    lm, tokenizer = load_causal_lm(model, real.LAYERS)
    rows = []
    for category in CATEGORIES:
        if not (work / f"sibling-{category}").exists():
            print(f"{category}: its sibling is not made yet", flush=True)
            continue
        task = read_task(data, category, tokenizer)
        scorers = {
            "head": make_scorer("head"), "random": make_scorer("random"),
            "tfidf": make_scorer("tfidf").fit(task.tokens),
            "sibling": TokenSelector.from_pretrained(work / f"sibling-{category}").for_tokenizer(tokenizer),
        }  # fmt: skip
        reward = CoConsumptionReward(task.tokens, [*task.train, *task.held_out])
        warm_up = real.warm_up(task, untrained(tokenizer, task))
        evaluator = Evaluator(task, ItemEncoder(lm), seeds=seeds, cache=cache, warm_up=warm_up)
        cells = evaluator.run(scorers, real.BUDGETS, cases, rivals=list(scorers)).cells
        ranked = {(cell.case, cell.budget, cell.scorer): cell for cell in cells}
        for case, k, name in product(cases, real.BUDGETS, scorers):
            row = {"unseen category": category, "case": case, "k": k, "scorer": name}
            row["lift (nats)"] = float(ranking_rewards(task.tokens, [scorers[name]], reward, [k]).mean())
            row["NDCG@10"] = ranked[case, k, name].metrics["ndcg@10"]
            if name != "sibling":
                row["sibling minus it (95%)"] = interval(ranked[case, k, "sibling"].versus[name]["ndcg@10"])
            rows.append(row)
            print(row, flush=True)
    return rows


def main() -> None:
    """Run one of the three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "zero-shot", "card"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--seeds", type=whole_numbers, default=[0], help="seeds of the recommender")
    parser.add_argument("--network", action="store_true", help="train: also learn a network from preferences")
    parser.add_argument("--cases", type=comma_separated, default=["adapted", "frozen"], help="recommenders")
    parser.add_argument(
        "--cache", type=Path, help="cells that are known are not measured again; default: WORK/evaluate"
    )
    parser.add_argument("--output", type=Path, help="zero-shot: the results file")
    parser.add_argument("--results", type=Path, help="card: the folder with base.json and portability-real.json")
    options = parser.parse_args()
    needed = ["results"] if options.what == "card" else ["data", "model", "work"]
    if missing := [f"--{name}" for name in needed if getattr(options, name) is None]:
        parser.error(f"{options.what} needs {', '.join(missing)}")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if options.what == "card":
        return describe_base(figures(options.results))
    if options.what == "train":
        return train(options.data, options.model, options.work, options.network)
    seeds = options.seeds
    origin = environment(seeds[0])
    rows = zero_shot(
        options.data, options.model, options.work, seeds, options.cases, options.cache or options.work / "evaluate"
    )
    if options.output:
        write_results(options.output, {"command": "zero-shot", "seeds": seeds, "rows": rows}, origin)
    return None


if __name__ == "__main__":
    main()
