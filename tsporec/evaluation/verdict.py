"""Say what an evaluation found, in words that a person can act on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from tsporec.evaluation.evaluator import FULL
from tsporec.evaluation.measures import POPULARITY, Cell, Evaluation, Size, amount

LEARNED = "selector"
"""The name of a learned selector in a list of scorers."""
_NDCG = "ndcg@10"


@dataclass(frozen=True)
class Verdict:
    """Hold what :func:`judge` found about one scorer."""

    scorer: str
    """The learned selector, or else the best of the other scorers."""
    budget: Size
    """The smallest budget that is level with the whole text, or else the largest."""
    level: bool
    """Whether there is such a budget: its NDCG@10 is not below the whole text's beyond noise."""
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
        if self.level:
            smallest = "the smallest budget " if len(self.lost) > 1 else ""
            said.append(f"{kept} are {smallest}level with the whole text.")
        elif self.quality is not None:
            said.append("No budget here is level with the whole text; try a larger one.")
        if self.seeds < 3:
            said.append(f"{self.seeds} seed(s) show little; give at least three.")
        if not self.better_than_popularity:
            said.append(
                "But the recommender is not clearly better than popularity, so this says little about the texts: give "
                "more users or longer texts."
            )
        return " ".join(said)

    def fails(self, margin: float) -> list[Size]:
        """Return the budgets that lose more than ``margin`` of the whole text's NDCG@10, beyond the interval."""
        if self.quality is None:
            raise ValueError("the whole text was not run, so no loss is known; add full to scorers=… (--scorers).")
        return [budget for budget, lost in self.lost.items() if lost > margin]


def judge(evaluation: Evaluation, case: str = "adapted") -> Verdict:
    """Judge the learned selector of an evaluation, or else its best scorer.

    Rivals must have been compared: give the evaluator's ``run`` all scorers as ``rivals``.

    >>> versus = {"full": {"ndcg@10": (-0.01, -0.02, 0.01)}, "popularity": {"ndcg@10": (0.05, 0.04, 0.06)}}
    >>> short = Cell("head", 4, "adapted", {"ndcg@10": 0.09}, None, {}, 40, 0, 0, versus)
    >>> whole = Cell("full", None, "adapted", {"ndcg@10": 0.10}, None, {}, 400, 0, 0, versus)
    >>> print(judge(Evaluation([short, whole], 50, 0.0, [0, 1, 2], {}, {})))
    4 tokens by head keep 90% of the whole text's NDCG@10 at 10% of its tokens. 4 tokens are level with the whole text.
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
    level = [cell for cell in mine if whole is not None and beyond_noise(evaluation, cell, FULL) >= 0]
    ours = (level or mine[-1:])[0]
    rule = best_rule(cells.values(), ours)
    gained = None if rule is None else _ratio(ours, cells[rule, ours.budget])
    value = 0.0 if whole is None else whole.metrics[_NDCG]
    return Verdict(
        scorer=ours.scorer,
        budget=ours.budget or 0,
        level=bool(level),
        tokens=None if whole is None else ours.tokens / max(whole.tokens, 1),
        quality=None if whole is None else _ratio(ours, whole),
        rule=rule,
        gain=None if gained is None else gained - 1,
        gain_beyond_noise=rule is not None and beyond_noise(evaluation, ours, rule) != 0,
        lost={c.budget or 0: max(0.0, -c.versus[FULL][_NDCG][2] / value) if value else 0.0 for c in mine},
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


def _ratio(cell: Cell, rival: Cell) -> float | None:
    return cell.metrics[_NDCG] / rival.metrics[_NDCG] if rival.metrics[_NDCG] else None
