"""Measure the whole cost of reading short texts in place of whole ones, selection included.

python -m benchmarks.cost --data DIR --model DIR --output benchmarks/results/cost.json

On one core, real texts (title and description) and the bundled selector, in one process; medians.

1. *Encoding a catalogue*: tokenise, select, and encode with the first layers of the language model. FLOPs are counted.
2. *Break-even*: the number of tokens that must go for selecting to pay, which is the time to select from an item
   over the time to encode one token. 1B and 7B stand for models whose FLOPs a token are more by so much: the times are
   not measured but scaled by FLOPs, which the measured depths confirm or do not.
3. *Serving a request*: a prompt with the last 10 items of a history, read by the whole language model up to its first
   token: whole texts, selected anew, and looked up in a catalogue.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.datasets import CATEGORIES, read_catalogue, read_task
from benchmarks.options import make_parser, whole_numbers
from benchmarks.selector import resident
from benchmarks.timing import median_seconds
from tsporec import Budget, ItemCatalog, TokenSelector, select
from tsporec.data.items import Item, tokenize_items
from tsporec.evaluation.results_file import environment, write_results
from tsporec.language_model import cut_layers, load_causal_lm
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.tokens.ragged import RaggedTokens

LARGER = {"1B": 1e9, "7B": 7e9}
"""Models that are not measured: name -> parameters, each of which takes two FLOPs a token."""
HISTORY = 10


def flops_of(encoder: ItemEncoder, tokens: RaggedTokens) -> int:
    """Count the floating-point operations of encoding ``tokens``."""
    with FlopCounterMode(display=False) as counter:
        encoder.encode(tokens)
    return int(counter.get_total_flops())


def catalogue_costs(
    lm: Any, tokenizer: Any, items: list[Item], selector: TokenSelector, layers: list[int], budgets: list[int]
) -> list[dict[str, Any]]:
    """Return a row for each depth and budget, and one for the whole text (budget None)."""
    tokens = tokenize_items(items, tokenizer)
    read = median_seconds(lambda: tokenize_items(items, tokenizer), 5)
    found: list[dict[str, Any]] = []
    for depth in layers:
        encoder = ItemEncoder(cut_layers(lm, depth))
        whole: dict[str, Any] = {}
        for budget in [None, *budgets]:
            short, choose = tokens, 0.0
            if budget is not None:
                short = select(selector, tokens, budget).apply(tokens)
                choose = median_seconds(lambda k=budget: select(selector, tokens, k), 5)  # type: ignore[misc]
            encode = median_seconds(lambda e=encoder, t=short: e.encode(t), 3)  # type: ignore[misc]
            row = {
                "layers": depth, "budget": budget, "tokens": short.num_tokens / len(items),
                "tokenise ms": 1000 * read / len(items), "select ms": 1000 * choose / len(items),
                "encode ms": 1000 * encode / len(items), "MFLOPs": flops_of(encoder, short) / len(items) / 1e6,
            }  # fmt: skip
            total = row["tokenise ms"] + row["select ms"] + row["encode ms"]
            whole = whole or {**row, "total": total}
            row["less time"] = 1 - total / whole["total"]
            row["select / whole encode"] = row["select ms"] / whole["encode ms"]
            found.append(row)
            print_row(row)
    return found


def break_even(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the tokens that must go for selecting to pay, by model; larger models are scaled by FLOPs."""
    found = []
    for row in (row for row in rows if row["budget"] is None):
        slowest = max(r["select ms"] for r in rows if r["layers"] == row["layers"])
        found.append({"model": f"{row['layers']} layers", "ms a token": row["encode ms"] / row["tokens"],
                      "MFLOPs a token": row["MFLOPs"] / row["tokens"], "select ms": slowest})  # fmt: skip
    deepest = found[-1]
    for name, parameters in LARGER.items():
        flops = 2 * parameters / 1e6
        scaled = deepest["ms a token"] * flops / deepest["MFLOPs a token"]
        found.append({**deepest, "model": name, "ms a token": scaled, "MFLOPs a token": flops})
    for one in found:
        one["break-even tokens"] = one["select ms"] / one["ms a token"]
        print_row(one)
    return found


def request_costs(
    lm: Any, tokenizer: Any, items: list[Item], selector: TokenSelector, budget: int, requests: int
) -> list[dict[str, Any]]:
    """Return time, p50 and p99, of a request by its way to the item texts."""
    rng, calls = np.random.default_rng(0), []
    for _ in range(requests):
        history = [items[i] for i in rng.choice(len(items), HISTORY, replace=False)]
        calls.append((history, [item.id for item in history]))
    with tempfile.TemporaryDirectory() as folder:
        catalog = ItemCatalog.build(
            items, path=folder + "/catalog", tokenizer=tokenizer, selector=selector, budget=Budget(tokens=budget)
        )
        ways: dict[str, Callable[[list[Item], list[str]], RaggedTokens]] = {
            "whole texts": lambda given, _: tokenize_items(given, tokenizer),
            "selected anew": lambda given, _: chosen(tokenize_items(given, tokenizer)),
            "from a catalogue": lambda _, ids: catalog.lookup(ids),
        }

        def chosen(tokens: RaggedTokens) -> RaggedTokens:
            return select(selector, tokens, budget).apply(tokens)

        found: list[dict[str, Any]] = []
        for name, texts in ways.items():
            times, before = [], []
            for history, ids in [*calls[:3], *calls]:
                start = time.perf_counter()
                prompt = torch.from_numpy(texts(history, ids).ids.astype(np.int64))[None]
                middle = time.perf_counter()
                with torch.inference_mode():
                    lm(input_ids=prompt, logits_to_keep=1)
                times.append(time.perf_counter() - start)
                before.append(middle - start)
            p50, p99 = np.percentile(1000 * np.array(times[3:]), [50, 99])
            found.append({"texts": name, "budget": None if name == "whole texts" else budget, "p50 ms": float(p50),
                          "p99 ms": float(p99), "texts ms": 1000 * statistics.median(before[3:])})  # fmt: skip
            print_row(found[-1])
    return found


def peak_memory(options: Any, budget: int | None) -> float:
    """Return the MiB that encoding the sample takes at its peak beside the model, in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.cost", "--data", str(options.data), "--model",
               options.model, "--items", str(options.items), "--memory", str(budget or 0)]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def print_row(row: dict[str, Any]) -> None:
    """Print a row."""
    values = ((key, f"{value:.4g}" if isinstance(value, float) else value) for key, value in row.items())
    print("  ".join(f"{key} {value}" for key, value in values), flush=True)


def main() -> None:
    """Measure and write the results file, or (``--memory``) print the peak memory of encoding once."""
    parser = make_parser(__doc__, "cost.json")
    parser.add_argument("--items", type=int, default=128, help="sampled items; default: 128")
    parser.add_argument("--requests", type=int, default=30, help="default: 30")
    parser.add_argument("--layers", type=whole_numbers, default=[4, 8, 16, 30])
    parser.add_argument("--budgets", type=whole_numbers, default=[8, 16, 32])
    parser.add_argument("--memory", type=int, help="encode once with this budget (0: whole), and print the peak")
    options = parser.parse_args()
    torch.set_num_threads(1)
    origin = environment(0)
    lm, tokenizer = load_causal_lm(options.model)
    corpus = read_task(options.data, CATEGORIES[0], tokenizer).tokens
    chosen = np.random.default_rng(0).permutation(len(corpus))[: options.items]
    selector = TokenSelector.from_pretrained().for_tokenizer(tokenizer).fit(corpus)
    if options.memory is not None:
        tokens = corpus.take(chosen)
        short = select(selector, tokens, options.memory).apply(tokens) if options.memory else tokens
        encoder = ItemEncoder(lm)
        encoder.encode(short.take([0]))
        # Loading took more than encoding will: the peak is forgotten (Linux only), or it would hide encoding's.
        Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
        encoder.encode(short)
        print((resident("VmHWM") - before) / 1024)
        return
    every = read_catalogue(options.data, CATEGORIES[0]).items
    items = [every[i] for i in chosen]
    rows = catalogue_costs(lm, tokenizer, items, selector, options.layers, options.budgets)
    results = {
        "command": "cost", "catalogue": CATEGORIES[0], "items": len(items), "encode": rows,
        "break_even": break_even(rows),
        "request": request_costs(lm, tokenizer, items, selector, 16, options.requests),
        "peak_mib": {"whole": peak_memory(options, None), "16": peak_memory(options, 16)},
    }  # fmt: skip
    print(f"results written to {write_results(options.output, results, origin)}")


if __name__ == "__main__":
    main()
