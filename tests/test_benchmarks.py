"""Benchmarks run, and print what the pages say they print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import DataCollatorWithPadding

from benchmarks import collator
from benchmarks.tables import table
from tests.conftest import make_tokenizer
from tsporec import Budget, SelectorCollator, TokenSelector

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
TABLES = {
    "Office_Products.json": "benchmarks/README.md",
    "Industrial_and_Scientific.json": "benchmarks/README.md",
    "learning-Office_Products-description.json": "docs/learning.md",
    "learning-Industrial_and_Scientific-description.json": "docs/learning.md",
}


@pytest.mark.parametrize("name", TABLES)
def test_pages_hold_the_tables_of_the_results(name):
    page = (RESULTS.parent.parent / TABLES[name]).read_text()
    assert table(json.loads((RESULTS / name).read_text()), "adapted") in page


def test_a_cold_batch_is_split():
    tokenizer = make_tokenizer("bpe")
    rows = collator.features(0, 2, len(tokenizer))
    base = DataCollatorWithPadding(tokenizer)
    columns = ("input_ids", "attention_mask", "item_spans")
    rows = [{name: row[name] for name in columns} for row in rows]
    wrapped = SelectorCollator(base, TokenSelector().for_tokenizer(tokenizer), Budget(tokens=collator.K))
    times = collator.split_cold(wrapped, rows)
    whole = times.pop("all")
    assert sum(times.values()) == pytest.approx(whole, abs=0.1)
