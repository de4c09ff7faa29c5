"""Give every parser of the library hostile inputs, and count what comes out.

python -m benchmarks.fuzz --minutes 60

An input is made from the seed, the name of its target and its number alone: ``--replay readers:1234`` makes it again.
Findings are errors that are not documented or do not name the file, broken invariants, inputs that take more than a
minute of processor time or 2 GiB, and crashes. They are printed, and the exit code is then 1.

A second run goes on behind the inputs of the first one in ``--output``, and tries the open findings again.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.fuzz_targets import TARGETS, Target
from benchmarks.options import make_parser
from tsporec.evaluation.results_file import environment, write_results

SLICE = 20.0  # seconds that a process spends on a target, times the target's share
HANG = 60.0  # seconds of processor time for one input; ten times as many if it does not run
KEPT = 20  # findings of a slice; more say nothing new
MEMORY = 1 << 31  # bytes for one process, beyond what it has at its start
_FORK = multiprocessing.get_context("fork")


def try_input(target: Target, seed: int, number: int, folder: Path) -> tuple[bool, str | None]:
    """Make an input and try it: whether it was refused with a documented error, and the finding or None."""
    rng = random.Random(f"{seed} {target.name} {number}")
    try:
        target.attempt(rng, folder)
    except target.documented as error:
        if type(error) in target.documented and target.names in str(error):
            return True, None
        return False, f"{type(error).__name__} without {target.names!r}: {error}"[:500]
    except BaseException as error:
        return False, f"{type(error).__name__}: {error}"[:500]
    return False, None


def fuzz(target: Target, seed: int, first: int, seconds: float, tell: Callable[[int], None]) -> dict[str, Any]:
    """Try inputs from ``first`` on for some seconds, at least one; ``tell`` gets the number of each before."""
    _limit_memory()
    done: dict[str, Any] = {"refused": 0, "slowest": 0.0, "findings": {}}
    start, number = time.perf_counter(), first
    with tempfile.TemporaryDirectory() as folder:
        while number == first or time.perf_counter() < start + seconds:
            began = time.process_time()
            tell(number)
            refused, finding = try_input(target, seed, number, Path(folder))
            done["refused"] += refused
            done["slowest"] = max(done["slowest"], time.process_time() - began)
            if finding is not None and len(done["findings"]) < KEPT:
                done["findings"][str(number)] = finding
            number += 1
    return {**done, "inputs": number - first, "seconds": time.perf_counter() - start}


def fuzz_apart(target: Target, seed: int, first: int, seconds: float) -> dict[str, Any]:
    """Run :func:`fuzz` in a process of its own. If it crashes or hangs, that is the finding of its last input."""
    at = _FORK.Value("q", first)
    receive, send = _FORK.Pipe(duplex=False)

    def work() -> None:
        send.send(fuzz(target, seed, first, seconds, lambda number: setattr(at, "value", number)))

    process = _FORK.Process(target=work)
    process.start()
    send.close()
    start = time.monotonic()
    last, found, since, hangs = first, None, _spent(process.pid), False
    while found is None and not hangs:
        try:
            if receive.poll(1):
                found = receive.recv()
        except EOFError:
            break
        if at.value != last:
            last, since = at.value, _spent(process.pid)
        processor, clock = _spent(process.pid)
        hangs = processor - since[0] > HANG or clock - since[1] > 10 * HANG
    if found is None:
        process.kill()
    process.join()
    if found is not None:
        return dict(found)
    fault = f"took more than {HANG} s" if hangs else f"ended with code {process.exitcode}"
    seconds = time.monotonic() - start
    return {
        "refused": 0, "slowest": 0.0, "findings": {str(last): fault}, "inputs": last - first + 1, "seconds": seconds,
    }  # fmt: skip


def _spent(process: int | None) -> tuple[float, float]:
    """Return the processor time of a process, and the time of the clock."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        fields = ["0"] * 13
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), time.monotonic()


def _limit_memory() -> None:
    status = Path("/proc/self/status").read_text()
    used = int(status.split("VmData:")[1].split()[0]) << 10
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, resource.RLIM_INFINITY))


def add(known: dict[str, Any], part: dict[str, Any]) -> None:
    """Add the counts of a slice to those of its target."""
    for name in ("inputs", "refused", "seconds"):
        known[name] = round(known[name] + part[name], 1)
    known["slowest"] = round(max(known["slowest"], part["slowest"]), 2)
    known["open"] |= part["findings"]
    known["found"] += len(part["findings"])


def try_again(target: Target, seed: int, known: dict[str, Any]) -> None:
    """Drop the open findings of a target that are mended."""
    for number in list(known["open"]):
        part = fuzz_apart(target, seed, int(number), 0)
        if number not in part["findings"]:
            del known["open"][number]


def run(targets: Sequence[Target], minutes: float, seed: int, output: Path) -> dict[str, Any]:
    """Fuzz the targets in turn until the time is over; the results are written after each slice."""
    origin = environment(seed)
    results: dict[str, Any] = json.loads(output.read_text()) if output.exists() else {"targets": {}, "commits": []}
    if results.get("environment", origin)["seed"] != seed:
        raise ValueError(f"{output} has another seed; give --seed {results['environment']['seed']}, or another file.")
    results["commits"] = list(dict.fromkeys([*results["commits"], origin["commit"]]))
    empty = {"inputs": 0, "refused": 0, "seconds": 0.0, "slowest": 0.0, "found": 0, "open": {}}
    known = {target.name: results["targets"].setdefault(target.name, {**empty, "open": {}}) for target in targets}
    for target in targets:
        target.prepare()
        try_again(target, seed, known[target.name])
    until = time.monotonic() + 60 * minutes
    while time.monotonic() < until:
        for target in targets:
            left = min(SLICE * target.share, until - time.monotonic())
            add(known[target.name], fuzz_apart(target, seed, known[target.name]["inputs"], left))
            results["inputs"] = sum(one["inputs"] for one in results["targets"].values())
            results.pop("environment", None)
            write_results(output, results, origin)
    return results


def table(results: dict[str, Any]) -> str:
    """Return the results as a Markdown table."""
    rows = ["| target | inputs | refused | inputs/s | slowest, s | found | open |", "| --- |" + " ---: |" * 6]
    for name, one in results["targets"].items():
        speed = one["inputs"] / max(one["seconds"], 1e-9)
        cells = [f"{one['inputs']:,}", f"{one['refused']:,}", f"{speed:,.0f}", f"{one['slowest']:.2f}", one["found"]]
        rows.append(f"| {name} | {' | '.join(map(str, [*cells, len(one['open'])]))} |")
    return "\n".join(rows)


def main() -> None:
    """Run the program."""
    parser = make_parser(__doc__, "fuzz.json", data=False)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--targets", default=",".join(TARGETS), help=f"some of {', '.join(TARGETS)}")
    parser.add_argument("--replay", help="TARGET:NUMBER, one input again, with the traceback")
    args = parser.parse_args()
    if args.replay:
        name, number = args.replay.split(":")
        TARGETS[name].prepare()
        with tempfile.TemporaryDirectory() as folder:
            TARGETS[name].attempt(random.Random(f"{args.seed} {name} {number}"), Path(folder))
        return
    results = run([TARGETS[name] for name in args.targets.split(",")], args.minutes, args.seed, args.output)
    print(table(results))
    print(f"{results['inputs']:,} inputs with seed {args.seed}, at {', '.join(results['commits'])}")
    still = {name: one["open"] for name, one in results["targets"].items() if one["open"]}
    for name, findings in still.items():
        for number, finding in findings.items():
            print(f"{name}:{number}: {finding}")
    sys.exit(bool(still))


if __name__ == "__main__":
    main()
