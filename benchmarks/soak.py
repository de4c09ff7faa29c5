"""Load the example service for minutes, and watch its memory, latency and answers.

python -m benchmarks.soak --minutes 10

``examples/serve.py`` runs in a process of its own, on loopback. Clients in this process ask for tokens, texts and new
texts, without a pause. Every answer is compared with the one of a quiet service. A writer updates the catalogue all the
while. Memory is the service's anonymous memory: pages of the catalogue's file that the system has cached are not in it.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from benchmarks.options import make_parser
from benchmarks.works import Building
from tsporec import ItemCatalog
from tsporec.data.items import Item
from tsporec.evaluation.results_file import environment, write_results

ROOT = Path(__file__).parent.parent
BUDGET, HISTORY, SECONDS = 8, 10, 5.0


class Service:
    """The example service in a process of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        names = [str(folder / name) for name in ("catalog", "model", "selector")]
        options = ["--selector", names[2], "--budget", str(BUDGET), "--port", str(self.port)]
        command = [sys.executable, "examples/serve.py", *names[:2], *options]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)  # a line a request

    def wait(self) -> None:
        """Wait until it answers."""
        for _ in range(600):
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self.process.poll() is not None:
                raise RuntimeError("the service did not start; see above")
            time.sleep(0.1)
        raise RuntimeError("the service did not start in a minute")

    def ask(self, connection: HTTPConnection, path: str, body: dict[str, Any]) -> Any:
        """Return the answer to one request, or its status."""
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        data = json.loads(answer.read())
        return data if answer.status == 200 else f"status {answer.status}: {data}"

    def memory(self) -> dict[str, float]:
        """Return anonymous memory and all memory in megabytes, the number of threads and of open files."""
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines())
        sizes = {name: int(lines[key].split()[0]) / 1024 for name, key in (("anonymous", "RssAnon"), ("all", "VmRSS"))}
        files = len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))
        return {
            **{name: round(size, 1) for name, size in sizes.items()},
            "threads": int(lines["Threads"]),
            "files": files,
        }


class Clients:
    """Threads that send requests and compare the answers."""

    def __init__(self, service: Service, requests: list[tuple[str, dict[str, Any]]], threads: int) -> None:
        self.service, self.requests = service, requests
        connection = HTTPConnection("127.0.0.1", service.port)
        self.expected = [service.ask(connection, *request) for request in requests]
        connection.close()
        wrong = [answer for answer in self.expected if isinstance(answer, str)]
        if wrong:
            raise RuntimeError(wrong[0])
        self.times: list[float] = []  # append is atomic
        self.errors: list[str] = []
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(seed,)) for seed in range(threads)]
        for thread in self.threads:
            thread.start()

    def run(self, seed: int) -> None:
        """Send requests until told to stop."""
        rng, connection = np.random.default_rng(seed), HTTPConnection("127.0.0.1", self.service.port)
        while not self.stop.is_set():
            number = int(rng.integers(len(self.requests)))
            start = time.perf_counter()
            try:
                answer = self.service.ask(connection, *self.requests[number])
            except OSError as error:
                answer = repr(error)
                connection.close()
            self.times.append(time.perf_counter() - start)
            if answer != self.expected[number]:
                self.errors.append(str(answer)[:200])
        connection.close()

    def window(self, since: int) -> dict[str, Any]:
        """Describe the requests after the first ``since``."""
        times = np.array(self.times[since:]) * 1000
        p50, p99 = np.percentile(times, [50, 99]) if len(times) else (0.0, 0.0)
        return {"requests": len(times), "p50_ms": round(float(p50), 2), "p99_ms": round(float(p99), 2)}


def prepare(folder: Path) -> tuple[Building, list[tuple[str, dict[str, Any]]]]:
    """Write a catalogue, a tokenizer and a selector, and make requests for them."""
    work, rng = Building(), np.random.default_rng(0)
    work.tokenizer.save_pretrained(folder / "model")
    work.selector.save_pretrained(folder / "selector")
    ItemCatalog.build(work.items, **work.given, budget=BUDGET, path=folder / "catalog")
    ids, texts = [item.id for item in work.items], [item.fields["title"] for item in work.items]
    requests: list[tuple[str, dict[str, Any]]] = []
    for _ in range(200):
        chosen = rng.integers(0, len(ids), HISTORY).tolist()
        requests += [("/tokens", {"ids": [ids[n] for n in chosen]})] * 3
        requests += [("/texts", {"ids": [ids[n] for n in chosen]})]
        requests += [("/compress", {"texts": [texts[n] for n in chosen[:2]]})]
    return work, requests


def main() -> None:
    """Load the service."""
    parser = make_parser(__doc__, "soak.json", data=False)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=8, help="clients at a time")
    options = parser.parse_args()
    origin, date, samples = environment(0), time.strftime("%Y-%m-%d", time.gmtime()), []
    with tempfile.TemporaryDirectory() as name:
        work, requests = prepare(Path(name))
        service = Service(Path(name))
        try:
            service.wait()
            clients = Clients(service, requests, options.threads)
            start, before, updates = time.monotonic(), 0, 0
            bar = tqdm(total=round(60 * options.minutes), desc="soak", unit="s", disable=None)
            while time.monotonic() - start < 60 * options.minutes:
                time.sleep(SECONDS)
                new = [Item(f"new-{updates}", work.items[updates % len(work.items)].fields)]
                ItemCatalog.open(Path(name) / "catalog").update(new, **work.given)
                updates += 1
                seconds = round(time.monotonic() - start, 1)
                samples.append({"seconds": seconds, **service.memory(), **clients.window(before)})
                before = len(clients.times)
                bar.update(round(SECONDS))
            clients.stop.set()
            for thread in clients.threads:
                thread.join()
        finally:
            service.process.terminate()
            service.process.wait()
    warm = [sample for sample in samples if sample["seconds"] > min(60, 30 * options.minutes)]
    parts = np.array_split([sample["anonymous"] for sample in warm], 3)
    found = {
        "date": date,
        "minutes": options.minutes,
        "clients": options.threads,
        "updates": updates,
        "errors": len(clients.errors),
        "first_errors": clients.errors[:5],
        **clients.window(0),
        "megabytes_first_third": round(float(np.median(parts[0])), 1),
        "megabytes_last_third": round(float(np.median(parts[2])), 1),
        "samples": samples,
    }
    print(json.dumps({key: value for key, value in found.items() if key != "samples"}, indent=1))
    write_results(options.output, found, origin)
    sys.exit(bool(clients.errors))


if __name__ == "__main__":
    main()
