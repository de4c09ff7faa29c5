"""``tsporec train``: learn a selector from a user's data, and measure it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from tsporec.cli import hub, options
from tsporec.cli.data import Data, read_data
from tsporec.cli.evaluate import conclude, describe_selector, say_next
from tsporec.cli.options import advanced, load_model, names, numbers


def train(
    items: options.Items,
    interactions: options.Interactions,
    model: options.Model,
    output: Annotated[
        Path, typer.Option(help="Folder for the selector and the recommender. The same command resumes there.")
    ],
    test: options.Test = None,
    split: options.Split = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Tokens to keep of each text, comma-separated. The recommender is adapted to the first. Default: 8."
        ),
    ] = None,
    ratio: options.Ratios = None,
    keep: options.Keep = None,
    fields: options.Fields = options.FIELDS,
    verdict: Annotated[
        bool, typer.Option(help="Compare the selector with rules and the whole text at the end.")
    ] = True,
    seeds: options.Seeds = "0,1,2",
    json_: options.Json = False,
    push_to_hub: Annotated[
        str | None,
        typer.Option(
            help="Push the selector to this USER/NAME at the end, with the weights that it learned for your items."
        ),
    ] = None,
    format_: options.Format = None,
    id_field: options.IdField = None,
    reward: Annotated[
        str,
        advanced(help="Rewards, comma-separated: coconsumption, recommendation, identity. Several weigh alike."),
    ] = "coconsumption",
    weighting: Annotated[
        str,
        advanced(
            help="Rules to start from: idf, tfidf or placed. Of several, the one that best predicts each training "
            "user's last item."
        ),
    ] = "tfidf,placed",
    distinct: Annotated[
        str,
        advanced(
            help="Strengths with which items' selections are told apart, chosen from in the same way. none: they are "
            "left as they are."
        ),
    ] = "0,1.2",
    item_rounds: Annotated[
        int, advanced(min=0, help="Rounds of preferences that learn weights for the items of this catalogue.")
    ] = 0,
    network_rounds: Annotated[
        int, advanced(min=0, help="Rounds before them that train the network, which serves any text.")
    ] = 0,
    gate: Annotated[bool, advanced(help="Drop a round that lowers held-out NDCG@10.")] = True,
    layers: options.Layers = None,
    max_tokens: options.MaxTokens = None,
    seed: Annotated[int, advanced(help="Random seed of learning.")] = 0,
    drop_unknown: options.Drop = False,
    device: options.Device = "cpu",
) -> None:
    """Learn a selector from your items and interactions, adapt a recommender to it, and say what it is worth.

    The same command resumes a run that was stopped.
    """
    from tsporec.evaluation.measures import amount, size_of
    from tsporec.evaluation.results_file import environment
    from tsporec.language_model import cut_layers
    from tsporec.learning.config import REWARDS, LearningConfig
    from tsporec.learning.pipeline import train as run_stages
    from tsporec.selector.config import WEIGHTINGS

    origin = environment(seed)
    seed_list = numbers(seeds, "--seeds", least=0)
    config = LearningConfig(
        budgets=tuple(options.read_budgets(budget, ratio, "8")),
        weightings=tuple(names(weighting, "--weighting", WEIGHTINGS)), distinct=strengths(distinct),
        network_rounds=network_rounds, item_rounds=item_rounds,
        rewards=dict.fromkeys(names(reward, "--reward", REWARDS), 1.0), keep=tuple(options.patterns(keep)),
        gate=gate, seed=seed,
    )  # fmt: skip
    if push_to_hub is not None and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", push_to_hub):
        raise ValueError(f"--push-to-hub takes USER/NAME, of letters, digits, '-', '_' and '.'; found {push_to_hub!r}.")
    data = read_data(items, interactions, test, split, format_, id_field, fields, max_tokens, drop_unknown)
    lm, tokenizer = load_model(model, device)
    lm = cut_layers(lm, layers)
    if not (output / "selector").exists():
        typer.echo(reading_time(data, lm, tokenizer, config, verdict), err=True)
    done = run_stages(data.items, data.train, lm, tokenizer, output, config, **data.reading)
    for name, value in done.trials.items():
        typer.echo(f"{name}: NDCG@10 {value:.4f} of training users' last items, by a quick recommender", err=json_)
    typer.echo(f"started from {done.start}", err=json_)
    for number, report in enumerate(done.rounds, start=1):
        kept = "kept" if report["kept"] else "dropped: held-out quality fell"
        quality = "" if report["quality"] is None else f", held-out NDCG@10 {report['quality']:.4f}"
        typer.echo(f"round {number}: {report['pairs']:,} pairs{quality}, {kept}", err=json_)
    sizes = [size_of(one) for one in config.budgets]
    known = {
        "summary": f"Learned by tsporec train for {Path(model).name}, from the rule {done.start}.",
        "data": [f"{items.name} ({len(data.items)} items)", f"{interactions.name} ({len(data.train)} sequences)"],
        "tokenizers": [Path(model).name], "budgets": [amount(size) for size in sizes], "environment": origin,
    }  # fmt: skip
    if done.rounds:
        known["reward"] = ", ".join(f"{name} {weight:g}" for name, weight in config.rewards.items() if weight)
    hub.record_training(output / "selector", done.rounds, known, push_to_hub)
    if verdict:
        settings = {
            **data.origin, "model": Path(model).name, "layers": layers, "budgets": sizes, "keep": list(config.keep),
            "starts from": str(done.start), **describe_selector(str(output / "selector"), done.selector),
        }  # fmt: skip
        compare_learned(data, lm, tokenizer, done, config, seed_list, output, settings, origin, json_)
    typer.echo(f"selector in {output / 'selector'}, recommender in {output / 'recommender'}", err=json_)
    if max_tokens is not None:  # a catalogue holds whole texts
        return
    say_next(
        json_, "compress", items=items, model=model, selector=output / "selector", keep=keep, fields=fields,
        id_field=id_field, format=format_, budget=sizes[0], output=output / "catalog",
    )  # fmt: skip


def reading_time(data: Data, lm: Any, tokenizer: Any, config: Any, verdict: bool) -> str:
    """Say how long the language model reads for, by the time that it takes for some 16 items."""
    from time import perf_counter

    from tsporec._internal.progress import duration
    from tsporec.data.items import tokenize_items
    from tsporec.learning.pipeline import all_starts
    from tsporec.recommenders.encoder import ItemEncoder
    from tsporec.scorers import make_scorer
    from tsporec.selection import select
    from tsporec.selector.config import WEIGHTINGS

    some = data.items[:: max(1, len(data.items) // 16)]
    tokens = tokenize_items(some, tokenizer, data.reading["fields"], data.reading["max_tokens"])
    encoder = ItemEncoder(lm)

    def seconds(budget: Any = None) -> float:
        part = tokens if budget is None else select(make_scorer("head"), tokens, budget).apply(tokens)
        began = perf_counter()
        encoder.encode(part)
        return (perf_counter() - began) * len(data.items) / len(some)

    seconds(config.budgets[0])  # the first time is slower
    total = (len(all_starts(config)) + 1) * seconds(config.budgets[0])  # the last to adapt the recommender
    if verdict:
        total += (len(WEIGHTINGS) + 2) * sum(map(seconds, config.budgets)) + seconds()
    rounds = " and rounds of preferences" if config.item_rounds + config.network_rounds else ""
    return f"reading the texts takes {duration(total)}; fitting recommenders{rounds} comes on top"


def strengths(text: str) -> tuple[float, ...]:
    """Read --distinct.

    >>> strengths("0,1.2"), strengths("none")
    ((0.0, 1.2), ())
    """
    try:
        return () if text == "none" else tuple(float(part) for part in names(text))
    except ValueError:
        raise ValueError(f"--distinct takes numbers of at least 0, comma-separated, or none; found {text!r}.") from None


def compare_learned(
    data: Data, lm: Any, tokenizer: Any, done: Any, config: Any, seeds: list[int], output: Path,
    settings: dict[str, Any], origin: dict[str, Any], json_: bool,
) -> None:  # fmt: skip
    """Measure the selector, the rules it may start from and the whole text on the test rows; keep the results."""
    from tsporec.evaluation.evaluator import FULL, Evaluator
    from tsporec.evaluation.task import prepare
    from tsporec.recommenders.encoder import ItemEncoder
    from tsporec.scorers import make_scorer
    from tsporec.selector.config import WEIGHTINGS

    task = prepare(data.items, data.train, data.rows, tokenizer, **data.reading)
    start = done.start.weighting
    scorers: dict[str, Any] = {"head": make_scorer("head")}
    for weighting in sorted(WEIGHTINGS, key=lambda name: name == start):
        name = "untrained" if weighting == start else weighting
        scorers[name] = options.untrained(weighting, tokenizer, task.tokens)
    scorers |= {"selector": done.selector, FULL: None}
    scorers = {name: options.keeping(scorer, tokenizer, config.keep) for name, scorer in scorers.items()}
    evaluator = Evaluator(task, ItemEncoder(lm), seeds=seeds, cache=output / "evaluation")
    evaluation = evaluator.run(scorers, config.budgets, rivals=list(scorers))
    conclude(
        evaluation, {"command": "train", "settings": settings}, origin, output / "results.json", json_, details=False,
        items=data.items, tokens=task.tokens, scorers=scorers, tokenizer=tokenizer,
    )  # fmt: skip
