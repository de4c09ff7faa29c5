"""Check and time the CUDA kernels on one card, in a few minutes.

python -m benchmarks.gpu

1. Compile the kernels for the card: seconds, registers and spills of each.
2. Run the tests that are marked `gpu`.
3. Compare each dtype and shape class with the oracle, with ties, special values and masks.
4. Time the selection against chains of torch calls and against the bytes that it must move.

Without a GPU, g++ runs the kernels on the stand-in driver of the tests, with smaller shapes. That shows that this
program works; its times are not printed, and nothing is written unless `--output` says where.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.options import RESULTS, make_parser
from benchmarks.topk import Run, byte_floor, segments, torch_chain
from tests.topk.cases import DTYPES, compiler_report, problem, variants
from tsporec.evaluation.results_file import environment, write_results
from tsporec.topk import cuda, kernels, reference

SEED = 0
# Shortest and longest length, and the number of segments on a card and on the stand-in.
SHAPES = {
    "empty to 5 tokens": (0, 5, 50_000, 60),
    "one warp": (0, 256, 50_000, 30),
    "between warp and block": (250, 262, 5_000, 8),
    "one block": (257, 8_000, 500, 1),
    "more than 48 KiB of shared memory": (25_000, 50_000, 20, 1),
    "more than all shared memory": (120_000, 1_000_000, 4, 0),
}
Lengths = tuple[int, int, int, int]


@contextmanager
def stand_in() -> Iterator[None]:
    """Let g++ run the kernels on CPU tensors, through the stand-in driver of the tests."""
    import pytest

    from tests.topk.cuda_driver import StandIn, build

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        StandIn(build(Path(folder))).install(patch)
        yield


def compiled(architecture: str) -> dict[str, Any]:
    """Compile the kernels anew: seconds, and the registers and spilled bytes of each."""
    report, start = io.StringIO(), time.perf_counter()
    kernels.compile_kernels(architecture, report)
    seconds = round(time.perf_counter() - start, 2)
    return {"architecture": architecture, "seconds": seconds, "kernels": compiler_report(report.getvalue())}


def tested() -> dict[str, Any]:
    """Run the tests that need a GPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    command += ["tests/topk", "tests/collators/test_batch.py"]
    ran = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False)
    print(ran.stdout)
    return {"exit_code": ran.returncode, "summary": (ran.stdout.strip() or ran.stderr).splitlines()[-1]}


def compared(where: str, shapes: dict[str, Lengths]) -> dict[str, dict[str, dict[str, int]]]:
    """Compare selection and mask with the oracle: segments tried, and calls with another result, by dtype and shape."""
    rng = np.random.default_rng(SEED)
    found: dict[str, dict[str, dict[str, int]]] = {}
    for variant in variants():
        by_shape = found.setdefault(str(variant[0]).removeprefix("torch."), {})
        for name, (shortest, longest, *counts) in shapes.items():
            count = counts[where == "cpu"]
            inputs = problem(rng, rng.integers(shortest, longest + 1, count), variant, where)
            kept, expected = cuda.select(*inputs), reference.select(*inputs)
            same = all(map(torch.equal, kept, expected)) and torch.equal(cuda.mask(*inputs), reference.mask(*inputs))
            tally = by_shape.setdefault(name, {"segments": 0, "wrong": 0})
            tally["segments"] += count
            tally["wrong"] += not same
    return found


def ours(scores: Tensor, cu: Tensor, ids: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Select with the kernels: (kept ids, kept positions), packed."""
    kept, _ = cuda.select(scores, cu, k)
    return ids.index_select(0, kept), kept


def median_us(run: Run, rounds: int, where: str) -> float:
    """Time a run, in microseconds: by events on a GPU, with the cache overwritten before each round."""
    run()
    if where == "cpu":
        start = time.perf_counter()
        run()
        return 1e6 * (time.perf_counter() - start)
    other = torch.empty(256 << 20, dtype=torch.uint8, device=where)
    times = []
    for _ in range(rounds):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        other.zero_()
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(1e3 * begin.elapsed_time(end))
    return median(times)


def timed(where: str, count: int, rounds: int) -> dict[str, Any]:
    """Time `count` segments of 64 to 192 tokens, k = 32, and 64 of 128; and what the card needs to move the bytes."""
    scores, cu, ids = (t.to(where) for t in segments(np.random.default_rng(SEED).integers(64, 193, count)))
    small, small_cu, _ = (t.to(where) for t in segments(np.full(64, 128)))
    k, small_k = (torch.full_like(offsets[1:], 32) for offsets in (cu, small_cu))
    source = torch.empty((1 << 31) if where == "cuda" else (1 << 20), dtype=torch.uint8, device=where)
    target = torch.empty_like(source)
    bandwidth = 2 * len(source) / median_us(lambda: target.copy_(source), rounds, where)  # bytes a microsecond
    results: dict[str, Any] = {"segments": count, "copy_gb_per_second": bandwidth / 1e3}
    for dtype in DTYPES:
        values = scores.to(dtype)
        runs: dict[str, Run] = {
            "select": lambda values=values: ours(values, cu, ids, k),
            "mask": lambda values=values: cuda.mask(values, cu, k),
            "torch_topk": lambda values=values: torch_chain(values, cu, ids, 32, False),
            "torch_stable": lambda values=values: torch_chain(values, cu, ids, 32, True),
        }
        row = {f"{name}_us": median_us(run, rounds, where) for name, run in runs.items()}
        row["floor_us"] = count * byte_floor(128, 32, values.element_size(), 1) / bandwidth
        results[str(dtype).removeprefix("torch.")] = row
    results["small_us"] = median_us(lambda: cuda.select(small, small_cu, small_k), 20 * rounds, where)
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, time, print, write. Return 1 if anything is wrong."""
    parser = make_parser(__doc__, "gpu.json", data=False)
    parser.set_defaults(output=None)
    parser.add_argument("--rounds", type=int, default=51)
    args = parser.parse_args(arguments)
    real = torch.cuda.is_available()
    where = "cuda" if real else "cpu"
    origin = environment(SEED)
    architecture = "sm_{}{}".format(*torch.cuda.get_device_capability()) if real else "sm_90"
    results: dict[str, Any] = {"driver": "CUDA" if real else "stand-in", "compiled": compiled(architecture)}
    results["tests"] = tested() if real else None
    with nullcontext() if real else stand_in():
        if kernels.kernels_on(torch.device("cuda", 0)) is None:
            return 1
        results["compared"] = compared(where, SHAPES)
        results["timed"] = timed(where, 100_000 if real else 50, args.rounds)
    report(results)
    if args.output or real:
        write_results(args.output or RESULTS / "gpu.json", results, origin)
    wrong = sum(tally["wrong"] for by_shape in results["compared"].values() for tally in by_shape.values())
    return int(bool(wrong or (real and results["tests"]["exit_code"])))


def report(results: dict[str, Any]) -> None:
    """Print the tables of docs/reliability.md."""
    real = results["driver"] == "CUDA"
    if not real:
        print("There is no GPU here: the kernels ran on a stand-in driver, and no times are printed.\n")
    made = results["compiled"]
    print(f"{made['architecture']} compiled in {made['seconds']} s\n")
    print("| kernel | registers | stack | spilled bytes |\n| --- | --- | --- | --- |")
    for name, counts in made["kernels"].items():
        spilled = counts["spill_stores"] + counts["spill_loads"]
        print(f"| {name} | {counts['registers']} | {counts['stack']} | {spilled} |")
    print(f"\n`gpu` tests: {results['tests']['summary'] if results['tests'] else 'not run'}\n")
    print("| dtype | shape class | segments | calls that differ from the oracle |\n| --- | --- | --- | --- |")
    for dtype, by_shape in results["compared"].items():
        for name, tally in by_shape.items():
            print(f"| {dtype} | {name} | {tally['segments']:,} | {tally['wrong']} |")
    if not real:
        return
    times = results["timed"]
    print(f"\n{times['segments']:,} segments of 64 to 192 tokens, k = 32, ids and positions out")
    print(f"copy: {times['copy_gb_per_second']:.0f} GB/s; 64 segments of 128: {times['small_us']:.0f} µs\n")
    print("| dtype | ours | over the byte floor | torch.topk chain | stable chain | mask alone |")
    print("| --- | --- | --- | --- | --- | --- |")
    for dtype in map(str, DTYPES):
        row = times[dtype.removeprefix("torch.")]
        chains = (f"{row[name] / row['select_us']:.1f}x as long" for name in ("torch_topk_us", "torch_stable_us"))
        over = f"{row['select_us'] / row['floor_us']:.1f}x"
        print(f"| {dtype} | {row['select_us']:.0f} µs | {over} |", " | ".join(chains), f"| {row['mask_us']:.0f} µs |")


if __name__ == "__main__":
    sys.exit(main())
