"""Options that several commands share, and the functions that read them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer

P = ParamSpec("P")
R = TypeVar("R")

_PACKAGE = Path(__file__).resolve().parent.parent

ADVANCED = "Advanced"
"""The panel of the help for options that few need."""


def advanced(*names: str, help: str) -> Any:  # noqa: A002
    """Make an option of the panel for options that few need."""
    return typer.Option(*names, help=help, rich_help_panel=ADVANCED)


Items = Annotated[Path, typer.Option("--items", help="The catalogue: a file of items.")]
Model = Annotated[str, typer.Option("--model", help="A causal LM: a folder or a Hub id.")]
Fields = Annotated[str, typer.Option("--fields", help="Text fields in order, comma-separated.")]
Selector = Annotated[str, typer.Option(help="The selector: a folder or a Hub id. Default: the bundled one.")]
Ratio = Annotated[
    float | None, typer.Option("--ratio", help="In place of --budget: the share of each text's tokens to keep.")
]
Granularity = Annotated[
    str, typer.Option("--granularity", help="token: keep exactly the best tokens. word: keep whole words.")
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="Format of the files: plain (your own), minionerec, recbole, amazon2018, amazon2023, mind or hllm. "
        "Default: read from their names.",
    ),
]
Layers = Annotated[int | None, advanced("--layers", help="Read with the first layers of the model. Default: all.")]
MaxTokens = Annotated[int, advanced("--max-tokens", help="Read this many tokens of a text at most.")]
Device = Annotated[str, advanced("--device", help="Device of the model, such as cpu, cuda or cuda:1.")]
Interactions = Annotated[
    Path, typer.Option("--interactions", help="What users touched: a file of user_id, item_id and timestamp.")
]
Test = Annotated[
    Path | None,
    typer.Option(
        "--test",
        help="Interactions to test on, or rows with their histories. All of --interactions is then trained on.",
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        "--split",
        help="Without --test, hold out each user's last item (last-item) or the latest tenth of all interactions "
        "(time). Default: last-item.",
    ),
]
Keep = Annotated[
    str | None,
    typer.Option(
        "--keep",
        help="Keep these first: numbers, identifiers or regular expressions, comma-separated. The budget holds.",
    ),
]
IdField = Annotated[
    str | None,
    typer.Option("--id-field", help="Column of the items' ids in your own data. Default: item_id or id."),
]
Drop = Annotated[bool, typer.Option("--drop-unknown", help="Leave out items that the catalogue lacks.")]
Seeds = Annotated[str, typer.Option("--seeds", help="Seeds of the recommenders, comma-separated.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


_STOPPED = {
    "train": "The same command goes on where it stopped.",
    "compress": "The same command goes on where it stopped.",
    "evaluate": "With --cache DIR, the same command keeps finished work and goes on.",
}
_PYTHON_NAME = re.compile(r"\S+ \((--[\w-]+)\)")  # "fields=… (--fields)"


def clean_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn an error that this package raised into one line and exit code 2, and Ctrl-C into one line and code 130.

    Messages that name a Python argument name the flag instead. An error of another library is a fault of this one: it
    keeps its traceback. ``OSError`` and a missing extra are the user's to mend, wherever they are raised.
    """
    arguments = [name for name in signature(command).parameters if "_" in name.strip("_")]

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (ValueError, TypeError, ImportError, OSError) as error:
            if isinstance(error, ValueError | TypeError) and not _raised_here(error):
                raise
            message = _PYTHON_NAME.sub(lambda found: found[1], str(error))
            for name in arguments:
                message = re.sub(rf"(?<!-){name}(=…)?\b", f"--{name.replace('_', '-')}", message)
            typer.echo(f"error: {message}", err=True)
            raise typer.Exit(2) from error
        except KeyboardInterrupt:
            typer.echo(f"stopped. {_STOPPED.get(command.__name__, 'Nothing was written.')}", err=True)
            raise typer.Exit(130) from None

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


def read_budget(budget: int | None, ratio: float | None) -> Any:
    """Return the number of tokens that --budget names (by default 16), or the share that --ratio names.

    >>> read_budget(None, None), read_budget(None, 0.25).keep_ratio
    (16, 0.25)
    """
    from tsporec.budget import Budget

    if budget is not None and ratio is not None:
        raise ValueError("--ratio stands in place of --budget; leave one out.")
    return Budget(keep_ratio=ratio) if ratio is not None else 16 if budget is None else budget


def load_model(name: str, device: str) -> tuple[Any, Any]:
    """Load (causal LM on ``device``, tokenizer)."""
    from tsporec.language_model import load_causal_lm

    lm, tokenizer = load_causal_lm(name)
    try:
        return lm.to(device), tokenizer
    except (RuntimeError, AssertionError) as error:  # torch's errors for devices that are not there
        raise ValueError(f"--device {device}: {str(error).splitlines()[0]}") from error


def check_scorers(wanted: Sequence[str], selector: str | None, classifier: str | None) -> None:
    """Refuse scorers that do not exist, and checkpoints for scorers that are not among them."""
    from tsporec.scorers import SCORERS

    for name in wanted:
        if name not in (*SCORERS, "selector", "full"):
            raise ValueError(f"there is no scorer {name!r}; expected {', '.join(SCORERS)}, selector or full.")
    for option, value, name in (("--selector", selector, "selector"), ("--classifier", classifier, "llmlingua2")):
        if value is not None and name not in wanted:
            raise ValueError(f"{option} is given, but the scorers are {', '.join(wanted)}; add {name} or leave it out.")
    if "llmlingua2" in wanted and classifier is None:
        raise ValueError("the scorer llmlingua2 needs a checkpoint: give --classifier.")


def keeping(scorer: Any, tokenizer: Any, keep: str | None) -> Any:
    """Make ``scorer`` rank first what --keep names."""
    from tsporec.scorers.patterns import Keeping

    return scorer if keep is None or scorer is None else Keeping(scorer, tokenizer, names(keep))


def build_scorer(
    name: str, corpus: Any, lm: Any, tokenizer: Any, layers: int | None, selector: str | None, classifier: str | None
) -> Any:
    """Make the scorer called ``name`` for ids of ``tokenizer``; None for the whole text."""
    from tsporec.scorers import make_scorer
    from tsporec.selector.hub import DEFAULT
    from tsporec.selector.model import TokenSelector

    if name == "full":
        return None
    if name == "selector":
        return TokenSelector.from_pretrained(selector or DEFAULT).for_tokenizer(tokenizer)
    if name in ("self_information", "attention", "centroid"):
        # Surprisal needs the whole model: its head reads the last layer.
        return make_scorer(name, model=lm, layers=None if name == "self_information" else layers)
    if name == "llmlingua2":
        return make_scorer(name, model=classifier).for_tokenizer(tokenizer)
    return make_scorer(name).fit(corpus)
