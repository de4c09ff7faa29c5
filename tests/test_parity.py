"""Threads and processes that share a selector or a catalogue get the bytes that one alone gets."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from transformers import DataCollatorWithPadding

from tests.conftest import TEXTS
from tsporec import ItemCatalog, SelectorCollator, TokenSelector
from tsporec.data.items import Item, tokenize_items

pytest.importorskip("lmdb")
pytest.importorskip("accelerate")
pytest.importorskip("datasets")

from benchmarks import parity

ITEMS = [Item(f"item-{n}", {"title": f"{TEXTS[n % 6]} {n} {TEXTS[n * 5 % 6]}"}) for n in range(60)]


def test_threads_share_a_selector_and_a_catalogue(tokenizer, tmp_path, switching):
    tokens = tokenize_items(ITEMS, tokenizer)
    selector = parity.fill(TokenSelector()).for_tokenizer(tokenizer).fit(tokens).make_distinct(tokens, [4])
    catalog = ItemCatalog.build(ITEMS, tokenizer=tokenizer, selector=selector, budget=4, path=tmp_path / "catalog")
    collator = SelectorCollator(DataCollatorWithPadding(tokenizer), selector, 4, cache_tokens=500)

    def everything(rows):
        part = tokens.take(rows)
        features = [{"input_ids": ids.tolist(), "item_spans": [(0, len(ids))]} for ids in part]
        return [
            selector.score(part).tolist(),
            collator(features)["input_ids"].tolist(),
            catalog.lookup([ITEMS[row].id for row in rows]).to_lists(),
        ]

    parts = [np.random.default_rng(seed).integers(0, len(ITEMS), 5) for seed in range(48)]
    fresh = selector.for_tokenizer(tokenizer)  # its table is made by the threads
    expected = [everything(rows) for rows in parts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(everything, parts)) == expected
        found = list(pool.map(lambda rows: fresh.score(tokens.take(rows)).tolist(), parts))
    assert found == [one[0] for one in expected]


def test_batches_of_any_size_padded_or_packed_and_any_workers_give_the_same():
    parity.World().batches()


def test_two_processes_under_ddp_end_at_the_same_bits():
    found = parity.compare_distributed(again=False)
    assert found["both processes have the same bits"]
    one, two = found["steps of one and of two processes"]
    assert one == two
