"""The options that the benchmarks share."""

from __future__ import annotations

import argparse
from pathlib import Path


def comma_separated(text: str) -> list[str]:
    """Split ``a,b``."""
    return text.split(",")


def whole_numbers(text: str) -> list[int]:
    """Split ``1,2`` into numbers."""
    return [int(part) for part in comma_separated(text)]


def make_parser(page: str | None, seeds: list[int]) -> argparse.ArgumentParser:
    """Return a parser with ``--data``, ``--model``, ``--seeds`` and ``--output``, whose help is ``page``."""
    parser = argparse.ArgumentParser(description=page, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--seeds", type=whole_numbers, default=seeds)
    parser.add_argument("--output", type=Path, required=True)
    return parser
