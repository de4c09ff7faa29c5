"""The options that the benchmarks share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def comma_separated(text: str) -> list[str]:
    """Split ``a,b``."""
    return text.split(",")


def whole_numbers(text: str) -> list[int]:
    """Split ``1,2`` into numbers."""
    return [int(part) for part in comma_separated(text)]


def make_parser(
    page: str | None, output: str | None = None, *, data: bool = True, seeds: Sequence[int] = ()
) -> argparse.ArgumentParser:
    """Make a parser whose help is ``page``.

    Parameters
    ----------
    page : str
        The module's docstring.
    output : str, optional
        Default of ``--output``, in the folder of results. Without it ``--output`` must be given.
    data : bool
        Whether ``--data`` and ``--model`` must be given. Default: True.
    seeds : ints
        Default of ``--seeds``. Without it there is no such option.
    """
    parser = argparse.ArgumentParser(description=page, formatter_class=argparse.RawDescriptionHelpFormatter)
    if data:
        parser.add_argument("--data", type=Path, required=True, help="folder of the catalogues")
        parser.add_argument("--model", required=True, help="a causal LM and its tokenizer")
    if seeds:
        parser.add_argument("--seeds", type=whole_numbers, default=list(seeds))
    default = None if output is None else RESULTS / output
    parser.add_argument("--output", type=Path, default=default, required=output is None, help="where results are put")
    return parser
