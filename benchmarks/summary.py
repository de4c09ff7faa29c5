"""Summarise the cells of ``benchmarks.quality``: means, deviations over seeds, and differences with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cells import Cell, read_cell, unpack
from benchmarks.generative import TOTAL
from benchmarks.quality import CHECKPOINT, NEW_CATALOGUE, NEW_ITEMS, plan
from tsporec.evaluation.evaluator import FULL
from tsporec.evaluation.measures import Resolution
from tsporec.metrics import ndcg, paired_bootstrap, recall

BASELINES = ("head", "random", "tfidf", "self_information", "attention", "centroid", CHECKPOINT)
"""Scorers that others have published, or that need no thought."""
OURS = ("selector", f"selector{TOTAL}", NEW_CATALOGUE, "rule")
"""Scorers that are compared with the best baseline and with the whole text."""
BEST = "best baseline"
COMPARED: dict[str, Callable[[NDArray[np.int64]], NDArray[np.float64]]] = {
    "ndcg@10": lambda ranks: ndcg(ranks, 10),
    "recall@10": lambda ranks: recall(ranks, 10),
    "recall@1": lambda ranks: recall(ranks, 1),
}
"""Metrics that the ranks up to 10 decide."""
METRICS_OF = {"embedding": ("ndcg@10", "recall@10"), "generative": ("ndcg@10", "recall@1")}
"""Case -> the metrics that cells are compared by. Prompts rank ten items, so their Recall@10 is 1."""
Figures = dict[str, Any]


class Measured:
    """Hold a cell's results file.

    Parameters
    ----------
    cell : Cell
    found : dict
        The results file.
    rows : bool ``[M]``, optional
        The rows that count. Default: all.
    """

    def __init__(self, cell: Cell, found: Figures, rows: NDArray[np.bool_] | None = None) -> None:
        self.cell, self.found, self.rows = cell, found, slice(None) if rows is None else rows
        self.seeds: list[int] = [fit["seed"] for fit in found["fits"]]

    @cached_property
    def ranks(self) -> dict[int, NDArray[np.int64]]:
        """Ranks of the new targets by seed, int64 ``[M]`` each."""
        return {fit["seed"]: unpack(fit["ranks"])[self.rows] for fit in self.found["fits"]}

    def mean(self, metric: str) -> float:
        """Return the mean of a metric over seeds."""
        return float(np.mean([COMPARED[metric](ranks).mean() for ranks in self.ranks.values()]))

    def versus(self, peers: Mapping[str, Measured], whole: Measured | None, users: NDArray[np.int64]) -> Figures:
        """Compare with head and, if the scorer is ours, with the best baseline and the whole text."""
        rivals = {"head": peers.get("head")} if self.cell.scorer != "head" else {}
        if self.cell.scorer in (*OURS, NEW_ITEMS):
            known = [peers[name] for name in BASELINES if name in peers]
            rivals |= {BEST: max(known, key=lambda peer: peer.mean("ndcg@10"), default=None), FULL: whole}
        if self.cell.scorer.endswith(TOTAL):
            rivals["selector"] = peers.get("selector")
        found = {name: self.minus(rival, users) for name, rival in rivals.items() if rival is not None}
        return {name: difference for name, difference in found.items() if difference is not None}

    def minus(self, other: Measured, users: NDArray[np.int64]) -> Figures | None:
        """Compare with another cell over the seeds that both have; None if there are none.

        Each metric gives (mean difference, low, high), a 95% interval over users.
        """
        seeds = [seed for seed in self.seeds if seed in other.seeds]
        if not seeds:
            return None
        found: Figures = {"scorer": other.cell.scorer, "seeds": seeds}
        for metric in METRICS_OF[self.cell.case]:
            of = COMPARED[metric]
            ours, theirs = (np.mean([of(one.ranks[s]) for s in seeds], axis=0) for one in (self, other))
            found[metric] = paired_bootstrap(ours, theirs, users.tolist())
            found[f"{metric} gain"] = found[metric][0] / float(theirs.mean())
        return found

    def figures(self, texts: int) -> Figures:
        """Return the cell's own figures. ``texts`` is the number of items or prompts that are read."""
        fits = self.found["fits"]
        values = {metric: [of(ranks).mean() for ranks in self.ranks.values()] for metric, of in COMPARED.items()}
        seconds = {key: float(np.mean([fit["seconds"][key] for fit in fits])) for key in fits[0]["seconds"]}
        return {
            "scorer": self.cell.scorer,
            "budget": self.cell.budget,
            "seeds": self.seeds,
            "commits": sorted({fit["commit"] for fit in fits}),
            "mean": {metric: float(np.mean(each)) for metric, each in values.items()},
            "deviation": {metric: float(np.std(each, ddof=1)) for metric, each in values.items() if len(each) > 1},
            "repeats": None if fits[0]["repeats"] is None else float(np.mean([fit["repeats"] for fit in fits])),
            "tokens": float(np.mean([fit["tokens"] for fit in fits])) / texts,
            "seconds": seconds,
        }


def summarise(
    folder: Path, catalogues: Sequence[str], cases: Sequence[str], budgets: Sequence[int]
) -> dict[str, dict[str, Figures]]:
    """Summarise all cells in ``folder``: catalogue -> case -> figures. What is not measured is left out.

    The figures of a case are those of its rows file, the ``environment`` of one of its cells, the ``resolution``
    (the smallest difference of NDCG@10 that the seeds show), a list of ``cells``, and ``new_items``: for each budget
    NDCG@10 of the rows whose target the selector has not learned from.
    """
    found: dict[str, dict[str, Figures]] = {}
    for catalogue in catalogues:
        for case in cases:
            cells = plan([catalogue], [case], None, budgets)
            made = [Measured(cell, read) for cell in cells if (read := read_cell(folder, cell.name)) is not None]
            if made:
                rows = read_cell(folder, cells[0].rows)
                if rows is None:
                    raise ValueError(
                        f"{folder} has cells of {catalogue}, but not {cells[0].rows}.json. benchmarks.quality "
                        "writes it again if you start it for this catalogue."
                    )
                found.setdefault(catalogue, {})[case] = _one(rows, made)
    return found


def _one(rows: Figures, made: Sequence[Measured]) -> Figures:
    """Summarise one case of one catalogue."""
    users, later = unpack(rows["users"]), unpack(rows["later"]).astype(bool)
    by_budget: dict[int | None, dict[str, Measured]] = {}
    for one in made:
        by_budget.setdefault(one.cell.budget, {})[one.cell.scorer] = one
    whole, cells, new_items = by_budget.get(None, {}).get(FULL), [], []
    for one in made:
        peers = by_budget[one.cell.budget]
        if one.cell.scorer == NEW_ITEMS:
            parts = {name: Measured(peer.cell, peer.found, later) for name, peer in peers.items()}
            part = parts[NEW_ITEMS]
            means = {name: peer.mean("ndcg@10") for name, peer in parts.items()}
            versus = part.versus(parts, None, users[later])
            new_items.append({"budget": one.cell.budget, "seeds": one.seeds, "mean": means, "versus": versus})
            continue
        figures = one.figures(rows["items"] if one.cell.case == "embedding" else rows["rows"])
        cells.append({**figures, "versus": one.versus(peers, whole, users)})
    kept = {key: value for key, value in rows.items() if key not in ("environment", "users", "later")}
    return {
        **kept, "rows_of_new_items": int(later.sum()), "environment": made[0].found["environment"],
        "resolution": _resolution(made), "cells": cells, "new_items": new_items,
    }  # fmt: skip


def _resolution(made: Sequence[Measured]) -> Figures | None:
    """Pool the deviation over seeds of NDCG@10, and say what the fewest seeds of a cell can show."""
    both = [(one.found["deviation"]["ndcg@10"], len(one.seeds)) for one in made if len(one.seeds) > 1]
    if not both:
        return None
    deviation = float(np.sqrt(np.mean([value**2 for value, _ in both])))
    return asdict(Resolution.of(deviation, min(seeds for _, seeds in both)))


def level_with_whole(case: Figures, scorer: str) -> int | None:
    """Return the smallest budget at which a scorer is level with the whole text, or above it; None if there is none.

    Level means that the 95% interval of the difference of NDCG@10 reaches 0.
    """
    for cell in sorted((c for c in case["cells"] if c["scorer"] == scorer), key=lambda c: c["budget"]):
        if FULL in cell["versus"] and cell["versus"][FULL]["ndcg@10"][2] >= 0:
            return int(cell["budget"])
    return None
