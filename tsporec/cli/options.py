"""Options that several commands share, and the functions that read them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer

from tsporec._internal.terminal import printable

P = ParamSpec("P")
R = TypeVar("R")

_PACKAGE = Path(__file__).resolve().parent.parent

ADVANCED = "Advanced"
"""The panel of the help for options that few need."""


def advanced(*names: str, **options: Any) -> Any:
    """Make an option of the panel for options that few need."""
    return typer.Option(*names, rich_help_panel=ADVANCED, **options)


FIELDS = "title,description"
"""The default of --fields."""

Items = Annotated[Path, typer.Option("--items", help="The catalogue: a file of items.")]
Model = Annotated[str, typer.Option("--model", help="A causal LM: a folder or a Hub id.")]
Fields = Annotated[str, typer.Option("--fields", help="Text fields in order, comma-separated.")]
Selector = Annotated[
    str | None,
    typer.Option(
        help="The selector: a folder, a Hub id or tsporec/base, used as it is. Default: the bundled one, with the word "
        "frequencies of --items."
    ),
]
Ratio = Annotated[
    str | None, typer.Option("--ratio", help="In place of --budget: the share of each text's tokens to keep.")
]
Ratios = Annotated[
    str | None,
    typer.Option("--ratio", help="In place of --budget: shares of each text's tokens to keep, comma-separated."),
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
MaxTokens = Annotated[
    int | None,
    advanced("--max-tokens", min=1, help="Read this many tokens of a text at most. Default: the whole text."),
]
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
    list[str] | None,
    typer.Option(
        "--keep",
        help="Keep these first: numbers, identifiers, or a regular expression; repeat it for more. The budget holds.",
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
    "evaluate": "With --cache DIR the same command keeps finished work, and goes on the next time.",
}
_PYTHON_NAME = re.compile(r"(?<!\S)\S+ \((--[\w-]+)\)")  # "fields=… (--fields)"


def clean_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn an error that this package raised into one line and exit code 2, and Ctrl-C into one line and code 130.

    Messages that name a Python argument name the flag instead: "layers must be 1" -> "--layers must be 1". An error of
    another library is a fault of this one: it keeps its traceback. ``OSError`` and a missing extra are the user's to
    mend, wherever they are raised.
    """
    arguments = {name: f"--{name.strip('_').replace('_', '-')}" for name in signature(command).parameters}

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (ValueError, TypeError, ImportError, OSError) as error:
            if isinstance(error, ValueError | TypeError) and not _raised_here(error):
                raise
            message = _PYTHON_NAME.sub(lambda found: found[1], str(error))
            for name, flag in arguments.items():
                where = rf"^{name}(?= must | takes )|(?<=[:;] ){name}s?(?= was )"
                if "_" in name.strip("_"):
                    where = rf"(?<![-\w]){name}\b"
                message = re.sub(where, flag, message)
            typer.echo(printable(f"error: {message}"), err=True)
            raise typer.Exit(2) from error
        except KeyboardInterrupt:
            typer.echo(f"stopped. {_STOPPED.get(command.__name__, 'Run the same command again.')}", err=True)
            raise typer.Exit(130) from None

    return run


def _raised_here(error: BaseException) -> bool:
    """Return whether the ``raise`` that made ``error`` stands in this package."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and Path(trace.tb_frame.f_code.co_filename).resolve().is_relative_to(_PACKAGE)


def names(text: str, option: str = "an option", known: Sequence[str] = ()) -> list[str]:
    """Split a comma-separated list. An empty one is a ``ValueError``, and so is a name that is not ``known``.

    >>> names("title, description")
    ['title', 'description']
    """
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found:
        raise ValueError(f"{option} takes one or more names, comma-separated; found {text!r}.")
    for name in found if known else ():
        if name not in known:
            raise ValueError(f"{option} takes {', '.join(known)}, comma-separated; found {name!r}.")
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


def read_budget(budget: str | None, ratio: str | None, what: str) -> Any:
    """Return the one number of tokens that --budget names (by default 16), or the share that --ratio names.

    >>> read_budget(None, None, "a catalogue"), read_budget(None, "0.25", "a catalogue").keep_ratio
    (16, 0.25)
    """
    found = read_budgets(budget, ratio, "16")
    if len(found) > 1:
        raise ValueError(f"{what} has one budget; found {ratio or budget!r}.")
    return found[0]


def read_budgets(budget: str | None, ratio: str | None, default: str) -> list[Any]:
    """Return the numbers of tokens that --budget names, or the shares that --ratio names, as budgets.

    >>> read_budgets("8,16", None, "8"), read_budgets(None, "0.25", "8")[0].keep_ratio
    ([8, 16], 0.25)
    """
    from tsporec.budget import Budget

    if ratio is None:
        return numbers(default if budget is None else budget, "--budget", least=1)
    if budget is not None:
        raise ValueError("--ratio stands in place of --budget; leave one out.")
    try:
        return [Budget(keep_ratio=float(part)) for part in names(ratio, "--ratio")]
    except ValueError:
        raise ValueError(f"--ratio takes shares above 0 and up to 1, comma-separated; found {ratio!r}.") from None


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
        if name not in (*SCORERS, "untrained", "selector", "full"):
            raise ValueError(
                f"there is no scorer {name!r}; expected {', '.join(SCORERS)}, untrained, selector or full. A selector "
                "of yours is the scorer selector, with --selector FOLDER."
            )
    reads = {"--selector": (selector, "selector", "untrained"), "--classifier": (classifier, "llmlingua2")}
    for option, (value, *readers) in reads.items():
        if value is not None and not {*readers} & {*wanted}:
            raise ValueError(
                f"{option} is given, but the scorers are {', '.join(wanted)}; add {readers[0]} or leave it out."
            )
    if "untrained" in wanted and selector is None:
        raise ValueError(
            "the scorer untrained is the rule that a selector started from: give --selector, or leave it out."
        )
    if "llmlingua2" in wanted and classifier is None:
        raise ValueError("the scorer llmlingua2 needs a checkpoint: give --classifier.")


def patterns(keep: Sequence[str] | None) -> list[str]:
    r"""Read each --keep: names of patterns, comma-separated, or one regular expression.

    >>> patterns(["numbers,identifiers", r"\b[A-Z]{2,}\b"])
    ['numbers', 'identifiers', '\\b[A-Z]{2,}\\b']
    """
    from tsporec.scorers.patterns import PATTERNS, join_patterns

    found: list[str] = []
    for given in keep or ():
        parts = names(given, "--keep")
        known = [part for part in parts if part in PATTERNS]
        if known and len(known) < len(parts):
            raise ValueError(
                f"--keep takes {', '.join(PATTERNS)} or one regular expression; found both in {given!r}. Give --keep "
                "once for each."
            )
        found += known or [given]
    join_patterns(found)
    return found


def kept_share(named: int, kept: int, room: int) -> str:
    """Say how many of the tokens that --keep names are ``kept``, where all texts keep ``room`` tokens.

    >>> kept_share(80, 60, 100), kept_share(400, 100, 100).split(". ")[1]
    ('75% of the 80 tokens that --keep names are kept.', 'They fill the budget: raise it, or narrow --keep.')
    """
    full = " They fill the budget: raise it, or narrow --keep." if named > room else ""
    return f"{kept / named:.0%} of the {named:,} tokens that --keep names are kept.{full}"


def keeping(scorer: Any, tokenizer: Any, keep: Sequence[str] | None) -> Any:
    """Make ``scorer`` rank first what --keep names."""
    from tsporec.scorers.patterns import Keeping

    return Keeping(scorer, tokenizer, patterns(keep)) if keep and scorer is not None else scorer


def untrained(weighting: str, tokenizer: Any, corpus: Any) -> Any:
    """Make the rule that a selector starts from."""
    from tsporec.selector.model import SelectorConfig, TokenSelector

    return TokenSelector(SelectorConfig(weighting=weighting)).for_tokenizer(tokenizer).fit(corpus)


def build_scorer(
    name: str, corpus: Any, lm: Any, tokenizer: Any, layers: int | None, selector: str | None, classifier: str | None
) -> Any:
    """Make the scorer called ``name`` for ids of ``tokenizer``; None for the whole text."""
    from tsporec.scorers import make_scorer
    from tsporec.selector.hub import DEFAULT
    from tsporec.selector.model import TokenSelector

    if name == "full":
        return None
    if name in ("selector", "untrained"):
        learned = TokenSelector.from_pretrained(selector or DEFAULT).for_tokenizer(tokenizer)
        if selector is None:
            learned.fit(corpus)
        return learned if name == "selector" else untrained(learned.config.weighting, tokenizer, corpus)
    if name in ("self_information", "attention", "centroid"):
        # Surprisal needs the whole model: its head reads the last layer.
        return make_scorer(name, model=lm, layers=None if name == "self_information" else layers)
    if name == "llmlingua2":
        return make_scorer(name, model=classifier).for_tokenizer(tokenizer)
    return make_scorer(name).fit(corpus)
