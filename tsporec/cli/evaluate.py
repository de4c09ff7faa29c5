"""``tsporec evaluate``, and the verdict that it and ``tsporec train`` end with."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from tsporec.cli import options
from tsporec.cli.data import read_data
from tsporec.cli.options import advanced, build_scorer, check_scorers, load_model, names, numbers


def evaluate(
    items: options.Items,
    interactions: options.Interactions,
    model: options.Model,
    test: options.Test = None,
    split: options.Split = None,
    budget: Annotated[
        str | None, typer.Option(help="Tokens to keep of each text, comma-separated. Default: 8,16,32.")
    ] = None,
    ratio: options.Ratios = None,
    scorers: Annotated[
        str | None,
        typer.Option(
            help="Scorers, comma-separated: rules, models, 'untrained' (the rule that the selector started from), "
            "'selector' and 'full' (the whole text). Default: head,random,tfidf,full, and with --selector also "
            "untrained,selector."
        ),
    ] = None,
    selector: options.Selector = None,
    keep: options.Keep = None,
    fields: options.Fields = options.FIELDS,
    seeds: options.Seeds = "0,1,2",
    margin: Annotated[
        float | None,
        typer.Option(
            help="Exit with code 3 if the short texts lose more than this share of the whole text's NDCG@10, beyond "
            "the interval, and with code 4 if the test rows cannot tell."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write a results file (JSON) here.")] = None,
    json_: options.Json = False,
    plot: Annotated[Path | None, typer.Option(help="Draw quality against kept tokens to this PNG or SVG.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for finished work; the same command resumes there.")
    ] = None,
    cases: Annotated[
        str,
        advanced(help="adapted, frozen or both, comma-separated: whether the recommender is trained on the selection."),
    ] = "adapted",
    layers: options.Layers = None,
    scorer_layers: Annotated[
        int | None,
        advanced(help="Layers that the attention and centroid scorers read with. Default: --layers."),
    ] = None,
    max_tokens: options.MaxTokens = None,
    format_: options.Format = None,
    id_field: options.IdField = None,
    classifier: Annotated[str | None, advanced(help="Checkpoint of the scorer llmlingua2.")] = None,
    drop_unknown: options.Drop = False,
    device: options.Device = "cpu",
) -> None:
    """Compare scorers at equal budgets: quality on held-out interactions, tokens and time."""
    from tsporec.evaluation.evaluator import CASES, Evaluator
    from tsporec.evaluation.measures import amount, counted, size_of
    from tsporec.evaluation.report import check_plot, plot_quality
    from tsporec.evaluation.results_file import environment
    from tsporec.evaluation.task import prepare
    from tsporec.language_model import cut_layers
    from tsporec.recommenders.encoder import ItemEncoder

    budgets, seed_list = options.read_budgets(budget, ratio, "8,16,32"), numbers(seeds, "--seeds", least=0)
    default = f"head,random,tfidf,{'untrained,selector,' if selector else ''}full"
    wanted = names(default if scorers is None else scorers, "--scorers")
    check_scorers(wanted, selector, classifier)
    if plot is not None:
        check_plot(plot)
    if output is not None and output.is_dir():
        raise ValueError(f"--output is a file to write; {output} is a folder.")
    if margin is not None and "full" not in wanted:
        raise ValueError("--margin compares with the whole text; add full to --scorers.")
    origin = environment(seed_list[0])
    data = read_data(items, interactions, test, split, format_, id_field, fields, max_tokens, drop_unknown)
    lm, tokenizer = load_model(model, device)
    task = prepare(data.items, data.train, data.rows, tokenizer, **data.reading)
    built = {
        name: build_scorer(name, task.tokens, lm, tokenizer, scorer_layers or layers, selector, classifier)
        for name in wanted
    }
    described = describe_selector(selector, built.get("selector"))  # without what keeps patterns before it
    built = {name: options.keeping(scorer, tokenizer, keep) for name, scorer in built.items()}
    evaluator = Evaluator(task, ItemEncoder(cut_layers(lm, layers)), seeds=seed_list, cache=cache)
    evaluation = evaluator.run(built, budgets, names(cases, "--cases", CASES), rivals=wanted)
    settings = {
        **data.origin, "model": Path(model).name, "layers": layers, "scorer_layers": scorer_layers,
        "budgets": [size_of(one) for one in budgets],
        "keep": options.patterns(keep), **described,
    }  # fmt: skip
    verdict = conclude(
        evaluation, {"command": "evaluate", "settings": settings}, origin, output, json_, details=True,
        items=data.items, tokens=task.tokens, scorers=built, tokenizer=tokenizer,
    )  # fmt: skip
    if plot:
        typer.echo(f"plot written to {plot_quality(evaluation, plot)}", err=json_)
    if verdict is None:
        return
    known = {
        "items": items, "model": model, "keep": keep, "fields": fields, "id_field": id_field, "format": format_,
        "budget": verdict.budget,
    }  # fmt: skip
    if "selector" in wanted:
        if max_tokens is None:  # a catalogue holds whole texts
            say_next(json_, "compress", **known, selector=selector, output="catalog")
    else:
        known |= {"interactions": interactions, "test": test, "split": split, "layers": layers}
        say_next(json_, "train", **known, max_tokens=max_tokens, drop_unknown=drop_unknown, output="run")
    if margin is not None and (lost := verdict.fails(margin)):
        typer.echo(
            f"error: {', '.join(map(amount, lost))} lose more than {margin:.1%} of the whole text's NDCG@10 "
            "(--margin), beyond the interval.",
            err=True,
        )
        raise typer.Exit(3)
    if margin is not None and (untold := verdict.untold(margin)):
        typer.echo(
            f"error: {counted(verdict.rows, 'test row')} and {counted(verdict.seeds, 'seed')} cannot tell what "
            f"{', '.join(map(amount, untold))} lose (--margin); give more users, --split time or more --seeds.",
            err=True,
        )
        raise typer.Exit(4)


def conclude(
    evaluation: Any, results: dict[str, Any], origin: dict[str, Any], output: Path | None, json_: bool, *,
    details: bool, items: Any, tokens: Any, scorers: dict[str, Any], tokenizer: Any,
) -> Any:  # fmt: skip
    """Print the tables, five texts and the verdict, or JSON of them, and write the results file.

    Returns the verdict on the first case; None if no short text was measured.
    """
    import numpy as np

    from tsporec.evaluation.measures import budget_of
    from tsporec.evaluation.report import details_table, make_console, print_texts, results_table
    from tsporec.evaluation.results_file import write_results
    from tsporec.evaluation.verdict import judge
    from tsporec.selection import select

    cases = dict.fromkeys(cell.case for cell in evaluation.cells)
    short = any(cell.budget for cell in evaluation.cells)
    verdicts = {case: judge(evaluation, case) for case in cases} if short else {}
    results |= {"verdicts": {case: found.to_dict() for case, found in verdicts.items()}, **evaluation.to_dict()}
    first = next(iter(verdicts.values()), None)
    scorer: Any = None if first is None else scorers[first.scorer]
    marks = getattr(scorer, "marks", None)
    if first is not None and (marks is not None or not json_):
        selection = select(scorer, tokens, budget_of(first.budget))
    if marks is not None:
        asked = marks(tokens)
        results["keep"] = {"tokens": int(asked.sum()), "kept": int(asked[selection.kept].sum())}
    if output:
        write_results(output, results, origin)
    if json_:
        typer.echo(json.dumps({"environment": origin, **results}, indent=1))
        return first
    console = make_console()
    if first is not None:
        cut = np.flatnonzero(np.diff(selection.cu_seqlens) < tokens.lengths)[:5]
        print_texts(console, [item.id for item in items], tokens, selection, tokenizer, cut.tolist())
        same = (first.scorer, first.budget)
        share = next(cell.distinct for cell in evaluation.cells if (cell.scorer, cell.budget) == same)
        console.print(f"{share:.1%} of the items keep tokens that no item of another text keeps.")
        named = results.get("keep", {"tokens": 0})
        if named["tokens"]:
            console.print(options.kept_share(named["tokens"], named["kept"], len(selection.kept)))
    for case in cases:
        if details:
            console.print(details_table(evaluation, case))
        console.print(results_table(evaluation, case))
        if case in verdicts:
            console.print(str(verdicts[case]), style="bold")
    if output:
        typer.echo(f"results written to {output}")
    return first


def say_next(json_: bool, command: str, **given: Any) -> None:
    """Print the command that comes next, if tables were printed. Options with their defaults are left out.

    >>> say_next(False, "compress", items=Path("my items.csv"), id_field=None, keep=["numbers"], budget=0.25)
    next: tsporec compress --items 'my items.csv' --keep numbers --ratio 0.25
    """
    words = ["tsporec", command]
    for name, value in given.items():
        flag = "--ratio" if name == "budget" and isinstance(value, float) else f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value and value != options.FIELDS:
            words += [part for one in (value if isinstance(value, list) else [value]) for part in (flag, str(one))]
    if not json_:
        typer.echo(f"next: {shlex.join(words)}")


def describe_selector(name: str | None, selector: Any) -> dict[str, Any]:
    """Name a selector in a results file by where it is and by its fingerprint."""
    if selector is None:
        return {}
    found = {"name": name or "tsporec/base", "fingerprint": selector.fingerprint}
    return {"selector": {**found, "frequencies": selector.frequencies}}
