"""The sentence under a table follows from its figures."""

from __future__ import annotations

import pytest

from tsporec.evaluation.measures import Cell, Evaluation, Resolution
from tsporec.evaluation.verdict import best_rule, beyond_noise, judge

WHOLE = 0.10


def cell(scorer: str, budget: int | None, value: float, half: float = 0.004, **rivals: float) -> Cell:
    """A cell whose differences to rivals have intervals of ``half`` to each side."""
    below = {"full": WHOLE, "popularity": 0.02, **rivals}
    versus = {
        name: {"ndcg@10": (value - other, value - other - half, value - other + half)} for name, other in below.items()
    }
    return Cell(scorer, budget, "adapted", {"ndcg@10": value}, None, {}, (budget or 100) * 10, 0, 0, versus)


def found(*cells: Cell, seeds: int = 3, difference: float = 0.001, rows: int = 5000) -> Evaluation:
    return Evaluation(list(cells), rows, 0.0, list(range(seeds)), {}, {"adapted": Resolution(0.001, difference)})


CELLS = [
    cell("head", 8, 0.06), cell("tfidf", 8, 0.07), cell("selector", 8, 0.08, head=0.06, tfidf=0.07),
    cell("head", 16, 0.08), cell("tfidf", 16, 0.096), cell("selector", 16, 0.098, head=0.08, tfidf=0.096),
    cell("full", None, WHOLE),
]  # fmt: skip


def test_the_smallest_level_budget_is_named():
    verdict = judge(found(*CELLS))
    assert str(verdict) == (
        "16 tokens keep 98% of the whole text's NDCG@10 at 16% of its tokens; the selector adds 2% over the best rule, "
        "tfidf (not beyond noise). 16 tokens are the smallest budget level with the whole text: by the 95% "
        "interval they lose at most 6% of its NDCG@10."
    )
    assert verdict.to_dict()["text"] == str(verdict)
    assert verdict.lost == pytest.approx({8: 0.16, 16: 0.0})
    assert verdict.fails(0.02) == [8]
    assert verdict.fails(0.2) == verdict.untold(0.02) == []


@pytest.mark.parametrize("cells", [CELLS, CELLS[:3] + CELLS[-1:]])
def test_one_seed_tells_no_level(cells):
    one = judge(found(*cells, seeds=1))
    assert one.level is None
    assert "One seed cannot tell whether that is level with the whole text. Give at least three seeds" in str(one)
    assert sorted(one.fails(0.1) + one.untold(0.1)) == [8, 16][: len(cells) // 3]
    assert one.untold(1) == []


def test_a_budget_that_cuts_nothing_is_told():
    whole = judge(found(cell("head", 100, WHOLE), CELLS[-1]))
    assert "at 100% of its tokens. That cuts nothing: no text has more tokens." in str(whole)


def test_where_none_is_level_the_largest_is_judged():
    verdict = judge(found(*CELLS[:3], cell("selector", 4, 0.03, head=0.06), CELLS[-1]))
    assert (verdict.budget, verdict.level, verdict.rule) == (8, False, "tfidf")
    assert "adds 14% over the best rule, tfidf (beyond noise)" in str(verdict)
    assert "No budget here is level with the whole text; try a larger one." in str(verdict)


def test_without_a_learned_selector_the_best_rule_is_judged():
    verdict = judge(found(CELLS[0], cell("tfidf", 8, 0.07, head=0.06), CELLS[-1], seeds=1))
    assert str(verdict).startswith(
        "8 tokens by tfidf keep 70% of the whole text's NDCG@10 at 8% of its tokens; tfidf adds"
    )
    assert "No budget here is level" in str(judge(found(CELLS[0], CELLS[-1])))
    alike = judge(found(cell("selector", 8, 0.099), CELLS[-1]))
    assert "8 tokens are level with the whole text: by the 95% interval they lose at most 5%" in str(alike)
    losing = judge(found(cell("tfidf", 8, 0.07), cell("selector", 8, 0.05, tfidf=0.07), CELLS[-1]))
    assert "the selector loses 29% to the best rule, tfidf (beyond noise)" in str(losing)
    alone = judge(found(CELLS[0]))
    assert "add full or a rule" in str(alone)
    with pytest.raises(ValueError, match="the whole text was not run"):
        alone.fails(0.1)
    with pytest.raises(ValueError, match="no short text to judge"):
        judge(found(CELLS[-1]))


def test_noise_is_of_users_and_of_seeds():
    one = cell("selector", 8, 0.08, tfidf=0.07)
    assert beyond_noise(found(one), one, "tfidf") == 1
    assert beyond_noise(found(one, difference=0.02), one, "tfidf") == 0
    assert beyond_noise(found(one), cell("selector", 8, 0.08, half=0.02, tfidf=0.07), "tfidf") == 0
    assert beyond_noise(found(one), one, "full") == -1


@pytest.mark.parametrize(
    ("half", "rows", "difference", "lost", "enough"),
    [
        (0.08, 100, 0.001, 0.8, "about 6,400 test rows:"),  # a wide interval
        (0.0, 12, 0.001, 1.0, "about 300 test rows:"),  # no row differs, which 12 rows do not show
        (0.004, 5000, 0.03, 0.3, "about 27 seeds:"),  # fits deviate
    ],
)
def test_too_few_rows_or_seeds_tell_nothing(half, rows, difference, lost, enough):
    few = judge(found(cell("selector", 8, WHOLE, half), CELLS[-1], rows=rows, difference=difference))
    assert few.level is None
    assert f"{rows:,} test rows with a new target and 3 seeds cannot tell whether 8 tokens are level" in str(few)
    assert f"they may lose {lost:.0%} of its NDCG@10. A loss of 10% would show with {enough}" in str(few)
    assert (few.fails(0.02), few.untold(0.02), few.untold(1)) == ([], [8], [])


def test_a_whole_text_that_finds_nothing_tells_nothing():
    few = judge(found(cell("head", 8, 0.0, full=0.0), cell("full", None, 0.0), rows=12))
    assert (few.level, few.needs, few.untold(0.02)) == (None, {}, [8])
    assert "is level" not in str(few)


def test_a_recommender_that_learned_nothing_is_told():
    weak = cell("full", None, 0.02)
    assert "not clearly better than popularity" in str(judge(found(cell("head", 8, 0.019), weak)))


def test_learned_and_whole_are_no_rules():
    cells = [cell(name, 8, 0.1 * i) for i, name in enumerate(("random", "tfidf", "selector", "full"))]
    assert best_rule(cells, cells[2]) == "tfidf"
    assert best_rule(cells, cells[1]) == "random"
    assert best_rule(cells[2:], cells[2]) is None
