"""Options that several commands share, and the functions that read them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer

P = ParamSpec("P")
R = TypeVar("R")

_PACKAGE = Path(__file__).resolve().parent.parent

ItemsOption = Annotated[Path, typer.Option("--items", help="The catalogue: a file of items.")]
ModelOption = Annotated[str, typer.Option("--model", help="A causal LM: a folder or a Hub id.")]
FieldsOption = Annotated[str, typer.Option("--fields", help="Text fields in order, comma-separated.")]
SelectorOption = Annotated[str, typer.Option(help="The selector: a folder or a Hub id. Default: the bundled one.")]
GranularityOption = Annotated[
    str, typer.Option("--granularity", help="token: keep exactly the best tokens. word: keep whole words.")
]
FormatOption = Annotated[
    str | None, typer.Option("--format", help="Format of the files. Default: read from their names.")
]


def clean_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn an error that this package raised into one line and exit code 2.

    A ``ValueError`` that comes out of another library is a fault of this one: it keeps its traceback. ``OSError`` and
    a missing extra are the user's to mend, wherever they are raised.
    """

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (ValueError, ImportError, OSError) as error:
            if isinstance(error, ValueError) and not _raised_here(error):
                raise
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from error

    return run


def _raised_here(error: BaseException) -> bool:
    """Return whether the ``raise`` that made ``error`` stands in this package."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and Path(trace.tb_frame.f_code.co_filename).resolve().is_relative_to(_PACKAGE)


def names(text: str) -> list[str]:
    """Split a comma-separated list. An empty one is a ``ValueError``.

    >>> names("title, description")
    ['title', 'description']
    """
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found:
        raise ValueError(f"expected one or more names, comma-separated; found {text!r}.")
    return found


def numbers(text: str, option: str, least: int) -> list[int]:
    """Read whole numbers from a comma-separated list; each is at least ``least``.

    >>> numbers("8,16", "--budget", least=1)
    [8, 16]
    """
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
    """Make the scorer called ``name`` for ids of ``tokenizer``; None for the whole text."""
    from tsporec.scorers import SCORERS, make_scorer
    from tsporec.selector.model import TokenSelector

    if name == "full":
        return None
    if name == "selector":
        return TokenSelector.from_pretrained(selector).for_tokenizer(tokenizer)
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
