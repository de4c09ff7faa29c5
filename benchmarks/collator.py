"""Measure what wrapping a collator costs: the base collator on whole features against the wrapped one, cold and warm.

python -m benchmarks.collator
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks.options import make_parser
from benchmarks.timing import median_ms
from tests.conftest import make_tokenizer
from tsporec import RaggedTokens, SelectorCollator, TokenSelector
from tsporec.evaluation.results_file import environment, write_results

FEATURES, ITEMS, LENGTH, K, ROUNDS = 64, 10, 128, 16, 15


def features(seed: int, count: int, vocabulary: int) -> list[dict[str, Any]]:
    """Return prompts of ten items with a few tokens before, between and behind them, and a label of 16 tokens."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        step = LENGTH + 2
        ids = rng.integers(4, vocabulary, size=16 + ITEMS * step + 32).tolist()
        spans = [(16 + i * step, 16 + i * step + LENGTH) for i in range(ITEMS)]
        labels = [-100] * (len(ids) - 16) + ids[-16:]
        rows.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels, "item_spans": spans})
    return rows


def split_cold(wrapped: SelectorCollator, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the milliseconds of each step of one cold batch."""
    inner, spent = wrapped.scorer, [0.0]

    class Timed:
        def score(self, tokens: RaggedTokens) -> Any:
            start = time.perf_counter()
            scores = inner.score(tokens)
            spent[0] += time.perf_counter() - start
            return scores

    wrapped.scorer = Timed()
    start = time.perf_counter()
    parts = [wrapped.layout.parts(row) for row in rows]
    found = time.perf_counter()
    kept = wrapped._kept([part for row in parts for part in row])
    chosen = time.perf_counter()
    short = [wrapped.layout.rebuild(row, [k]) for row, k in zip(rows, kept, strict=True)]
    rebuilt = time.perf_counter()
    wrapped.base_collator(short)
    done = time.perf_counter()
    wrapped.scorer = inner
    times = {
        "reading ids and spans": found - start,
        "scoring": spent[0],
        "selection": chosen - found - spent[0],
        "rebuilding": rebuilt - chosen,
        "base collator on short features": done - rebuilt,
        "all": done - start,
    }
    return {name: round(1000 * value, 2) for name, value in times.items()}


def worker_ms(rows: list[dict[str, Any]], collator: Callable[..., Any], workers: int = 4) -> float:
    """Return milliseconds a batch over 16 batches, with workers started and caches warm."""
    loader = DataLoader(rows, FEATURES, collate_fn=collator, num_workers=workers, persistent_workers=True)
    for _ in loader:
        pass
    start = time.perf_counter()
    batches = sum(1 for _ in loader)
    return round(1000 * (time.perf_counter() - start) / batches, 2)


def main() -> None:
    """Measure, print and write the results."""
    from transformers import DataCollatorForSeq2Seq, DataCollatorWithPadding

    options, origin = make_parser(__doc__, "collator.json", data=False).parse_args(), environment(seed=0)
    tokenizer = make_tokenizer("bpe")
    results: dict[str, Any] = {"command": "python -m benchmarks.collator"}
    for base, columns in (
        (DataCollatorWithPadding(tokenizer), ("input_ids", "attention_mask")),
        (DataCollatorForSeq2Seq(tokenizer), ("input_ids", "attention_mask", "labels")),
    ):
        name = type(base).__name__
        spanned = [{c: row[c] for c in (*columns, "item_spans")} for row in features(0, FEATURES, len(tokenizer))]
        whole = [{c: row[c] for c in columns} for row in spanned]
        selector = TokenSelector().for_tokenizer(tokenizer)
        torch.nn.init.normal_(selector.network.out.weight)  # while these are 0 the network is passed over
        SelectorCollator(base, selector, K)(spanned[:2])  # read the vocabulary, import lazily
        wrapped = SelectorCollator(base, selector, K)
        cold = split_cold(wrapped, spanned)
        results[name] = {
            "base on whole features, ms": median_ms(lambda b=base, w=whole: b([dict(row) for row in w]), ROUNDS),
            "wrapped, warm, ms": median_ms(lambda w=wrapped, s=spanned: w(s), ROUNDS),
            "wrapped, cold, ms": cold,
        }
        many = [{c: row[c] for c in (*columns, "item_spans")} for row in features(0, 16 * FEATURES, len(tokenizer))]
        plain = [{c: row[c] for c in columns} for row in many]
        results[name]["base, 4 workers, ms a batch"] = worker_ms(plain, base)
        results[name]["wrapped, 4 workers, ms a batch"] = worker_ms(many, SelectorCollator(base, selector, K))
        print(name, results[name])
    write_results(options.output, results, origin)


if __name__ == "__main__":
    main()
