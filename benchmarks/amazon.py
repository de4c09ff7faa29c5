"""The two categories of Amazon Reviews 2018 that benchmarks read, in the layout of ``benchmarks/README.md``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tsporec.data.items import FIELDS, item_text
from tsporec.data.readers import read_items, read_sequences
from tsporec.evaluation.task import Task, prepare

CATEGORIES = ("Office_Products", "Industrial_and_Scientific")


def read_category(data: Path, category: str) -> tuple[Any, Any, Any]:
    """Read (items, training rows, test rows) of a category in ``data/amazon18``."""
    base = data / "amazon18" / category
    return read_items(f"{base}.item.json"), *(read_sequences(f"{base}.{part}.csv") for part in ("valid", "test"))


def read_task(data: Path, category: str, tokenizer: Any, fields: Sequence[str] = FIELDS) -> Task:
    """Prepare the task of a category, by default of title and description. Texts are cut to 256 tokens."""
    return prepare(*read_category(data, category), tokenizer, fields)


def read_texts(data: Path, category: str) -> list[str]:
    """Read every item's text."""
    return [item_text(item, FIELDS) for item in read_category(data, category)[0]]
