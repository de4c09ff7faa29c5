"""The commands: ``tsporec demo | train | evaluate | show | compress | card | push``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from tsporec.cli import catalog as catalog_commands
from tsporec.cli import hub as hub_commands
from tsporec.cli.options import (
    FieldsOption,
    FormatOption,
    GranularityOption,
    ItemsOption,
    ModelOption,
    SelectorOption,
    build_scorer,
    clean_errors,
    names,
    numbers,
)
from tsporec.selector import hub

app = typer.Typer(
    help="Keep the tokens of an item's text that an LLM recommender recommends best with.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
@clean_errors
def demo(
    budget: Annotated[int, typer.Option(help="Tokens to keep of each text.")] = 4,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    output: Annotated[Path | None, typer.Option(help="Write a results file (JSON) here.")] = None,
) -> None:
    """Run the whole job on a generated catalogue, without a download: select, recommend, compare."""
    from tsporec.cli.demo import run_demo

    run_demo(budget, seed, output)


@app.command()
@clean_errors
def train(
    items: ItemsOption,
    train_: Annotated[Path, typer.Option("--train", help="Training sequences. A tenth of the users is held out.")],
    model: ModelOption,
    output: Annotated[
        Path, typer.Option(help="Folder for the selector and the recommender. The same command resumes there.")
    ],
    budget: Annotated[
        str, typer.Option(help="Tokens to keep of each text, comma-separated. The recommender is adapted to the first.")
    ] = "8",
    reward: Annotated[
        str,
        typer.Option(help="Rewards, comma-separated: coconsumption, recommendation, identity. Several weigh alike."),
    ] = "coconsumption",
    item_rounds: Annotated[int, typer.Option(help="Rounds that learn weights for the items of this catalogue.")] = 2,
    network_rounds: Annotated[
        int, typer.Option(help="Rounds before them that train the network, which serves any text.")
    ] = 0,
    weighting: Annotated[
        str,
        typer.Option(
            help="Rule to start from: idf, tfidf or placed. Of several, the one that best predicts each training "
            "user's last item."
        ),
    ] = "idf",
    gate: Annotated[
        bool, typer.Option(help="Drop a round that lowers held-out NDCG@10. Costs one fit a round.")
    ] = False,
    fields: FieldsOption = "title,description",
    layers: Annotated[int | None, typer.Option(help="Read with the first layers of the model. Default: all.")] = None,
    max_tokens: Annotated[int, typer.Option(help="Read this many tokens of a text at most.")] = 256,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    format_: FormatOption = None,
    drop_unknown: Annotated[bool, typer.Option(help="Leave out items that the catalogue lacks.")] = False,
    push_to_hub: Annotated[
        str | None,
        typer.Option(
            help="Push the selector to this USER/NAME at the end, with the weights that it learned for your items."
        ),
    ] = None,
) -> None:
    """Learn a selector in three stages: warm up a recommender, learn from preferences, adapt the recommender.

    The same command resumes a run that was stopped.
    """
    from tsporec.data.readers import read_items, read_sequences
    from tsporec.evaluation.results import environment
    from tsporec.language_model import cut_layers, load_causal_lm
    from tsporec.learning.config import LearningConfig
    from tsporec.learning.pipeline import train as run_stages
    from tsporec.selector.config import SelectorConfig

    origin, weightings = environment(seed), tuple(names(weighting))
    config = LearningConfig(
        budgets=tuple(numbers(budget, "--budget", least=1)), network_rounds=network_rounds, item_rounds=item_rounds,
        rewards=dict.fromkeys(names(reward), 1.0), gate=gate, seed=seed,
        selector=SelectorConfig(weighting=weightings[0] if len(weightings) == 1 else "idf"),
        weightings=weightings if len(weightings) > 1 else (),
    )  # fmt: skip
    catalogue, sequences = read_items(items, format_), read_sequences(train_, format_)
    lm, tokenizer = load_causal_lm(model)
    done = run_stages(
        catalogue, sequences, cut_layers(lm, layers), tokenizer, output, config,
        fields=names(fields), max_tokens=max_tokens, unknown="drop" if drop_unknown else "error",
    )  # fmt: skip
    for name, value in done.trials.items():
        typer.echo(f"started from {name}: NDCG@10 {value:.4f} of training users' last items")
    for number, report in enumerate(done.rounds, start=1):
        kept = "kept" if report["kept"] else "dropped: held-out quality fell"
        quality = "" if report["quality"] is None else f", held-out NDCG@10 {report['quality']:.4f}"
        typer.echo(f"round {number}: {report['pairs']:,} pairs{quality}, {kept}")
    known = {
        "summary": f"Learned by tsporec train for {Path(model).name}.",
        "data": [f"{items.name} ({len(catalogue)} items)", f"{train_.name} ({len(sequences)} sequences)"],
        "tokenizers": [Path(model).name], "budgets": list(config.budgets), "environment": origin,
        "reward": ", ".join(f"{name} {weight:g}" for name, weight in config.rewards.items() if weight),
    }  # fmt: skip
    hub_commands.record_training(output / "selector", done.rounds, known, push_to_hub)
    typer.echo(f"selector in {output / 'selector'}, recommender in {output / 'recommender'}")


@app.command()
@clean_errors
def evaluate(
    items: ItemsOption,
    train: Annotated[Path, typer.Option(help="Training sequences.")],
    test: Annotated[Path, typer.Option(help="Test rows: the history, then the target. Nothing is chosen by them.")],
    model: ModelOption,
    budget: Annotated[str, typer.Option(help="Tokens to keep of each text, comma-separated.")] = "8,16,32",
    scorers: Annotated[
        str, typer.Option(help="Scorers, comma-separated. 'full' is the whole text.")
    ] = "head,random,tfidf,full",
    cases: Annotated[
        str,
        typer.Option(
            help="adapted, frozen or both, comma-separated: whether the recommender is trained on the selection."
        ),
    ] = "adapted",
    fields: FieldsOption = "title,description",
    layers: Annotated[int | None, typer.Option(help="Encode with the first layers of the model. Default: all.")] = None,
    scorer_layers: Annotated[
        int | None, typer.Option(help="Layers that the attention and centroid scorers read with. Default: --layers.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Read this many tokens of a text at most.")] = 256,
    seeds: Annotated[str, typer.Option(help="Seeds of the recommender, comma-separated.")] = "0",
    format_: FormatOption = None,
    selector: SelectorOption = hub.DEFAULT,
    classifier: Annotated[str | None, typer.Option(help="Checkpoint of the scorer llmlingua2.")] = None,
    drop_unknown: Annotated[bool, typer.Option(help="Leave out items that the catalogue lacks.")] = False,
    output: Annotated[Path | None, typer.Option(help="Write a results file (JSON) here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw quality against kept tokens to this PNG or SVG.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for finished work; the same command resumes there.")
    ] = None,
) -> None:
    """Compare scorers at equal budgets: quality on all test rows, tokens and time."""
    from tsporec.data.readers import read_items, read_sequences
    from tsporec.evaluation.evaluator import Evaluator
    from tsporec.evaluation.report import make_console, plot_quality, results_table
    from tsporec.evaluation.results import environment, write_results
    from tsporec.evaluation.task import prepare
    from tsporec.language_model import cut_layers, load_causal_lm
    from tsporec.recommenders.encoder import ItemEncoder

    budgets, seed_list = numbers(budget, "--budget", least=1), numbers(seeds, "--seeds", least=0)
    wanted = names(scorers)
    origin = environment(seed_list[0])
    catalogue = read_items(items, format_)
    rows = read_sequences(train, format_), read_sequences(test, format_)
    lm, tokenizer = load_causal_lm(model)
    unknown = "drop" if drop_unknown else "error"
    task = prepare(catalogue, *rows, tokenizer, names(fields), max_tokens, unknown)
    built = {
        name: build_scorer(name, task.tokens, lm, tokenizer, scorer_layers or layers, selector, classifier)
        for name in wanted
    }
    evaluator = Evaluator(task, ItemEncoder(cut_layers(lm, layers)), seeds=seed_list, cache=cache)
    evaluation = evaluator.run(built, budgets, names(cases))
    console = make_console()
    for case in names(cases):
        console.print(results_table(evaluation, case))
    if output:
        settings = {
            "items": items.name, "train": train.name, "test": test.name, "model": Path(model).name, "layers": layers,
            "scorer_layers": scorer_layers, "fields": names(fields), "max_tokens": max_tokens, "budgets": budgets,
        }  # fmt: skip
        write_results(output, {"command": "evaluate", "settings": settings, **evaluation.to_dict()}, origin)
        console.print(f"results written to {output}")
    if plot:
        console.print(f"plot written to {plot_quality(evaluation, plot)}")


@app.command()
@clean_errors
def show(
    model: Annotated[
        str, typer.Option(help="Tokenizer, and causal LM for scorers that read with one: a folder or a Hub id.")
    ],
    items: Annotated[Path | None, typer.Option(help="File of items.")] = None,
    catalog: Annotated[Path | None, typer.Option(help="Instead of --items: a compressed catalogue.")] = None,
    budget: Annotated[
        int | None, typer.Option(help="Tokens to keep of each text. Default: 16, or all that the catalogue keeps.")
    ] = None,
    scorer: Annotated[
        str | None,
        typer.Option(
            help="head, random, tfidf, self_information, attention, centroid or selector. Default: selector if "
            "--selector is given, else tfidf."
        ),
    ] = None,
    item: Annotated[
        list[str] | None, typer.Option(help="Id of an item; repeat it for more. Default: the first items.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of items without --item.")] = 3,
    fields: FieldsOption = "title,description",
    granularity: GranularityOption = "token",
    layers: Annotated[int | None, typer.Option(help="Read with the first layers of the model. Default: all.")] = None,
    selector: Annotated[
        str | None,
        typer.Option(help="The selector: a folder or a Hub id. Default: the bundled one."),
    ] = None,
    format_: FormatOption = None,
) -> None:
    """Highlight the tokens that a scorer keeps of some items, or print what a compressed catalogue holds."""
    if (items is None) == (catalog is None):
        raise ValueError("show takes either --items or --catalog.")
    if catalog is not None:
        return catalog_commands.show_stored(catalog, model, item, count, budget)
    from tsporec.data.items import tokenize_items
    from tsporec.data.readers import read_items
    from tsporec.evaluation.report import highlighted, make_console, plain_text
    from tsporec.language_model import load_causal_lm
    from tsporec.selection import pieces_of_words, select

    assert items is not None
    if scorer == "llmlingua2":
        raise ValueError(
            "show does not take the scorer llmlingua2, which needs a checkpoint of its own; compare it with others by "
            "tsporec evaluate --scorers llmlingua2 --classifier CHECKPOINT."
        )
    catalogue = read_items(items, format_)
    wanted = [found for found in catalogue if not item or found.id in item]
    if item and len(wanted) < len(set(item)):
        missing = sorted(set(item) - {found.id for found in wanted})
        raise ValueError(f"no item {missing[0]!r} in {items}, which has {len(catalogue)} items.")
    lm, tokenizer = load_causal_lm(model)
    corpus = tokenize_items(catalogue, tokenizer, names(fields))
    scorer = scorer or ("tfidf" if selector is None else "selector")
    built = build_scorer(scorer, corpus, lm, tokenizer, layers, selector or hub.DEFAULT, None)
    if built is None:
        raise ValueError("'full' keeps everything; name a scorer.")
    shown = wanted if item else wanted[:count]
    tokens = tokenize_items(shown, tokenizer, names(fields))
    whole_words = pieces_of_words(granularity, tokenizer)
    selection = select(built, tokens, 16 if budget is None else budget, whole_words=whole_words)
    console = make_console()
    for i, found in enumerate(shown):
        console.print(plain_text(found.id, "bold"), highlighted(tokens, selection, tokenizer, i), "")
    return None


app.command()(clean_errors(catalog_commands.compress))
app.command()(clean_errors(hub_commands.card))
app.command()(clean_errors(hub_commands.push))


def run() -> None:
    """Run the command that the arguments name."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    app()
