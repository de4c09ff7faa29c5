"""The figures of an evaluation: means over new targets, repeats apart, and the differences that its seeds can show.

A repeat is a target that stands in the history. Other items of the history are not ranked, so a repeat has few rivals
and is often first. A selection that helps repeats alone would look like a gain, so repeats have a separate figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tsporec.budget import Budget, as_budget
from tsporec.evaluation.task import Task
from tsporec.metrics import ndcg, paired_bootstrap, recall, reciprocal_rank
from tsporec.recommenders.embedding import EmbeddingRecommender

POPULARITY = "popularity"
"""The name in :attr:`Cell.versus` of ranking all items by their count in the training sequences."""
Ranks = NDArray[np.int64]

METRICS: dict[str, Callable[[Ranks], NDArray[np.float64]]] = {
    "recall@10": lambda rank: recall(rank, 10),
    "ndcg@10": lambda rank: ndcg(rank, 10),
    "mrr": reciprocal_rank,
}


Size: TypeAlias = int | float
"""A budget in tables and results files: a number of tokens or, as a float, the share of each text's tokens."""


def size_of(budget: Budget | int) -> Size:
    """Return the size of a budget. A ``total`` has none: items are encoded one by one.

    >>> size_of(8), size_of(Budget(keep_ratio=0.25))
    (8, 0.25)
    """
    budget = as_budget(budget)
    if budget.total is not None:
        raise ValueError("an evaluation reads items one by one; give a Budget of tokens or keep_ratio, not of a total.")
    return float(budget.keep_ratio or 0) or int(budget.tokens or 0)


def budget_of(size: Size) -> Budget:
    """Return the budget of a size.

    >>> budget_of(8), budget_of(0.25).keep_ratio
    (Budget(tokens=8, keep_ratio=None, total=None, minimum=1, recency=0.0), 0.25)
    """
    return Budget(keep_ratio=size) if isinstance(size, float) else Budget(tokens=size)


def size_label(size: Size | None) -> str:
    """Write a size for a table.

    >>> size_label(8), size_label(0.125), size_label(None)
    ('8', '12.5%', 'all')
    """
    return "all" if size is None else f"{100 * size:g}%" if isinstance(size, float) else str(size)


def amount(size: Size) -> str:
    """Write a size for a sentence.

    >>> amount(8), amount(0.125)
    ('8 tokens', '12.5% of each text')
    """
    return f"{size_label(size)} {'of each text' if isinstance(size, float) else 'tokens'}"


def counted(number: int, noun: str) -> str:
    """Write a number of things.

    >>> counted(1, "seed"), counted(4866, "test row")
    ('1 seed', '4,866 test rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


@dataclass(frozen=True)
class Cell:
    """Hold the figures of one scorer at one budget in one case. Metrics are means over new targets and seeds."""

    scorer: str
    budget: Size | None
    """Tokens of each item, or the share of its tokens; None is the whole text."""
    case: str
    metrics: dict[str, float]
    """Mean of each metric over the rows whose target does not stand in the history."""
    repeats: float | None
    """NDCG@10 of the other rows; None if there are none."""
    deviation: dict[str, float]
    """Standard deviation over the seeds of each metric's mean, around their mean (divided by their number)."""
    tokens: int
    """Tokens kept of all items together."""
    score_seconds: float
    encode_seconds: float
    versus: dict[str, dict[str, tuple[float, float, float]]]
    """Rival or popularity -> metric -> mean difference, and its 95% interval over users: (mean, low, high)."""
    distinct: float = 1.0
    """Share of the items that keep other tokens than every item of another text."""


@dataclass(frozen=True)
class Resolution:
    """Say how far two figures must lie apart before the seeds can show it, in NDCG@10 of new targets."""

    deviation: float
    """Standard deviation over the fits of one selection (divided by their number less one), pooled over selections."""
    difference: float
    """``2 * sqrt(2 / S) * deviation``: twice the standard error of the difference of two means over S fits."""

    @classmethod
    def of(cls, deviation: float, seeds: int) -> Resolution:
        """Say what ``seeds`` fits of each selection can show, if fits of one selection deviate by ``deviation``."""
        return cls(deviation, 2 * math.sqrt(2 / seeds) * deviation)


@dataclass(frozen=True)
class Evaluation:
    """Hold the cells of a table, and the rows and seeds that they were measured on."""

    cells: list[Cell]
    rows: int
    """Number of test rows, repeats among them."""
    repeats: float
    """Share of rows whose target stands in the history."""
    seeds: list[int]
    popularity: dict[str, float]
    """Each metric of popularity, over new targets."""
    resolution: dict[str, Resolution]
    """By case; empty if there is one seed."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a results file."""
        return {
            "test_rows": self.rows,
            "new_targets": round(self.rows * (1 - self.repeats)),
            "repeat_targets": self.repeats,
            "seeds": self.seeds,
            "popularity": self.popularity,
            "resolution": {case: asdict(found) for case, found in self.resolution.items()},
            "cells": [asdict(cell) for cell in self.cells],
        }


def compare(
    task: Task, ranks: Ranks, rivals: Mapping[str, Ranks]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, dict[str, tuple[float, float, float]]]]:
    """Compute metrics of new targets, and their differences to those of rivals.

    The ranks of M test rows by S seeds, int64 ``[S, M]``, give each metric float ``[S, M']`` of the M' new targets, and
    rival -> metric -> (mean, low, high) over users.
    """
    users = [user for user, new in zip(task.users, task.new, strict=True) if new]
    per_seed = {metric: of(ranks[:, task.new]) for metric, of in METRICS.items()}
    versus = {
        rival: {
            metric: paired_bootstrap(values.mean(axis=0), METRICS[metric](theirs[:, task.new]).mean(axis=0), users)
            for metric, values in per_seed.items()
        }
        for rival, theirs in rivals.items()
    }
    return per_seed, versus


def repeats_ndcg(task: Task, ranks: Ranks) -> float | None:
    """Compute NDCG@10 of the rows whose target stands in the history; None if there are none."""
    return None if task.new.all() else float(ndcg(ranks[:, ~task.new], 10).mean())


def resolutions(cells: Sequence[Cell], seeds: int, shared: Collection[str]) -> dict[str, Resolution]:
    """Pool the deviation of NDCG@10 over the cells of each case whose scorer is in ``shared``.

    These are the scorers whose selection is the same for every seed. There is nothing to pool with one seed.
    """
    found: dict[str, Resolution] = {}
    for case in dict.fromkeys(cell.case for cell in cells):
        variances = [cell.deviation["ndcg@10"] ** 2 for cell in cells if cell.case == case and cell.scorer in shared]
        if seeds > 1 and variances:
            found[case] = Resolution.of(math.sqrt(float(np.mean(variances)) * seeds / (seeds - 1)), seeds)
    return found


def require_better_than_popularity(
    task: Task,
    recommender: EmbeddingRecommender,
    vectors: NDArray[np.float32],
    unseen: Sequence[Sequence[int]],
    description: str,
) -> None:
    """Refuse a recommender that does not predict users whom it has not seen clearly better than popularity does.

    Popularity ranks all items by their count in the training sequences. Both rank every next item of the users that is
    new to them. Clearly better means that the 95% interval, over users, of the difference of NDCG@10 lies above 0.

    The recommender was fitted on the training sequences of ``task``, and reads ``vectors`` float32 ``[N, W]``.
    ``unseen`` has one sequence of item indices of each user who is not in them. ``description`` names the recommender.
    """
    places = task.next_items(unseen)
    users = [user for user, new in zip(places.users, places.new, strict=True) if new]
    if not users:
        raise ValueError(f"{description}: no unseen user touches a new item, so nothing shows what it has learned.")
    learned = ndcg(places.ranks(recommender, vectors)[places.new], 10)
    popular = ndcg(places.popularity_ranks()[places.new], 10)
    mean, low, high = paired_bootstrap(learned, popular, users)
    if low <= 0:
        raise ValueError(
            f"{description} is not clearly better than popularity on {len(unseen)} unseen users: NDCG@10 "
            f"{learned.mean():.4f} against {popular.mean():.4f}, difference {mean:+.4f} [{low:+.4f}, {high:+.4f}]. "
            "No reward is taken from it. Give more users or longer texts, raise EmbeddingConfig.patience, or name a "
            "reward without a recommender (coconsumption)."
        )
