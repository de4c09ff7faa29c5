"""Say what an evaluation found, in words that a person can act on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from tsporec.evaluation.evaluator import FULL
from tsporec.evaluation.measures import POPULARITY, Cell, Evaluation, Size, amount, counted

LEARNED = "selector"
"""The name of a learned selector in a list of scorers."""
LEVEL = 0.1
"""A short text is level with the whole text if it loses no more than this share of its NDCG@10, by the 95% interval."""
_NDCG = "ndcg@10"


@dataclass(frozen=True)
class Verdict:
    """Hold what :func:`judge` found about one scorer."""

    scorer: str
    """The learned selector, or else the best of the other scorers."""
    budget: Size
    """The smallest budget that is level with the whole text, or else the largest."""
    level: bool | None
    """Whether there is such a budget; None if the test rows or the seeds are too few to tell, as one seed is. Level
    means: not below the whole text beyond noise, and ``may_lose`` is at most :data:`LEVEL`."""
    tokens: float | None
    """Share of the whole text's tokens that the budget keeps; None if the whole text was not run."""
    quality: float | None
    """Share of the whole text's NDCG@10 that the budget keeps."""
    rule: str | None
    """The best of the other scorers at this budget."""
    gain: float | None
    """Relative difference of NDCG@10 to that rule."""
    gain_beyond_noise: bool
    lost: dict[Size, float]
    """By budget, the share of the whole text's NDCG@10 that is lost by the better end of the difference's interval."""
    may_lose: dict[Size, float]
    """By budget, the share that may be lost: by the worse end, or by as much as the rows and seeds cannot show."""
    rows: int
    """Number of test rows with a new target."""
    needs: dict[str, int]
    """About how many "test rows" and "seeds" would show a loss of :data:`LEVEL`; only what there is too little of."""
    better_than_popularity: bool
    """Whether the recommender is clearly better than popularity, with the whole text if that was run."""
    seeds: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, and the sentences as ``text``."""
        return {**asdict(self), "text": str(self)}

    def __str__(self) -> str:
        """Return the sentences."""
        by = "" if self.scorer == LEARNED else f" by {self.scorer}"
        kept = amount(self.budget)
        parts = []
        if self.quality is not None:
            parts.append(
                f"{kept}{by} keep {self.quality:.0%} of the whole text's NDCG@10 at {self.tokens:.0%} of its tokens"
            )
        if self.gain is not None:
            what = "the selector" if self.scorer == LEARNED else self.scorer
            change = f"adds {self.gain:.0%} over" if self.gain >= 0 else f"loses {-self.gain:.0%} to"
            noise = "" if self.gain_beyond_noise else "not "
            parts.append(f"{what} {change} the best rule, {self.rule} ({noise}beyond noise)")
        said = [f"{'; '.join(parts) or f'{self.scorer} was run alone: add full or a rule to compare it with'}."]
        if self.tokens == 1:
            said.append("That cuts nothing: no text has more tokens. Give a smaller budget (--budget).")
        if self.seeds < 2 and self.quality is not None:
            said.append("One seed cannot tell whether that is level with the whole text.")
        elif self.level:
            smallest = "the smallest budget " if len(self.lost) > 1 else ""
            lost = self.may_lose[self.budget]
            most = f"at most {lost:.0%}" if lost else "nothing"
            said.append(
                f"{kept} are {smallest}level with the whole text: by the 95% interval they lose {most} of its NDCG@10."
            )
        elif self.level is None:
            said.append(
                f"{counted(self.rows, 'test row')} with a new target and {counted(self.seeds, 'seed')} cannot tell "
                f"whether {kept} are "
                f"level with the whole text: they may lose {self.may_lose[self.budget]:.0%} of its NDCG@10."
            )
            if self.needs:
                enough = " and ".join(f"{float(f'{count:.2g}'):,.0f} {name}" for name, count in self.needs.items())
                said.append(
                    f"A loss of {LEVEL:.0%} would show with about {enough}: give more users, more held out (--split "
                    "time, --test) or more --seeds."
                )
        elif self.quality is not None:
            said.append("No budget here is level with the whole text; try a larger one.")
        if self.seeds < 3:
            said.append("Give at least three seeds (--seeds), since two fits on one text differ.")
        if not self.better_than_popularity:
            said.append(
                "But the recommender is not clearly better than popularity, so this says little about the texts: give "
                "more users or longer texts."
            )
        return " ".join(said)

    def fails(self, margin: float) -> list[Size]:
        """Return the budgets that lose more than ``margin`` of the whole text's NDCG@10, beyond the interval."""
        if self.tokens is None:
            raise ValueError("the whole text was not run, so no loss is known; add full to scorers=… (--scorers).")
        return [budget for budget, lost in self.lost.items() if lost > margin]

    def untold(self, margin: float) -> list[Size]:
        """Return the other budgets that may lose more than ``margin`` and :data:`LEVEL`: nothing is known of them."""
        failed = self.fails(margin)
        return [size for size, lost in self.may_lose.items() if size not in failed and lost > max(margin, LEVEL)]


def judge(evaluation: Evaluation, case: str = "adapted") -> Verdict:
    """Judge the learned selector of an evaluation, or else its best scorer.

    Rivals must have been compared: give the evaluator's ``run`` all scorers as ``rivals``.

    >>> versus = {"full": {"ndcg@10": (-0.01, -0.02, 0.01)}, "popularity": {"ndcg@10": (0.05, 0.04, 0.06)}}
    >>> short = Cell("head", 4, "adapted", {"ndcg@10": 0.09}, None, {}, 40, 0, 0, versus)
    >>> whole = Cell("full", None, "adapted", {"ndcg@10": 0.10}, None, {}, 400, 0, 0, versus)
    >>> print(judge(Evaluation([short, whole], 50, 0.0, [0, 1, 2], {}, {})))  # doctest: +NORMALIZE_WHITESPACE
    4 tokens by head keep 90% of the whole text's NDCG@10 at 10% of its tokens. 50 test rows with a new target and 3
    seeds cannot tell whether 4 tokens are level with the whole text: they may lose 70% of its NDCG@10. A loss of 10%
    would show with about 300 test rows: give more users, more held out (--split time, --test) or more --seeds.
    """
    cells = {(cell.scorer, cell.budget): cell for cell in evaluation.cells if cell.case == case}
    whole = cells.get((FULL, None))
    short = [cell for cell in cells.values() if cell.budget is not None]
    if not short:
        raise ValueError("an evaluation of the whole text alone has no short text to judge; name another scorer.")
    learned = [cell for cell in short if cell.scorer == LEARNED]
    best = max(short, key=lambda cell: cell.metrics[_NDCG]).scorer
    mine = learned or [cell for cell in short if cell.scorer == best]
    mine.sort(key=lambda cell: cell.budget or 0)
    value = 0.0 if whole is None else whole.metrics[_NDCG]
    compared = [] if whole is None else mine
    not_below = [cell for cell in compared if beyond_noise(evaluation, cell, FULL) >= 0]
    may_lose = {c.budget or 0: _share(_hidden(evaluation, c) - c.versus[FULL][_NDCG][0], value, 1.0) for c in compared}
    level = [cell for cell in not_below if may_lose[cell.budget or 0] <= LEVEL]
    ours = (level or mine[-1:])[0]
    rule = best_rule(cells.values(), ours)
    gained = None if rule is None else _ratio(ours, cells[rule, ours.budget])
    return Verdict(
        scorer=ours.scorer,
        budget=ours.budget or 0,
        level=bool(level) or (None if ours in not_below or len(evaluation.seeds) < 2 else False),
        tokens=None if whole is None else ours.tokens / max(whole.tokens, 1),
        quality=None if whole is None else _ratio(ours, whole),
        rule=rule,
        gain=None if gained is None else gained - 1,
        gain_beyond_noise=rule is not None and beyond_noise(evaluation, ours, rule) != 0,
        lost={c.budget or 0: _share(-c.versus[FULL][_NDCG][2], value, 0.0) for c in compared},
        may_lose=may_lose,
        rows=_new_rows(evaluation),
        needs=_needs(evaluation, ours, LEVEL * value) if value else {},
        better_than_popularity=(whole or ours).versus[POPULARITY][_NDCG][1] > 0,
        seeds=len(evaluation.seeds),
    )


def best_rule(cells: Iterable[Cell], than: Cell) -> str | None:
    """Return the name of the best scorer that is not learned, at the budget of ``than``; None if there is none."""
    same = [cell for cell in cells if (cell.budget, cell.case) == (than.budget, than.case)]
    rules = [cell for cell in same if cell.scorer not in (LEARNED, FULL, than.scorer)]
    return max(rules, key=lambda cell: float(cell.metrics[_NDCG])).scorer if rules else None


def beyond_noise(evaluation: Evaluation, cell: Cell, rival: str) -> int:
    """Return 1 or -1 if the cell's NDCG@10 is above or below the rival's beyond noise, else 0.

    Beyond noise means that the interval over users excludes 0, and that the seeds can show a difference of this size.

    >>> cell = Cell("tfidf", 4, "adapted", {}, None, {}, 40, 0, 0, {"head": {"ndcg@10": (0.02, 0.01, 0.03)}})
    >>> beyond_noise(Evaluation([cell], 50, 0.0, [0], {}, {}), cell, "head")
    1
    """
    mean, low, high = cell.versus[rival][_NDCG]
    found = evaluation.resolution.get(cell.case)
    shown = 0.0 if found is None else found.difference
    return 0 if low <= 0 <= high or abs(mean) < shown else (1 if mean > 0 else -1)


def _hidden(evaluation: Evaluation, cell: Cell) -> float:
    """Return the largest difference to the whole text, in NDCG@10, that the rows and the seeds cannot show.

    It is half of the interval over users, or what the seeds can show, or 3 / rows if that is more: where N rows show
    no difference at all, up to 3 / N of the rows may differ (the rule of three, at 95%). One seed shows none.
    """
    if len(evaluation.seeds) < 2:
        return math.inf
    mean, low, _ = cell.versus[FULL][_NDCG]
    found = evaluation.resolution.get(cell.case)
    return max(mean - low, 3 / max(_new_rows(evaluation), 1), 0.0 if found is None else found.difference)


def _needs(evaluation: Evaluation, cell: Cell, difference: float) -> dict[str, int]:
    """Return how many test rows and seeds would show a ``difference``, where there are fewer.

    An interval and what seeds can show shrink with the square root of their number.
    """
    mean, low, _ = cell.versus[FULL][_NDCG]
    rows, seeds, found = _new_rows(evaluation), len(evaluation.seeds), evaluation.resolution.get(cell.case)
    enough = {
        "test rows": math.ceil(max(rows * ((mean - low) / difference) ** 2, 3 / difference)),
        "seeds": 0 if found is None else math.ceil(seeds * (found.difference / difference) ** 2),
    }
    return {name: count for name, count in enough.items() if count > {"test rows": rows, "seeds": seeds}[name]}


def _new_rows(evaluation: Evaluation) -> int:
    return round(evaluation.rows * (1 - evaluation.repeats))


def _share(lost: float, value: float, otherwise: float) -> float:
    """Return what is lost of ``value`` as a share from 0 to 1, or ``otherwise`` if the value is 0."""
    return min(max(0.0, lost / value), 1.0) if value else otherwise


def _ratio(cell: Cell, rival: Cell) -> float | None:
    return cell.metrics[_NDCG] / rival.metrics[_NDCG] if rival.metrics[_NDCG] else None
