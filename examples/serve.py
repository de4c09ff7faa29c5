"""A web service over a catalogue: item ids in, kept tokens or short texts out. New texts are shortened on request.

    pip install fastapi uvicorn
    python examples/serve.py CATALOG MODEL --selector run/selector    # http://127.0.0.1:8000/docs shows the calls
    python examples/serve.py --load 2000                              # a small catalogue, requests over loopback

CATALOG is the folder that ``tsporec compress`` wrote, MODEL the folder of its tokenizer. Updates of the catalogue are
seen within a second, in every worker process. ``--load`` sends requests from eight threads of the same process and
prints their latencies, so client and server share the processor.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import tiny
import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

from tsporec import Budget, ItemCatalog, TokenSelector
from tsporec.data.items import item_text


class Ids(BaseModel):
    """Ids of items, and how many tokens of each. By default, all that the catalogue keeps."""

    ids: list[str] | list[int] = Field(max_length=10_000)
    k: int | None = None


class Texts(BaseModel):
    """Texts that are not in the catalogue."""

    texts: list[str] = Field(max_length=1_000)


class Newest:
    """Gives the newest state of a catalogue. It is opened again when it is older than some seconds."""

    def __init__(self, path: str | Path, tokenizer: Any, seconds: float) -> None:
        self.path, self.tokenizer, self.seconds = path, tokenizer, seconds
        self.lock = threading.Lock()
        self.open()

    def open(self) -> None:
        """Open the newest state."""
        self.catalog, self.opened = ItemCatalog.open(self.path, tokenizer=self.tokenizer), time.monotonic()

    def __call__(self) -> ItemCatalog:
        """Return a catalogue that is at most some seconds old."""
        with self.lock:  # a request that has the old one goes on with it
            if time.monotonic() - self.opened > self.seconds:
                self.open()
            return self.catalog


@contextmanager
def faults():
    """Answer 404 to an unknown id and 422 to other bad input, with the message of the library."""
    try:
        yield
    except KeyError as error:
        raise HTTPException(404, error.args[0]) from error
    except ValueError as error:
        raise HTTPException(422, str(error)) from error


def make_app(
    catalog_path: str | Path,
    tokenizer: Any = None,
    selector: TokenSelector | None = None,
    budget: Budget | int = 16,
    seconds: float = 1.0,
) -> FastAPI:
    """Return the service. ``/texts`` needs the tokenizer, ``/compress`` the selector too.

    FastAPI runs these functions in threads. A catalogue and a selector may be shared by threads. A tokenizer changes
    while it encodes, so one text is encoded at a time.
    """
    newest, encoding = Newest(catalog_path, tokenizer, seconds), threading.Lock()
    selector = selector if selector is None or tokenizer is None else selector.for_tokenizer(tokenizer)
    app = FastAPI(title="tsporec")

    @app.get("/health")
    def health() -> dict[str, Any]:
        return {"status": "ok", "items": len(newest())}

    @app.post("/tokens")
    def tokens(wanted: Ids) -> dict[str, Any]:
        with faults():
            return {"input_ids": newest().lookup(wanted.ids, wanted.k).to_lists()}

    @app.post("/texts")
    def texts(wanted: Ids) -> dict[str, Any]:
        with faults():
            catalog = newest()
            return {"texts": [catalog.text(one, wanted.k) for one in wanted.ids]}

    @app.post("/compress")
    def compress(new: Texts) -> dict[str, Any]:
        with faults(), encoding:
            if selector is None or tokenizer is None:
                raise ValueError("this service has no selector; start it with MODEL and --selector.")
            return {"texts": selector.compress_text(new.texts, budget, tokenizer)}

    return app


@contextmanager
def running(app: FastAPI, port: int = 0):
    """Run the service in a thread, on loopback. Yields its port."""
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the server did not start; its own message stands above.")
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def post(connection: HTTPConnection, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Send one request: (status, answer)."""
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def load(port: int, ids: list[str], requests: int, clients: int = 8, history: int = 10) -> dict[str, float]:
    """Look up histories of ``history`` items from ``clients`` threads. Returns milliseconds and requests a second."""

    def client(seed: int) -> list[float]:
        rng, connection, times = np.random.default_rng(seed), HTTPConnection("127.0.0.1", port), []
        for _ in range(requests // clients):
            body = {"ids": rng.choice(ids, size=history).tolist()}
            start = time.perf_counter()
            status, answer = post(connection, "/tokens", body)
            times.append(time.perf_counter() - start)
            if status != 200:
                raise RuntimeError(f"status {status}: {answer}")
        connection.close()
        return times

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        times = [one for found in pool.map(client, range(clients)) for one in found]
    p50, p99 = np.percentile(times, [50, 99]) * 1000
    return {
        "requests": len(times),
        "p50 ms": p50,
        "p99 ms": p99,
        "a second": len(times) / (time.perf_counter() - start),
    }


def main(requests: int = 2000) -> dict[str, float]:
    """Build a small catalogue, serve it, and measure look-ups."""
    items, _, tokenizer = tiny.catalogue()
    given = {"tokenizer": tokenizer, "budget": 8}
    with tempfile.TemporaryDirectory() as folder:
        built = ItemCatalog.build(items, path=f"{folder}/catalog", **given)
        with running(make_app(f"{folder}/catalog", selector=built.selector, **given)) as port:
            connection = HTTPConnection("127.0.0.1", port)
            print(post(connection, "/texts", {"ids": ["B00"]})[1]["texts"])
            print(post(connection, "/compress", {"texts": [item_text(items[1])]})[1]["texts"])
            print(*post(connection, "/tokens", {"ids": ["nothing"]}))
            connection.close()
            found = load(port, [item.id for item in items], requests)
    print(", ".join(f"{name}: {value:.1f}" for name, value in found.items()))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("catalog", nargs="?", help="folder of the catalogue")
    parser.add_argument("model", nargs="?", help="folder of the tokenizer")
    parser.add_argument("--selector", help="folder of the selector; default: the catalogue's own, if it has one")
    parser.add_argument("--budget", type=int, default=16, help="tokens of a new text")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--load", type=int, help="measure this many requests on a small catalogue")
    given = parser.parse_args()
    if given.catalog is None:
        main(given.load or 2000)
    else:
        from transformers import AutoTokenizer

        known = AutoTokenizer.from_pretrained(given.model) if given.model else None
        name = given.selector
        chosen = TokenSelector.from_pretrained(name) if name else ItemCatalog.open(given.catalog).selector
        uvicorn.run(make_app(given.catalog, known, chosen, given.budget), port=given.port)
