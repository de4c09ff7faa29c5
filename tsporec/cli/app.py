"""The commands: ``tsporec demo | train | evaluate | split | show | compress | card | push | doctor``."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from tsporec._internal.terminal import printable
from tsporec._version import __version__
from tsporec.cli import compress, data, doctor, evaluate, hub, show, train
from tsporec.cli.options import clean_errors

_UsageError: Any = typer.BadParameter.__base__  # of click, or of typer's own copy of it


class _OneLine(typer.core.TyperGroup):
    """Prints what is wrong with the arguments of a command as one line, like every other error."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except _UsageError as error:
            name = getattr(error.ctx, "command_path", "tsporec")
            message = error.format_message().rstrip(".?")
            typer.echo(printable(f"error: {message}. {name} --help lists the options."), err=True)
            raise typer.Exit(2) from error


class _Command(typer.core.TyperCommand):
    """Warns of an option that is given twice, of which the last counts."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for option in self.params:
            given = [one for one in args if one.split("=")[0] in option.opts]
            if len(given) > 1 and not getattr(option, "multiple", False):
                typer.echo(f"warning: {given[0]} is given {len(given)} times; the last counts.", err=True)
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_OneLine, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tsporec {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Keep the tokens of an item's text that an LLM recommender recommends best with."""


@app.command(cls=_Command)
@clean_errors
def demo(
    budget: Annotated[int, typer.Option(help="Tokens to keep of each text.")] = 22,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    output: Annotated[Path | None, typer.Option(help="Write a results file (JSON) here.")] = None,
) -> None:
    """Run the whole job on a generated catalogue, without a download: select, recommend, compare."""
    from tsporec.cli.demo import run_demo

    run_demo(budget, seed, output)


for command in (
    train.train, evaluate.evaluate, data.split, show.show, compress.compress, hub.card, hub.push, doctor.doctor,
):  # fmt: skip
    app.command(cls=_Command)(clean_errors(command))


def run() -> None:
    """Run the command that the arguments name."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.simplefilter("ignore")  # those of other libraries
    warnings.filterwarnings("default", module="tsporec")
    logging.basicConfig(format="%(message)s")
    logging.getLogger("tsporec").setLevel(logging.INFO)
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    app()
