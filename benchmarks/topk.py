"""Time the top-k operation against chains of torch calls, by size, and against the least possible time.

python -m benchmarks.topk

It runs on one thread. In each round everything that is compared takes a turn, so a busy moment hits all of it. The
figures are medians over rounds; "over floor" is the median of the ratios within a round. Results are compared before
they are timed. `benchmarks.gpu` measures the kernels.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.options import make_parser
from tsporec.evaluation.results_file import environment, write_results
from tsporec.topk import cpu, topk_gather, topk_select

SEED = 0
BANDWIDTH = {"A100 80GB": 2.039e12, "H100 SXM": 3.35e12, "H200": 4.8e12}  # bytes/s, from NVIDIA's data sheets
Run = Callable[[], Any]


def segments(lengths: np.ndarray, seed: int = SEED) -> tuple[Tensor, Tensor, Tensor]:
    """Make random (scores float32 [T], cu_seqlens int32 [N + 1], ids int64 [T])."""
    rng = np.random.default_rng(seed)
    cu = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    scores = rng.standard_normal(int(cu[-1]), dtype=np.float32)
    return torch.from_numpy(scores), torch.from_numpy(cu), torch.from_numpy(rng.integers(0, 50_000, len(scores)))


def ours(scores: Tensor, cu: Tensor, ids: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Select with tsporec: (kept ids, kept positions), packed."""
    kept, _ = topk_select(scores, cu, k)
    return ids.index_select(0, kept), kept


def torch_chain(scores: Tensor, cu: Tensor, ids: Tensor, k: int, stable: bool) -> tuple[Tensor, Tensor]:
    """Select by padding, torch.topk (or a stable sort, which keeps the earlier of a tie), sort and gather."""
    lengths = cu.diff().long()
    width = int(lengths.max())
    held = torch.arange(width, device=scores.device) < lengths[:, None]
    padded = scores.new_full(held.shape, -torch.inf)
    padded[held] = scores
    best = torch.sort(padded, dim=1, descending=True, stable=True)[1][:, :k] if stable else padded.topk(k, dim=1)[1]
    columns = best.sort(dim=1)[0]
    positions = (columns + cu[:-1].long()[:, None])[columns < lengths[:, None]]
    return ids[positions], positions


def floor(scores: Tensor, outputs: Sequence[Tensor]) -> None:
    """Read the scores once; write ids and positions to memory that was written before.

    Fresh memory would measure page faults: up to ten times the writing on a virtual machine, by the allocator's choice.
    """
    scores.max()
    for output in outputs:
        output.fill_(1)


def turns(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Time each run once a round: seconds by name."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - start)
    return taken


def medians(runs: dict[str, Run], rounds: int) -> dict[str, float]:
    """Compute the median seconds of each run."""
    return {name: median(times) for name, times in turns(runs, rounds).items()}


def against_torch(lengths: np.ndarray, k: int, rounds: int) -> dict[str, float]:
    """Compute the median seconds of ours, both chains and the floor, and the median ratio of ours to the floor."""
    data = segments(lengths)
    expected = ours(*data, k)
    for stable in (False, True):
        for found, wanted in zip(torch_chain(*data, k, stable), expected, strict=True):
            if not torch.equal(found, wanted):
                raise RuntimeError("the torch chain and the operation disagree")
    outputs = [torch.ones_like(output) for output in expected]
    near: dict[str, Run] = {"ours": lambda: ours(*data, k), "floor": lambda: floor(data[0], outputs)}
    chains: dict[str, Run] = {
        "torch_topk": lambda: torch_chain(*data, k, False),
        "torch_stable": lambda: torch_chain(*data, k, True),
    }
    pairs = turns(near, 3 * rounds)  # without the chains: the allocator gives their memory back
    over = median(ours / least for ours, least in zip(pairs["ours"], pairs["floor"], strict=True))
    return {**medians({**near, **chains}, rounds), "over_floor": over}


def variants(lengths: np.ndarray, k: int, rounds: int) -> dict[str, float]:
    """Time the operation by dtype, ties, budgets and masks, in seconds."""
    scores, cu, ids = segments(lengths)
    rng = np.random.default_rng(SEED)
    protected = torch.from_numpy(rng.random(len(scores)) < 0.05)
    forbidden = torch.from_numpy(rng.random(len(scores)) < 0.05)
    half, brain, few, equal = scores.half(), scores.bfloat16(), scores.round(), torch.zeros_like(scores)
    budgets = torch.from_numpy(rng.integers(k // 2, 2 * k, len(lengths)).astype(np.int32))
    runs: dict[str, Run] = {
        name: lambda values=values: ours(values, cu, ids, k)
        for name, values in (
            ("float32", scores),
            ("float16", half),
            ("bfloat16", brain),
            ("few_distinct", few),
            ("all_equal", equal),
        )
    }
    runs["own_budgets"] = lambda: topk_gather(scores, cu, budgets, [ids])
    runs["both_masks"] = lambda: topk_gather(scores, cu, k, [ids], protected, forbidden)
    return medians(runs, rounds)


def scaling(rounds: int) -> dict[str, float]:
    """Time one segment, in microseconds, by the number of segments."""
    cases = {}
    for count in (1_000, 10_000, 100_000, 1_000_000):
        scores, cu, _ = segments(np.random.default_rng(SEED).integers(64, 193, count))
        repeat = max(1, 20_000 // count)
        cases[count] = (scores, cu, repeat)
    runs: dict[str, Run] = {
        str(count): lambda case=case: [topk_select(case[0], case[1], 32) for _ in range(case[2])]
        for count, case in cases.items()
    }
    taken = medians(runs, rounds)
    return {str(count): 1e6 * taken[str(count)] / (count * case[2]) for count, case in cases.items()}


def small_batch() -> float:
    """Time 64 segments of 128 tokens, dispatch included, in microseconds."""
    scores, cu, _ = segments(np.full(64, 128))
    return 1e6 * medians({"small": lambda: topk_select(scores, cu, 32)}, 2000)["small"]


def memory(lengths: np.ndarray, k: int) -> float:
    """Measure the peak of numpy's memory, the result included, as a multiple of the input's bytes."""
    scores, cu = (tensor.numpy() for tensor in segments(lengths)[:2])
    tracemalloc.start()
    cpu.select(scores, cu, k)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / (scores.nbytes + cu.nbytes)


def byte_floor(length: float, k: int, score_bytes: int, payloads: int) -> float:
    """Count the bytes that a GPU must move for one segment.

    They are scores, offsets, the 32-byte sectors of 8-byte payloads that hold a kept token, and the output.
    """
    sectors = 8 * length * (1 - (1 - k / length) ** 4)
    return length * score_bytes + 12 + payloads * (sectors + 8 * k) + 8 * k


def predicted() -> dict[str, dict[str, float]]:
    """Predict the byte floor of the first case (ids and positions out) in microseconds, by device and dtype."""
    return {
        name: {
            dtype: 1e6 * 100_000 * byte_floor(128, 32, size, 1) / bandwidth
            for dtype, size in (("float32", 4), ("float16", 2))
        }
        for name, bandwidth in BANDWIDTH.items()
    }


def main() -> None:
    """Measure, print, write."""
    parser = make_parser(__doc__, "topk.json", data=False)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    origin = environment(SEED)
    rng = np.random.default_rng(SEED)
    usual = rng.integers(64, 193, 100_000)
    skewed = np.exp(rng.uniform(np.log(16), np.log(4096), 5_000)).astype(int)
    results: dict[str, Any] = {
        "small_batch_us": small_batch(),
        "seconds": {
            "100000 x 64..192, k=32": against_torch(usual, 32, args.rounds),
            "5000 x 2048, k=512": against_torch(np.full(5_000, 2048), 512, args.rounds),
            "5000 x 16..4096 skewed, k=32": against_torch(skewed, 32, args.rounds),
        },
        "variant_seconds": variants(usual, 32, args.rounds),
        "us_per_segment": scaling(args.rounds),
        "memory_over_input": memory(usual, 32),
        "gpu_floor_predicted_us": predicted(),
    }
    report(results)
    write_results(args.output, results, origin)


def report(results: dict[str, Any]) -> None:
    """Print the tables of docs/topk.md."""
    print("| case | ours | torch.topk chain | stable chain | over floor |\n| --- | --- | --- | --- | --- |")
    for name, taken in results["seconds"].items():
        ratios = (taken[other] / taken["ours"] for other in ("torch_topk", "torch_stable"))
        cells = [f"{1e3 * taken['ours']:.0f} ms", *(f"{ratio:.2f}x as long" for ratio in ratios)]
        print("|", name, "|", " | ".join(cells), "|", f"{taken['over_floor']:.1f}x |")
    base = results["variant_seconds"]["float32"]
    for name, seconds in results["variant_seconds"].items():
        print(f"{name}: {1e3 * seconds:.0f} ms, {seconds / base:.2f} of float32")
    print("64 x 128:", f"{results['small_batch_us']:.0f} us")
    print("us a segment:", {n: round(us, 3) for n, us in results["us_per_segment"].items()})
    print("memory:", f"{results['memory_over_input']:.2f} of the input")
    print(
        "GPU floor, predicted us:",
        {n: {d: round(us) for d, us in row.items()} for n, row in results["gpu_floor_predicted_us"].items()},
    )


if __name__ == "__main__":
    main()
