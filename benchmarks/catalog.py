"""Measure the catalogue: build, memory, size, open, look up, update; generated items, all distinct.

python -m benchmarks.catalog

Items are tokenised already: 128 tokens each, of which 32 are kept. Each size is built and read in processes of its own,
so that peak memory is that size's. The rate counts from when all workers are up until the catalogue is committed; their
start is timed apart. Times want an idle machine.
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
from tqdm.auto import tqdm

from benchmarks.options import make_parser, whole_numbers
from benchmarks.timing import median_ms
from tsporec.catalog.catalog import ItemCatalog
from tsporec.catalog.sources import Chunk
from tsporec.data.synthetic import word_tokenizer
from tsporec.evaluation.results_file import environment, write_results
from tsporec.selector.model import TokenSelector
from tsporec.tokens.ragged import RaggedTokens

LENGTH, CHUNK, SEED, VOCABULARY, LOOKED_UP = 128, 512, 0, 49_152, 640
ROOT = Path(__file__).parent.parent


def make_tokenizer() -> Any:
    """Return a tokenizer of 49,152 made-up words."""
    return word_tokenizer([f"word{n}" for n in range(VOCABULARY - 4)])


def tokens_of(start: int, count: int) -> RaggedTokens:
    """Return the tokens of items ``start`` to ``start + count``; frequent ids come more often."""
    rng = np.random.default_rng([SEED, start])
    ids = (rng.random(count * LENGTH) ** 3 * (VOCABULARY - 4)).astype(np.int32) + 4
    return RaggedTokens(ids, np.arange(count + 1, dtype=np.int32) * LENGTH)


def make_selector(tokenizer: Any) -> TokenSelector:
    """Return a selector that costs as much as a learned one: while its last weights are 0 the network is skipped."""
    torch.manual_seed(SEED)
    selector = TokenSelector().for_tokenizer(tokenizer).fit(tokens_of(10**9, 2000))
    torch.nn.init.normal_(selector.network.out.weight)
    return selector


class Together:
    """A selector whose workers begin at once: its first call waits until every worker has scored.

    So starting the workers, which is mostly importing torch, is told apart from building.
    """

    def __init__(self, selector: TokenSelector, folder: Path, workers: int) -> None:
        self.selector, self.folder, self.workers, self.ready = selector, folder, workers, False
        self.fingerprint, self.tokenizer_fingerprint = selector.fingerprint, selector.tokenizer_fingerprint

    def score(self, tokens: RaggedTokens) -> Any:
        """Return the selector's scores."""
        if not self.ready:
            self.selector.score(tokens)
            (self.folder / str(os.getpid())).write_text(str(time.perf_counter()))  # one clock for all processes
            while len(list(self.folder.iterdir())) < self.workers:
                time.sleep(0.001)
            self.ready = True
        return self.selector.score(tokens)

    def began(self) -> float:
        """Return when the last worker was there."""
        return max(float(file.read_text()) for file in self.folder.iterdir())


def build_one(folder: Path, items: int, kept: int, num_proc: int, shuffled: bool) -> dict[str, Any]:
    """Build a catalogue, its ids in ascending or shuffled order; LMDB rewrites more pages for shuffled ones."""
    torch.set_num_threads(1)
    tokenizer, marks = make_tokenizer(), folder.with_name("workers")
    marks.mkdir(parents=True)
    selector = Together(make_selector(tokenizer), marks, num_proc)
    order = np.random.default_rng(SEED).permutation(items) if shuffled else np.arange(items)

    def chunks() -> Iterator[Chunk]:
        for start in range(0, items, CHUNK):
            numbers = order[start : start + CHUNK]
            yield Chunk([f"item-{n:08d}" for n in numbers], tokens=tokens_of(start, len(numbers)))

    before, called = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    catalog = ItemCatalog.build(
        chunks(), tokenizer=tokenizer, selector=selector, budget=kept, path=folder, num_proc=num_proc,
        chunk_items=CHUNK,
    )  # fmt: skip
    end, began = time.perf_counter(), selector.began()
    size = catalog.describe()["bytes"]
    need = items * (3 * kept + 16 + len("item-00000000"))  # kept tokens, header, key
    return {
        "items": items,
        "kept_tokens": kept,
        "num_proc": num_proc,
        "shuffled": shuffled,
        "items_per_second": round(items / (end - began)),
        "start_up_seconds": round(began - called, 2),
        "peak_parent_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "parent_megabytes_before": round(before / 1024),
        "bytes": size,
        "bytes_over_need": round(size / need - 1, 3),
    }


def resident_megabytes() -> float:
    """Return the memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def read_one(folder: Path, items: int, updates: int) -> dict[str, Any]:
    """Open a catalogue, look up 64 histories of 10 items, verify, and update single items."""
    torch.set_num_threads(1)
    before, start = resident_megabytes(), time.perf_counter()
    catalog = ItemCatalog.open(folder)
    opened, grown = time.perf_counter() - start, resident_megabytes() - before
    rng = np.random.default_rng(1)
    batches = [[f"item-{n:08d}" for n in rng.integers(0, items, LOOKED_UP)] for _ in range(100)]
    turn = iter(batches * 5)
    found = {
        "open_ms": round(1000 * opened, 2),
        "open_megabytes": round(grown, 2),
        "lookup_first_ms": median_ms(lambda: catalog.lookup(next(turn)), 1),
        "lookup_ms": median_ms(lambda: catalog.lookup(next(turn)), 300),
        "lookup_k_ms": median_ms(lambda: catalog.lookup(next(turn), k=8), 100),
        "lookup_padded_ms": median_ms(lambda: catalog.lookup(batches[0]).to_padded(), 50),
        "verify_seconds": round(median_ms(catalog.verify, 1) / 1000, 2),
    }
    tokenizer = make_tokenizer()
    selector = make_selector(tokenizer)
    size, start = catalog.describe()["bytes"], time.perf_counter()
    del catalog
    for number in tqdm(range(updates), desc="update", disable=None, leave=False):
        chunk = Chunk([f"new-{number:08d}"], tokens=tokens_of(10**8 + number, 1))
        ItemCatalog.open(folder).update([chunk], tokenizer=tokenizer, selector=Bound(selector))
    seconds = time.perf_counter() - start
    catalog = ItemCatalog.open(folder)
    assert len(catalog) == items + updates
    catalog.verify()
    grown = (catalog.describe()["bytes"] - size) / 2**20
    return {
        **found,
        "updates": updates,
        "update_ms": round(1000 * seconds / max(updates, 1), 2),
        "updates_megabytes": round(grown, 1),
    }


class Bound:
    """The selector under the fingerprint that the catalogue was built with."""

    def __init__(self, selector: TokenSelector) -> None:
        self.score, self.fingerprint = selector.score, selector.fingerprint


def in_process(*arguments: str) -> dict[str, Any]:
    """Run a part of this benchmark in a process of its own and read what it prints."""
    command = [sys.executable, "-m", "benchmarks.catalog", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def main() -> None:
    """Measure every size, or (``--part``) one."""
    parser = make_parser(__doc__, "catalog.json", data=False)
    parser.add_argument("--items", type=whole_numbers, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--kept", type=int, default=32)
    parser.add_argument("--num-proc", type=int, default=2)
    parser.add_argument("--updates", type=int, default=5000)
    parser.add_argument("--shuffled", action="store_true", help="ids in shuffled order, not ascending")
    parser.add_argument("--part", choices=["build", "read"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part == "build":
        print(json.dumps(build_one(options.folder, options.items[0], options.kept, options.num_proc, options.shuffled)))
        return
    if options.part == "read":
        print(json.dumps(read_one(options.folder, options.items[0], options.updates)))
        return
    origin, rows = environment(SEED), []
    shuffled = ["--shuffled"] if options.shuffled else []
    for items in tqdm(options.items, desc="sizes", disable=None):
        folder = Path(tempfile.mkdtemp()) / "catalog"
        shared = ["--items", str(items), "--folder", str(folder), "--kept", str(options.kept)]
        shared += ["--num-proc", str(options.num_proc), "--updates", str(options.updates), *shuffled]
        try:
            row = in_process(*shared, "--part", "build") | in_process(*shared, "--part", "read")
        finally:
            shutil.rmtree(folder.parent)
        rows.append({**row, "load_average": round(os.getloadavg()[0], 1)})
        print(json.dumps(rows[-1], indent=1), flush=True)
        write_results(options.output, {"command": " ".join(sys.argv), "sizes": rows}, origin)


if __name__ == "__main__":
    main()
