"""Same seed, same bytes: what is kept, collected, trained and measured, in every setting of one machine.

python -m benchmarks.parity
python -m benchmarks.parity --capabilities avx2 --threads 1,2 --output parity.json

A cell is a process with one CPU capability of torch and one number of threads. Inside it, each artefact is made in
several ways: batch sizes, worker processes that are forked and spawned, padded and packed batches. All ways must give
the same digest. Then the cells are compared, and two processes under DDP (gloo) with one. Weights of random models come
from numpy, because torch's own random numbers differ between CPU capabilities.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import DataCollatorWithFlattening, DataCollatorWithPadding

from benchmarks.options import comma_separated, make_parser
from benchmarks.works import LEARNING, MADE, STEPS, Building, tiny_model
from tsporec import ItemCatalog, SelectorCollator, TokenSelector, make_scorer, select
from tsporec._internal.digest import digest
from tsporec.data.items import tokenize_items
from tsporec.data.synthetic import generate
from tsporec.evaluation.evaluator import Evaluator
from tsporec.evaluation.results_file import environment, write_results
from tsporec.evaluation.task import prepare
from tsporec.learning.candidates import CandidateConfig
from tsporec.learning.pipeline import train
from tsporec.learning.preferences import collect_preferences
from tsporec.learning.rewards.coconsumption import CoConsumptionReward
from tsporec.learning.trainer import PreferenceConfig, PreferenceTrainer
from tsporec.recommenders.encoder import ItemEncoder

ROOT = Path(__file__).parent.parent
KEPT = 4
Digests = dict[str, str]


def fill(module: torch.nn.Module, seed: int = 1, spread: float = 0.5) -> Any:
    """Give a module random weights of numpy."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(torch.from_numpy(rng.normal(0, spread, weight.shape)))
    return module


class World:
    """A generated catalogue, a tokenizer, a language model and a selector whose network says something."""

    def __init__(self, **shape: Any) -> None:
        self.made = generate(MADE)
        self.tokenizer = self.made.tokenizer
        self.tokens = tokenize_items(self.made.items, self.tokenizer, ["description"])
        self.model = fill(tiny_model(len(self.tokenizer)), spread=0.1)
        config = replace(LEARNING.selector, hidden=11, **shape)
        self.selector = fill(TokenSelector(config)).for_tokenizer(self.tokenizer).fit(self.tokens)
        self.reward = CoConsumptionReward(
            self.tokens, [[int(item) for item in row.item_ids] for row in self.made.train]
        )

    def scores(self) -> Digests:
        """Score with every kind of scorer: all texts at once, one by one, and in parts of 7 in another order."""
        scorers = {
            "selector": self.selector,
            "selector with item weights": self.selector.make_distinct(self.tokens, [KEPT]),
            "tfidf": make_scorer("tfidf").fit(self.tokens),
            **{name: make_scorer(name, model=self.model) for name in ("self_information", "attention", "centroid")},
        }
        order = np.random.default_rng(0).permutation(len(self.tokens))
        found = {}
        for name, scorer in scorers.items():
            whole = scorer.score(self.tokens)
            for size in (1, 7):
                for start in range(0, len(order), size):
                    part = order[start : start + size]
                    mine = self.tokens.take(part)
                    rows = np.concatenate([np.arange(*self.tokens.cu_seqlens[one : one + 2]) for one in part])
                    np.testing.assert_array_equal(scorer.score(mine), whole[rows], err_msg=f"{name}, batches of {size}")
            found[f"scores and selections: {name}"] = digest(whole, select(scorer, self.tokens, KEPT).kept)
        return found

    def batches(self) -> Digests:
        """Collate: batches of 1, 4 and all; here, in 2 forked workers and in a spawned one; padded and packed."""
        rows = [{"input_ids": row.tolist(), "item_spans": [(0, len(row))]} for row in self.tokens]
        padded, packed = (
            SelectorCollator(base, self.selector, KEPT, tokenizer=self.tokenizer)
            for base in (DataCollatorWithPadding(self.tokenizer), DataCollatorWithFlattening(return_position_ids=False))
        )
        found = set()
        for size, workers, start in ((1, 0, None), (4, 0, None), (40, 0, None), (4, 2, "fork"), (4, 1, "spawn")):
            for collator in (padded, packed):
                options = {"num_workers": workers, "multiprocessing_context": start}
                ids = [batch["input_ids"].flatten() for batch in DataLoader(rows, size, collate_fn=collator, **options)]
                found.add(digest(torch.cat(ids).numpy()))
        return {"collated batches": only(found, "collated batches")}

    def catalogues(self, folder: Path) -> Digests:
        """Build catalogues with 1, 2 and 3 workers, forked and spawned, in chunks of several sizes."""
        work, found = Building(), set()
        for number, (workers, start, size) in enumerate(((1, "spawn", 400), (2, "fork", 7), (3, "spawn", 50))):
            path = folder / f"catalogue-{number}"
            how = {"num_proc": workers, "start_method": start, "chunk_items": size}
            selector = fill(TokenSelector(LEARNING.selector)).for_tokenizer(work.tokenizer)
            ItemCatalog.build(work.items, tokenizer=work.tokenizer, selector=selector, budget=KEPT, path=path, **how)
            found.add(work.state(path))
        return {"catalogue": only(found, "catalogue")}

    def preferences(self, folder: Path) -> Digests:
        """Collect preferences in shards of 3 and of 40 segments."""
        found = set()
        for size in (3, 40):
            pairs = self.collect(folder / f"preferences-{size}", shard_segments=size)
            found.add(digest(pairs.to_list()))
        return {"preferences": only(found, "preferences")}

    def collect(self, folder: Path, **options: Any) -> Any:
        """Collect preferences of the selector."""
        return collect_preferences(
            self.tokens, self.selector.score(self.tokens), self.reward, folder, pairs=2,
            tokenizer_fingerprint=str(self.selector.tokenizer_fingerprint),
            candidates=CandidateConfig((KEPT,), 6), **options,
        )  # fmt: skip

    def trainings(self, folder: Path) -> Digests:
        """Train: a rule whose selections are made distinct, the network, item weights."""
        found = {}
        kinds: dict[str, dict[str, Any]] = {
            "a rule": {"network_rounds": 0, "item_rounds": 0},
            "item weights": {"network_rounds": 0, "rewards": {"coconsumption": 1.0}},
            "the network": {"item_rounds": 0, "rewards": {"coconsumption": 1.0}},
        }
        for name, rounds in kinds.items():
            digests = set()
            for workers in (0, 2):
                steps = {**STEPS, "dataloader_num_workers": workers}
                config = replace(LEARNING, network_training=steps, item_training=steps, **rounds)
                with patch("tsporec.learning.warm_up.require_better_than_popularity"):
                    trained = train(
                        self.made.items, self.made.train, self.model, self.tokenizer,
                        folder / f"train-{name}-{workers}", config, fields=["description"],
                    )  # fmt: skip
                kept = select(trained.selector, self.tokens, KEPT).kept
                digests.add((trained.selector.fingerprint, digest(kept)))
            fingerprint, kept_digest = only(digests, name)
            found |= {f"trained selector: {name}": fingerprint, f"selections of it: {name}": kept_digest}
        return found

    def results(self) -> Digests:
        """Evaluate two scorers."""
        task = prepare(self.made.items, self.made.train, self.made.test, self.tokenizer, ("description",))
        scorers = {"head": make_scorer("head"), "selector": self.selector}
        evaluation = Evaluator(task, ItemEncoder(self.model), LEARNING.recommender).run(scorers, [KEPT])
        return {"results": digest([[cell.scorer, cell.metrics, cell.tokens] for cell in evaluation.cells])}


def only(found: set[Any], name: str) -> Any:
    """Return the one element."""
    if len(found) != 1:
        raise AssertionError(f"{name}: {len(found)} different results within one process: {found}")
    return found.pop()


def cell(parts: list[str]) -> Digests:
    """Make the artefacts in this process."""
    found: Digests = {}
    with tempfile.TemporaryDirectory() as name:
        world, folder = World(), Path(name)
        makers: dict[str, Callable[[], Digests]] = {
            "scores": world.scores,
            "batches": world.batches,
            "catalogues": lambda: world.catalogues(folder),
            "preferences": lambda: world.preferences(folder),
            "trainings": lambda: world.trainings(folder),
            "results": world.results,
        }
        for part in parts:
            found |= makers[part]()
    return found


PARTS = ["scores", "batches", "catalogues", "preferences", "trainings", "results"]


def distributed(folder: Path) -> dict[str, Any]:
    """Train on preferences in this process, which is one of ``WORLD_SIZE``; return digests and the weights."""
    world, processes = World(dropout=0.0), int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    pairs = world.collect(folder / f"pairs-{rank}-of-{processes}")
    args = PreferenceConfig(
        str(folder / f"{processes}"), use_cpu=True, disable_tqdm=True, held_out=0.2, num_train_epochs=2, seed=0,
        per_device_train_batch_size=8 // processes, per_device_eval_batch_size=4, learning_rate=1e-2,
        ddp_backend="gloo" if processes > 1 else None,
    )  # fmt: skip
    trainer = PreferenceTrainer(world.selector, args, pairs)
    trainer.train()
    weights = torch.cat([weight.detach().flatten() for weight in world.selector.parameters()]).tolist()
    kept = select(world.selector, world.tokens, KEPT).kept
    accuracy = trainer.evaluate()["eval_rewards/accuracies"]
    return {"weights": weights, "kept": kept.tolist(), "accuracy": accuracy, "steps": trainer.state.global_step}


def compare_distributed(again: bool = True) -> dict[str, Any]:
    """Compare two processes under DDP with one, and with two once more."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = launch(Path(folder) / "2", 2)
        one = distributed(Path(folder) / "1")
        repeated = {"a second run has the same bits": first == launch(Path(folder) / "again", 2)[0]} if again else {}
    difference = np.abs(np.array(one["weights"]) - np.array(first["weights"])).max()
    return {
        "both processes have the same bits": first == second,
        **repeated,
        "steps of one and of two processes": [one["steps"], first["steps"]],
        "largest difference of a weight to one process": float(difference),
        "largest weight": float(np.abs(one["weights"]).max()),
        "same selections as one process": one["kept"] == first["kept"],
        "held-out accuracy of one and of two": [one["accuracy"], first["accuracy"]],
    }


def launch(folder: Path, processes: int) -> list[dict[str, Any]]:
    """Run :func:`distributed` in so many processes and return what each prints."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(processes):
        given = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_PORT": port}
        given = given if processes > 1 else {}
        started.append(start(["--distributed", str(folder)], MASTER_ADDR="127.0.0.1", OMP_NUM_THREADS=1, **given))
    return [finish(process) for process in started]


def start(arguments: list[str], **given: Any) -> subprocess.Popen[str]:
    """Start this program in a process of its own."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **{name: str(value) for name, value in given.items()}}
    command = [sys.executable, "-m", "benchmarks.parity", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environ)


def finish(process: subprocess.Popen[str]) -> Any:
    """Return what a process prints last."""
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{process.args} ended with {process.returncode}")
    return json.loads(output.strip().splitlines()[-1])


def main() -> None:
    """Compare all cells, or make one."""
    parser = make_parser(__doc__, "parity.json", data=False)
    parser.add_argument("--capabilities", type=comma_separated, default=["default", "avx2", "avx512"])
    parser.add_argument("--threads", type=comma_separated, default=["1", "2"])
    parser.add_argument("--parts", type=comma_separated, default=PARTS, help=", ".join(PARTS))
    parser.add_argument("--cell", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--distributed", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        print(json.dumps(cell(options.parts)))
        return
    if options.distributed:
        print(json.dumps(distributed(options.distributed)))
        return
    origin, date = environment(0), time.strftime("%Y-%m-%d", time.gmtime())
    cells: dict[str, Digests] = {}
    todo = [(capability, threads) for capability in options.capabilities for threads in options.threads]
    for capability, threads in tqdm(todo, desc="cells", disable=None):
        arguments = ["--cell", "--parts", ",".join(options.parts)]
        process = start(arguments, ATEN_CPU_CAPABILITY=capability, OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads)
        cells[f"{capability}, {threads}"] = finish(process)
    rows = {}
    for name in next(iter(cells.values())):
        by = {key: found[name] for key, found in cells.items()}
        within = [{by[f"{c}, {t}"] for t in options.threads} for c in options.capabilities]
        rows[name] = {
            "same in all cells": len(set(by.values())) == 1,
            "same with any number of threads": all(len(found) == 1 for found in within),
            "digests": by,
        }
        print(f"{name}: {len(set(by.values()))} different in {len(by)} cells", flush=True)
    found = {"date": date, "artefacts": rows, "two processes under DDP": compare_distributed()}
    print(json.dumps(found["two processes under DDP"], indent=1))
    write_results(options.output, found, origin)


if __name__ == "__main__":
    main()
