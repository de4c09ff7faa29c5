"""Kill, starve and damage what writes files, and check that nothing is lost.

python -m benchmarks.faults
python -m benchmarks.faults --works save,build --kills 10 --output faults.json

Five works write files: training (all stages), collecting preferences, building a catalogue, updating one, and saving a
selector. Each runs in a forked child.

1. *Kills.* The child gets SIGKILL at a random moment. After it the last good state must be there. The work is then run
   again, and killed again, until it ends: at the bytes of a run that nobody disturbed.
2. *A full disk, a folder that may not be written, a clock set back, a killed worker process.* The same, with an error
   in place of the kill.
3. *A file that is gone, cut or changed.* The work and the reading after it give the same bytes or an error that names
   the file.

Full disks and read-only folders need the right to mount a tmpfs: without it, leave out "disk" and "readonly" from
``--faults``. The program ends with code 1 if a check failed.
"""

from __future__ import annotations

import gc
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a child that is forked must not wait for its parent's threads
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tqdm.auto import tqdm

from benchmarks.options import comma_separated, make_parser
from benchmarks.works import WORKS, Work
from tsporec.evaluation.results_file import environment, write_results

DAY = 86_400.0
DAMAGES = ("gone", "cut", "changed")
FAULTS = ["kill", "worker", "clock", "disk", "readonly", "damage"]


def in_child(work: Callable[[], Any], delay: float | None = None, victim: str = "child") -> tuple[str, Any]:
    """Run ``work`` in a fork and return ("done", its result), (the exception's name, its text) or ("killed", None).

    After ``delay`` seconds the child gets SIGKILL, or one of its worker processes if ``victim`` is "worker".
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            found = "done", work()
        except BaseException as error:
            found = type(error).__name__, str(error) or "".join(traceback.format_exc()[-500:])
        os.write(writer, json.dumps(found).encode()[:60_000])
        os._exit(0)
    os.close(writer)
    if delay is not None and not select.select([reader], [], [], delay)[0]:
        if victim == "child":
            os.kill(child, signal.SIGKILL)
        while victim == "worker" and not select.select([reader], [], [], 0.001)[0]:
            if workers := Path(f"/proc/{child}/task/{child}/children").read_text().split():
                os.kill(int(workers[-1]), signal.SIGKILL)
                break
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == -signal.SIGKILL and not data:
        return "killed", None
    return tuple(json.loads(data)) if data else (f"ended with {code}", None)


class Trial:
    """One work: what a run that nobody disturbs leaves, and what disturbed runs left instead."""

    def __init__(self, work: Work, scratch: Path, rng: random.Random) -> None:
        self.work, self.scratch, self.rng = work, scratch, rng
        self.failures: list[str] = []
        self.number = 0
        self.whole = self.begin()
        start = time.perf_counter()
        self.do(lambda: work.run(self.whole))
        self.seconds = time.perf_counter() - start
        self.expected = self.do(lambda: work.state(self.whole))

    def begin(self, inside: Path | None = None) -> Path:
        """Make a folder with the state before the work."""
        self.number += 1
        folder = (inside or self.scratch) / f"{self.work.name}-{self.number}"
        self.do(lambda: self.work.begin(folder))
        return folder

    def do(self, work: Callable[[], Any]) -> Any:
        """Run something that must not fail, in a child."""
        outcome, value = in_child(work)
        if outcome != "done":
            raise RuntimeError(f"{self.work.name}: {outcome}: {value}")
        return value

    def check(self, right: bool, found: str) -> bool:
        """Note a failure."""
        if not right:
            self.failures.append(found)
        return right

    def check_good(self, folder: Path, after: str) -> None:
        """Check that the last good state is there."""
        outcome = in_child(lambda: self.work.check(folder))
        self.check(outcome[0] == "done", f"after {after}: {outcome}")

    def finish(self, folder: Path, after: str, workers: int = 0) -> None:
        """Run the work to its end and compare the bytes; no temporary file may be left."""
        outcome, found = in_child(lambda: self.work.run(folder, workers) or self.work.state(folder))
        self.check((outcome, found) == ("done", self.expected), f"rerun after {after}: {outcome}: {found}")
        left = [path.name for path in folder.rglob(".*") if path.suffix in (".tmp", ".part")]
        self.check(not left, f"left after {after}: {left}")

    def kills(self, count: int, victim: str = "child", workers: int = 0) -> dict[str, int]:
        """Kill a child, or one of its workers, so often; count what came of it."""
        done, outcomes, folder = 0, Counter[str](), self.begin()
        bar = tqdm(total=count, desc=f"{self.work.name}: kill a {victim}", disable=None, leave=False)
        tries = 0
        while done < count and tries < 10 * count:
            tries += 1
            delay = self.rng.uniform(0, 1.1 * self.seconds)
            outcome, text = in_child(lambda folder=folder: self.work.run(folder, workers), delay, victim)
            stopped = "killed" if victim == "child" else "RuntimeError"
            self.check(outcome in (stopped, "done"), f"killed {victim}: {outcome}: {text}")
            outcomes[outcome] += 1
            if outcome == "done":
                self.finish(folder, f"killing a {victim}", workers)
                shutil.rmtree(folder, ignore_errors=True)
                folder = self.begin()
            else:
                done += 1
                bar.update()
                self.check_good(folder, f"killing a {victim}")
        self.finish(folder, f"killing a {victim}", workers)
        bar.close()
        return {"kills": done, "finished": outcomes["done"] + 1}

    def clock(self, count: int) -> dict[str, int]:
        """Kill the child, date all files a day ahead, set the clock a day back, and run again."""
        for _ in range(count):
            folder = self.begin()
            in_child(lambda folder=folder: self.work.run(folder), self.rng.uniform(0.1, 0.9) * self.seconds)

            def run(folder: Path = folder) -> None:
                now = time.time
                for path in folder.rglob("*"):
                    os.utime(path, (now() + DAY, now() + DAY))
                time.time = lambda: now() - DAY
                self.work.run(folder)

            outcome = in_child(run)
            self.check(outcome[0] == "done", f"clock set back: {outcome}")
            self.finish(folder, "a clock set back")
        return {"runs": count}

    def full_disk(self, count: int) -> dict[str, Any]:
        """Run with less space than the work needs; then give space and run again."""
        need = sum(path.stat().st_size for path in self.whole.rglob("*") if path.is_file())
        errors = Counter[str]()
        for number in range(count):
            with small_disk(self.scratch / "disk", 4 * need + (4 << 20)) as disk:
                folder, filler = self.begin(disk), disk / "filler"
                free = shutil.disk_usage(disk).free
                with filler.open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, max(1, free - int(need * number / count)) // 4096 * 4096)
                outcome, text = in_child(lambda folder=folder: self.work.run(folder))
                errors[outcome] += 1
                named = outcome == "done" or "No space left" in str(text) or "disk" in str(text)
                self.check(named, f"full disk: {outcome}: {text}")
                self.check_good(folder, "a full disk")
                filler.unlink()
                self.finish(folder, "a full disk")
        return {"runs": count, "outcomes": dict(errors)}

    def read_only(self) -> dict[str, Any]:
        """Run where nothing may be written; the state before must be readable there."""
        with small_disk(self.scratch / "disk", 64 << 20) as disk:
            folder = self.begin(disk)
            remount(disk, "ro")
            outcome, text = in_child(lambda: self.work.run(folder))
            self.check("Read-only" in str(text), f"read-only folder: {outcome}: {text}")
            self.check_good(folder, "a read-only folder")
            remount(disk, "rw")
            self.finish(folder, "a read-only folder")
        return {"runs": 1, "outcomes": {outcome: 1}}

    def damage(self) -> dict[str, int]:
        """Remove, cut or change each file of a finished and of a cut-off run, run again and read the state."""
        outcomes = Counter[str]()
        for state in filter(None, (self.whole, self.cut_off())):
            files = [path.relative_to(state) for path in sorted(state.rglob("*")) if path.is_file()]
            todo = [(name, how) for name in files for how in DAMAGES if not self.work.unprotected(name, how)]
            for name, how in tqdm(todo, desc=f"{self.work.name}: damage", disable=None, leave=False):
                folder = shutil.copytree(state, self.scratch / "damaged")
                hurt(folder / name, how, self.rng)
                outcome, found = in_child(lambda folder=folder: self.work.resume(folder) or self.work.state(folder))
                if outcome == "done":
                    self.check(found == self.expected, f"{name} is {how}: other bytes")
                else:
                    named = outcome in ("ValueError", "OSError", "FileNotFoundError") and str(folder) in str(found)
                    self.check(named, f"{name} is {how}: {outcome}: {found}")
                outcomes["same bytes" if outcome == "done" else "error that names the file"] += 1
                shutil.rmtree(folder)
        return {"damaged": outcomes.total(), **outcomes}

    def cut_off(self) -> Path | None:
        """Make a run that was killed on its way, if :meth:`Work.halfway` knows such a state."""
        while self.do(lambda: self.work.halfway(self.whole)) is not None:
            folder = self.begin()
            in_child(lambda folder=folder: self.work.run(folder), self.rng.uniform(0, self.seconds))
            if self.do(lambda folder=folder: self.work.halfway(folder)):
                return folder
            shutil.rmtree(folder, ignore_errors=True)
        return None


def hurt(path: Path, how: str, rng: random.Random) -> None:
    """Remove a file, cut it to a half, or change a byte of it."""
    data = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """Mount a tmpfs of ``size`` bytes; a PermissionError if that is not allowed."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size // 4096 * 4096}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        raise PermissionError("no right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, how: str) -> None:
    """Make a mounted disk "ro" or "rw"."""
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


def measure(work: Work, scratch: Path, faults: list[str], kills: int, seed: int) -> dict[str, Any]:
    """Put one work to these faults."""
    trial = Trial(work, scratch, random.Random(f"{work.name} {seed}"))
    few = max(1, kills // 10)
    makers: dict[str, Callable[[], dict[str, Any]]] = {
        "kill": lambda: trial.kills(kills),
        "worker": lambda: trial.kills(few, "worker", work.workers) if work.workers else {},
        "clock": lambda: trial.clock(few),
        "disk": lambda: trial.full_disk(few),
        "readonly": trial.read_only,
        "damage": trial.damage,
    }
    found: dict[str, Any] = {"seconds": round(trial.seconds, 2)}
    for name in faults:
        print(f"{work.name}: {name}", flush=True)
        found[name] = makers[name]()
    return {**found, "failures": trial.failures}


def main() -> None:
    """Put every work to all faults."""
    parser = make_parser(__doc__, "faults.json", data=False)
    parser.add_argument("--works", type=comma_separated, default=list(WORKS), help=", ".join(WORKS))
    parser.add_argument("--faults", type=comma_separated, default=FAULTS, help=", ".join(FAULTS))
    parser.add_argument("--kills", type=int, default=100, help="kills of each work; a tenth of it for other faults")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    gc.freeze()  # collections in a forked child would copy all that this process imported
    origin, date = environment(options.seed), time.strftime("%Y-%m-%d", time.gmtime())
    results = earlier(options.output, origin["commit"])
    for name in options.works:
        with tempfile.TemporaryDirectory() as scratch:
            found = measure(WORKS[name](), Path(scratch), options.faults, options.kills, options.seed)
        found["failures"] = results.get(name, {}).get("failures", []) + found["failures"]
        results[name] = {**results.get(name, {}), **found}
        print(json.dumps({name: results[name]}, indent=1), flush=True)
        write_results(options.output, {"date": date, "works": results}, origin)
    sys.exit(any(found["failures"] for found in results.values()))


def earlier(path: Path, commit: str) -> dict[str, dict[str, Any]]:
    """Return the works that were measured at this commit already, so that faults can be run one by one."""
    known = json.loads(path.read_text()) if path.is_file() else {"environment": {"commit": None}}
    works: dict[str, dict[str, Any]] = known["works"] if known["environment"]["commit"] == commit else {}
    return works


if __name__ == "__main__":
    main()
