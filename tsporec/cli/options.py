"""Options that several commands take, and what reads them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer

P = ParamSpec("P")
R = TypeVar("R")

ItemsOption = Annotated[Path, typer.Option("--items", help="The catalogue: a file of items.")]
ModelOption = Annotated[str, typer.Option("--model", help="A causal LM: a folder or a Hub id.")]
FieldsOption = Annotated[str, typer.Option("--fields", help="Text fields in order, comma-separated.")]
SelectorOption = Annotated[str, typer.Option(help="The learned scorer: a folder, a Hub id, or the one in the box.")]
FormatOption = Annotated[str | None, typer.Option("--format", help="Format of the files, if their names do not tell.")]


def clean_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Bad input ends in one line and exit code 2, not in a traceback."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (ValueError, ImportError, OSError) as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from error

    return run


def names(text: str) -> list[str]:
    """The parts of a comma-separated list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def numbers(text: str, option: str, least: int) -> list[int]:
    """The whole numbers of a comma-separated list, each at least ``least``."""
    try:
        found = [int(part) for part in names(text)]
    except ValueError:
        found = []
    if not found or min(found) < least:
        raise ValueError(f"{option} takes whole numbers of at least {least}, comma-separated; found {text!r}.")
    return found


def build_scorer(
    name: str, corpus: Any, lm: Any, tokenizer: Any, layers: int | None, selector: str, classifier: str | None
) -> Any:
    """The scorer called ``name`` ready for ids of ``tokenizer``; None for the whole text."""
    from tsporec.scorers import SCORERS, make_scorer
    from tsporec.selector.item_weights import load_selector

    if name == "full":
        return None
    if name == "selector":
        return load_selector(selector, tokenizer, lambda: lm.get_input_embeddings().weight)
    if name in ("self_information", "attention", "centroid"):
        # Surprisal needs the whole model: its head reads the last layer.
        return make_scorer(name, model=lm, layers=None if name == "self_information" else layers)
    if name == "llmlingua2":
        if classifier is None:
            raise ValueError("the scorer llmlingua2 needs a checkpoint: give --classifier.")
        return make_scorer(name, model=classifier).for_tokenizer(tokenizer)
    if name not in SCORERS:
        raise ValueError(f"there is no scorer {name!r}; expected {', '.join(SCORERS)}, selector or full.")
    return make_scorer(name).fit(corpus)
