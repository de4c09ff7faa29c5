"""``tsporec show``: the kept tokens of some items, of a file or of a compressed catalogue."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from tsporec.cli import options
from tsporec.cli.options import build_scorer, check_scorers, load_model, names


def show(
    model: Annotated[
        str, typer.Option(help="Tokenizer, and causal LM for scorers that read with one: a folder or a Hub id.")
    ],
    items: Annotated[Path | None, typer.Option(help="File of items.")] = None,
    catalog: Annotated[Path | None, typer.Option(help="Instead of --items: a compressed catalogue.")] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Tokens to keep of each text, comma-separated. Default: 16, or all that the catalogue keeps."
        ),
    ] = None,
    ratio: options.Ratios = None,
    scorer: Annotated[
        str | None,
        typer.Option(
            help="head, random, tfidf, self_information, attention, centroid or selector; several, comma-separated, "
            "stand under each other. Default: head,tfidf,selector for one item and for a file; for several items "
            "selector if --selector is given, else tfidf."
        ),
    ] = None,
    item: Annotated[
        list[str] | None, typer.Option(help="Id of an item; repeat it for more. Default: the first items.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Number of items without --item. Default: 3, or 50 on a page.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with a budget slider here, one file for any browser.")
    ] = None,
    svg: Annotated[Path | None, typer.Option(help="Draw the first item to this SVG file.")] = None,
    fields: options.Fields = "title,description",
    granularity: options.Granularity = "word",
    keep: options.Keep = None,
    selector: options.Selector = None,
    format_: options.Format = None,
    id_field: options.IdField = None,
    layers: options.Layers = None,
    device: options.Device = "cpu",
) -> None:
    """Show what scorers keep of some items: in the terminal, on a page or as a picture; or a compressed catalogue."""
    if (items is None) == (catalog is None):
        raise ValueError("show takes either --items or --catalog.")
    if catalog is not None and (ratio is not None or html or svg):
        raise ValueError(
            "a catalogue has its tokens in order of their scores; give --budget, and leave out --ratio, --html and "
            "--svg, or give --items."
        )
    if catalog is not None:
        k = None if budget is None else options.read_budget(budget, None, "--catalog")
        return _show_stored(catalog, model, item, count or 3, k)
    if html and ratio is not None:
        raise ValueError("a page has a slider of budgets; give --budget in place of --ratio.")
    budgets = options.read_budgets(budget, ratio, "16")
    from tsporec._internal.files import write_whole
    from tsporec._internal.terminal import printable
    from tsporec.data.items import check_fields, tokenize_items
    from tsporec.data.readers import read_items
    from tsporec.evaluation.measures import size_label, size_of
    from tsporec.evaluation.page import make_page
    from tsporec.evaluation.picture import draw_text
    from tsporec.evaluation.report import compare_texts, make_console, print_texts
    from tsporec.language_model import load_tokenizer
    from tsporec.selection import select

    assert items is not None
    count = len(item) if item else count or (50 if html else 3)
    alone = "tfidf" if selector is None else "selector"
    wanted = names(scorer or ("head,tfidf,selector" if html or svg or count == 1 else alone), "--scorer")
    if unfit := {"llmlingua2", "full"} & set(wanted):
        raise ValueError(
            f"show does not take the scorer {min(unfit)}: 'full' keeps everything, and llmlingua2 needs a checkpoint. "
            "Compare it with others by tsporec evaluate --scorers llmlingua2 --classifier CHECKPOINT."
        )
    check_scorers(wanted, selector, None)
    catalogue = read_items(items, format_, id_field)
    check_fields(catalogue, names(fields, "--fields"))
    known = {found.id for found in catalogue}
    if missing := [one for one in item or () if one not in known]:
        raise ValueError(f"no item {missing[0]!r} in {items}, which has {len(catalogue)} items.")
    reads = {"self_information", "attention", "centroid"} & set(wanted)
    lm, tokenizer = load_model(model, device) if reads else (None, load_tokenizer(model))
    corpus = tokenize_items(catalogue, tokenizer, names(fields, "--fields"))
    built = {name: build_scorer(name, corpus, lm, tokenizer, layers, selector, None) for name in wanted}
    built = {name: options.keeping(one, tokenizer, keep) for name, one in built.items()}
    shown = [found for found in catalogue if found.id in item] if item else catalogue[:count]
    ids, tokens = [found.id for found in shown], tokenize_items(shown, tokenizer, names(fields, "--fields"))
    if html:
        write_whole(html, make_page(ids, tokens, built, tokenizer, budgets, granularity).encode())
        typer.echo(f"page of {len(shown)} items written to {html}")
    selections = {
        name if len(budgets) == 1 else f"{name} {size_label(size_of(kept))}":
        select(one, tokens, kept, granularity=granularity, tokenizer=tokenizer)
        for name, one in built.items() for kept in budgets
    }  # fmt: skip
    if svg:
        write_whole(svg, draw_text(tokens, selections, tokenizer, 0).encode())
        typer.echo(printable(f"picture of item {ids[0]} written to {svg}"))
    if html or svg:
        return None
    console = make_console()
    if len(selections) == 1:
        print_texts(console, ids, tokens, selections[wanted[0]], tokenizer, range(len(shown)))
    else:
        for segment, name in enumerate(ids):
            compare_texts(console, name, tokens, selections, tokenizer, segment)
    if "selector" in built:
        console.print(f"word frequencies of the selector: {built['selector'].frequencies}")
    return None


def _show_stored(path: Path, model: str, item: list[str] | None, count: int, k: int | None) -> None:
    """Print the kept tokens of some items of a catalogue, as text."""
    from tsporec.catalog.catalog import ItemCatalog
    from tsporec.evaluation.report import make_console, plain_text
    from tsporec.language_model import load_tokenizer

    catalog = ItemCatalog.open(path, tokenizer=load_tokenizer(model))
    if item and catalog.recipe.id_type == "int" and (wrong := [one for one in item if not one.isdecimal()]):
        raise ValueError(f"the ids in {path} are whole numbers; found --item {wrong[0]!r}.")
    known = int if catalog.recipe.id_type == "int" else str
    ids = [known(one) for one in item] if item else list(islice(catalog, count))
    if missing := [one for one in ids if one not in catalog]:
        raise ValueError(f"no item {missing[0]!r} in {path}, which has {len(catalog)} items.")
    console = make_console()
    for one in ids:
        console.print(plain_text(str(one)), plain_text(catalog.text(one, k)), "", sep="\n")
