"""What a catalogue store costs: building, size, opening, looking up; generated items, all distinct, no cache.

``python -m benchmarks.catalog --tokenizer DIR --items 10000 100000 1000000 --output benchmarks/results/catalog.json``

Every size is built in a process of its own, so that peak memory is that size's. The rate counts from when all workers
are up until the store is committed; their start is timed apart. Times want an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tsporec.catalog.store.build import Work
from tsporec.catalog.store.compress import Chunk, tokenise

from benchmarks.timing import median_ms
from tsporec.budget import Budget
from tsporec.catalog.catalog import ItemCatalog
from tsporec.evaluation.results import environment, write_results
from tsporec.selection import select
from tsporec.selector.model import TokenSelector
from tsporec.tokens.ragged import RaggedTokens

LENGTH, CHUNK, SEED = 128, 512, 0
ROOT = Path(__file__).parent.parent


def tokens_of(start: int, count: int, vocabulary: int) -> RaggedTokens:
    """Items ``start`` to ``start + count``: 128 tokens each, frequent ids more often; the same whenever asked for."""
    rng = np.random.default_rng([SEED, start])
    ids = (rng.random(count * LENGTH) ** 3 * (vocabulary - 4)).astype(np.int32) + 4
    return RaggedTokens(ids, np.arange(count + 1, dtype=np.int32) * LENGTH)


def make_selector(tokenizer: Any) -> TokenSelector:
    """A selector that costs what a learned one does: while its last weights are 0 the network is passed over."""
    torch.manual_seed(SEED)
    selector = TokenSelector().for_tokenizer(tokenizer).fit(tokens_of(10**9, 2000, len(tokenizer)))
    torch.nn.init.normal_(selector.network.out.weight)
    return selector


class Together:
    """A selector whose workers begin at once: its first call scores, then waits until every worker has done so.

    So starting the workers (importing torch, mostly) is told apart from building, which else it hides in a small
    catalogue, all of which the first worker may do before the second is there.
    """

    def __init__(self, selector: TokenSelector, folder: Path, workers: int) -> None:
        self.selector, self.folder, self.workers, self.ready = selector, folder, workers, False
        self.fingerprint, self.vocabulary = selector.fingerprint, selector.vocabulary

    def score(self, tokens: RaggedTokens) -> Any:
        """Scores of the selector."""
        if not self.ready:
            self.selector.score(tokens)
            (self.folder / str(os.getpid())).write_text(str(time.perf_counter()))  # one clock for all processes
            while len(list(self.folder.iterdir())) < self.workers:
                time.sleep(0.001)
            self.ready = True
        return self.selector.score(tokens)

    def began(self) -> float:
        """When the last worker was there."""
        return max(float(file.read_text()) for file in self.folder.iterdir())


def build_one(folder: Path, tokenizer_folder: str, items: int, kept: int, num_proc: int) -> dict[str, Any]:
    """Build a store of tokenised items and measure it."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    vocabulary = len(tokenizer)
    torch.set_num_threads(1)
    marks = folder.with_name("workers")
    marks.mkdir(parents=True)
    selector = Together(make_selector(tokenizer), marks, num_proc)

    def chunks() -> Iterator[Chunk]:
        for start in range(0, items, CHUNK):
            count = min(CHUNK, items - start)
            yield Chunk(
                [f"item-{n:08d}" for n in range(start, start + count)], tokens=tokens_of(start, count, vocabulary)
            )

    before, called = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    catalog = ItemCatalog.build(
        chunks(), tokenizer=tokenizer, selector=selector, budget=Budget(tokens=kept), path=folder,
        num_proc=num_proc, chunk_items=CHUNK,
    )  # fmt: skip
    end, began = time.perf_counter(), selector.began()
    report = catalog.report
    assert report is not None
    # Two bytes an id and one a rank; an item's key, and four bytes each for two offsets and a place in the sorted
    # index.
    need = report.tokens_after * 3 + items * (len("item-00000000") + 4 + 4 + 4)
    size = catalog.describe()["bytes"]
    return {
        "items": items,
        "kept_tokens": kept,
        "num_proc": num_proc,
        "items_per_second": round(items / (end - began)),
        "start_up_seconds": round(began - called, 2),
        "seconds_with_start_up": round(report.seconds, 2),
        "peak_parent_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "parent_megabytes_before": round(before / 1024),
        "store_bytes": size,
        "need_bytes": need,
        "store_over_need": round(size / need - 1, 4),
    }


def resident_megabytes() -> float:
    """Memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def read_one(folder: Path, tokenizer_folder: str, items: int, kept: int) -> dict[str, Any]:
    """Open a store, look up 64 histories of 10, and do the same by tokenising and selecting."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    torch.set_num_threads(1)
    before, start = resident_megabytes(), time.perf_counter()
    catalog = ItemCatalog.open(folder)
    opened, grown = time.perf_counter() - start, resident_megabytes() - before
    rng = np.random.default_rng(1)
    batches = [[f"item-{n:08d}" for n in rng.integers(0, items, 640)] for _ in range(100)]
    turn = iter(batches * 4)
    cold = median_ms(lambda: catalog.lookup(next(turn)), 1)
    warm = median_ms(lambda: catalog.lookup(next(turn)), 300)
    padded = median_ms(lambda: catalog.lookup(batches[0]).to_padded(), 50)
    selector = make_selector(tokenizer)
    texts = tokenizer.batch_decode(tokens_of(0, 640, len(tokenizer)).to_lists())

    def anew() -> RaggedTokens:
        tokens = tokenise(texts, tokenizer)
        return select(selector, tokens, Budget(tokens=kept)).apply(tokens)

    anew()
    slow = median_ms(anew, 5)
    tokenising = median_ms(lambda: tokenise(texts, tokenizer), 5)
    return {
        "open_ms": round(1000 * opened, 2),
        "open_megabytes": round(grown, 2),
        "lookup_first_ms": cold,
        "lookup_ms": warm,
        "lookup_padded_ms": padded,
        "tokenise_and_select_ms": slow,
        "tokenise_ms": tokenising,
        "tokenise_items_per_second": round(640 / tokenising * 1000),
        "times_faster": round(slow / warm, 1),
    }


def in_process(*arguments: str) -> dict[str, Any]:
    """Run a part of this benchmark in a process of its own and read what it prints."""
    command = [sys.executable, "-m", "benchmarks.catalog", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def main() -> None:
    """Measure every size, or (``--part``) one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True, help="a folder with a tokenizer")
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--kept", type=int, default=32)
    parser.add_argument("--num-proc", type=int, default=2)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--part", choices=["build", "read"])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.part == "build":
        result = build_one(options.folder, options.tokenizer, options.items[0], options.kept, options.num_proc)
        print(json.dumps(result))
        return
    if options.part == "read":
        print(json.dumps(read_one(options.folder, options.tokenizer, options.items[0], options.kept)))
        return
    origin, rows = environment(SEED), []
    for items in options.items:
        folder = Path(tempfile.mkdtemp()) / "store"
        shared = ["--tokenizer", options.tokenizer, "--items", str(items), "--folder", str(folder)]
        shared += ["--kept", str(options.kept), "--num-proc", str(options.num_proc)]
        try:
            row = in_process(*shared, "--part", "build") | in_process(*shared, "--part", "read")
        finally:
            shutil.rmtree(folder.parent)
        rows.append({**row, "load_average": round(os.getloadavg()[0], 1)})
        print(json.dumps(rows[-1], indent=1), flush=True)
        if options.output:
            write_results(options.output, {"work": vars(Work(num_proc=options.num_proc)), "sizes": rows}, origin)


if __name__ == "__main__":
    main()
