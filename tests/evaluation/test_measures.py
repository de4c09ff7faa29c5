"""New targets are the figure and repeats stand apart; the resolution follows from the seeds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tsporec.evaluation.evaluator import Evaluator
from tsporec.evaluation.measures import Cell, Evaluation, Resolution, compare, repeats_ndcg, resolutions
from tsporec.evaluation.report import table_notes
from tsporec.evaluation.task import Task
from tsporec.tokens.ragged import RaggedTokens


def rows(*test: list[int]) -> Task:
    return Task(
        RaggedTokens.from_lists([[i] for i in range(6)]), [[0, 1]], [[0, 1]], list(test), list("abcdef")[: len(test)]
    )


def cell(scorer: str, deviation: float, case: str = "adapted") -> Cell:
    return Cell(scorer, 2, case, {}, None, {"ndcg@10": deviation}, 0, 0, 0, {})


def test_repeats_do_not_count_as_new_targets():
    task = rows([0, 1], [2, 3, 2], [4, 5])
    ranks = np.array([[1, 1, 3], [1, 2, 3]])
    per_seed, versus = compare(task, ranks, {"other": np.array([[3, 1, 3]])})
    assert per_seed["ndcg@10"].tolist() == [[1, 0.5], [1, 0.5]]
    assert per_seed["mrr"].mean() == pytest.approx(2 / 3)
    assert versus["other"]["ndcg@10"][0] == pytest.approx(0.25)
    assert repeats_ndcg(task, ranks) == pytest.approx((1 + 1 / math.log2(3)) / 2)
    assert repeats_ndcg(rows([0, 1]), np.array([[1]])) is None


def test_the_resolution_pools_the_fits_of_one_selection():
    cells = [cell("head", 0.003), cell("tfidf", 0.004), cell("selector", 0.9), cell("head", 0.1, "frozen")]
    found = resolutions(cells, 3, ["head", "tfidf"])
    deviation = math.sqrt((0.003**2 + 0.004**2) / 2 * 3 / 2)  # around the mean, divided by the number less one
    assert found["adapted"].deviation == pytest.approx(deviation)
    assert found["adapted"].difference == pytest.approx(2 * math.sqrt(2) * deviation / math.sqrt(3))
    assert set(found) == {"adapted", "frozen"}
    assert resolutions(cells, 1, ["head"]) == {}


def test_the_table_says_what_it_shows():
    found = Evaluation([], 200, 0.05, [0, 1], {"ndcg@10": 0.0123}, {"adapted": Resolution(0.001, 0.002)})
    notes = table_notes(found, "adapted")
    assert "190 rows with a new target; repeats (5.0%) apart" in notes
    assert "Popularity: NDCG@10 0.0123" in notes
    assert "deviate by 0.0010; differences under 0.0020" in notes
    assert "One seed says nothing" in table_notes(replace(found, resolution={}), "adapted")
    plain = found.to_dict()
    assert plain["new_targets"] == 190
    assert plain["resolution"] == {"adapted": {"deviation": 0.001, "difference": 0.002}}


def test_a_task_of_repeats_alone_is_refused():
    class Encoder:
        fingerprint, width = "none", 2

    with pytest.raises(ValueError, match="target of every test row stands in its history"):
        Evaluator(rows([1, 1]), Encoder(), warm_up=[]).run({}, [2])
