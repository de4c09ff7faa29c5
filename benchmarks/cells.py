"""The cells of ``benchmarks.quality``: one results file for each catalogue, case, scorer and budget.

A cell holds a fit for each seed: its metrics, its seconds, and the ranks of its targets up to 10, so that intervals
over users can be computed from the files alone. One more file for each catalogue says to which user each row belongs.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from benchmarks.learned import added_later
from tsporec.evaluation.measures import METRICS, repeats_ndcg
from tsporec.evaluation.results_file import write_results
from tsporec.evaluation.task import Task

BEYOND = 11
"""Stands for every rank that is not among the first 10."""


@dataclass(frozen=True)
class Cell:
    """Name what is measured.

    >>> Cell("films", "embedding", "head", 8).name
    'films-embedding-head-8'
    """

    catalogue: str
    case: str
    scorer: str
    budget: int | None
    """Tokens of each item; None is the whole text."""

    @property
    def name(self) -> str:
        """Name of the cell's file without its ending."""
        return f"{self.catalogue}-{self.case}-{self.scorer}-{self.budget or 'all'}"

    @property
    def rows(self) -> str:
        """Name of the file that says of which users the rows are, without its ending."""
        return f"{self.catalogue}-{self.case}-rows"


def read_cell(folder: Path, name: str) -> dict[str, Any] | None:
    """Read the results file called ``name``; None if there is none."""
    path = folder / f"{name}.json"
    found: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
    return found


def seeds_of(folder: Path, cell: Cell, settings: dict[str, Any]) -> list[int]:
    """List the seeds that a cell has been measured with.

    Raises
    ------
    ValueError
        If the file was made with other settings.
    """
    found = read_cell(folder, cell.name)
    if found is None:
        return []
    if found["settings"] != settings:
        wrong = [key for key in settings if found["settings"].get(key) != settings[key]]
        raise ValueError(
            f"{folder / cell.name}.json was measured with other settings ({', '.join(wrong)}). Delete it, or give "
            "another folder as --output."
        )
    return [fit["seed"] for fit in found["fits"]]


def measured(task: Task, ranks: NDArray[np.int64]) -> dict[str, Any]:
    """Compute the metrics of one fit from the rank of each row's target, int64 ``[M]``; repeats stand apart."""
    new = ranks[task.new]
    return {
        "metrics": {metric: float(of(new).mean()) for metric, of in METRICS.items()},
        "repeats": repeats_ndcg(task, ranks[None]),
        "ranks": pack(np.minimum(new, BEYOND)),
    }


def add_fit(folder: Path, cell: Cell, settings: dict[str, Any], fit: dict[str, Any], origin: dict[str, Any]) -> None:
    """Write a fit to the cell's file, beside those that it holds."""
    found = read_cell(folder, cell.name) or {"fits": []}
    fits = sorted([*found["fits"], {"commit": origin["commit"], **fit}], key=lambda one: one["seed"])
    values = {metric: [one["metrics"][metric] for one in fits] for metric in METRICS}
    means = {metric: float(np.mean(each)) for metric, each in values.items()}
    deviation = {metric: float(np.std(each, ddof=1)) for metric, each in values.items() if len(each) > 1}
    results = {"settings": settings, "mean": means, "deviation": deviation, "fits": fits}
    write_results(folder / f"{cell.name}.json", results, origin)


def write_rows(folder: Path, name: str, task: Task, settings: dict[str, Any], origin: dict[str, Any]) -> None:
    """Write ``name``'s rows file, if it is not there: the sizes of the task, popularity, and of each row the user.

    ``later`` is 1 where the target is one of the items that :func:`benchmarks.learned.added_later` names.
    """
    if read_cell(folder, name) is not None:
        return
    users = np.unique([user for user, new in zip(task.users, task.new, strict=True) if new], return_inverse=True)[1]
    targets = np.array([row[-1] for row in task.test])[task.new]
    later = added_later(len(task.tokens))[targets].astype(np.uint8)
    results = {
        "settings": settings, "items": len(task.tokens), "tokens": task.tokens.num_tokens,
        "training_users": len(task.train), "rows": len(task.test), "repeats": task.repeats,
        "popularity": measured(task, task.popularity_ranks())["metrics"], "users": pack(users),
        "later": pack(later),
    }  # fmt: skip
    write_results(folder / f"{name}.json", results, origin)


def pack(values: NDArray[np.integer]) -> str:
    """Write whole numbers of at least 0 as a short text.

    >>> unpack(pack(np.array([3, 11, 11]))).tolist()
    [3, 11, 11]
    """
    stream = io.BytesIO()
    np.save(stream, values.astype(np.min_scalar_type(int(values.max(initial=0)))))
    return base64.b64encode(zlib.compress(stream.getvalue(), 9)).decode()


def unpack(text: str) -> NDArray[np.int64]:
    """Read what :func:`pack` wrote."""
    stream = io.BytesIO(zlib.decompress(base64.b64decode(text)))
    values: NDArray[np.int64] = np.load(stream, allow_pickle=False).astype(np.int64)
    return values


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold a lock file, if no other process holds it, and say so. The system frees it when the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(path, timeout=0).acquire()
    except Timeout:
        yield False
    else:
        with held:
            yield True
