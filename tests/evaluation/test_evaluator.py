from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.conftest import make_causal_lm
from tsporec.data.items import Interactions, Item
from tsporec.data.synthetic import CatalogueConfig, generate
from tsporec.evaluation.evaluator import Evaluator
from tsporec.evaluation.report import plot_quality, results_table
from tsporec.evaluation.results_file import environment, write_results
from tsporec.evaluation.task import prepare
from tsporec.recommenders.embedding import EmbeddingConfig, make_recommender
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.scorers import make_scorer

SMALL = EmbeddingConfig(width=8, eval_every=5, patience=1, cool_down=0.1)


@pytest.fixture(scope="module")
def catalogue():
    return generate(CatalogueConfig(items=60, users=80, tastes=6, mentions=8, words_per_taste=3, sequence=5))


@pytest.fixture(scope="module")
def task(catalogue):
    return prepare(catalogue.items, catalogue.train, catalogue.test, catalogue.tokenizer, ("description",))


@pytest.fixture(scope="module")
def encoder(catalogue):
    return ItemEncoder(make_causal_lm(len(catalogue.tokenizer)))


@pytest.fixture(scope="module")
def evaluation(task, encoder):
    scorers = {"head": make_scorer("head"), "random": make_scorer("random"), "full": None}
    with pytest.warns(UserWarning, match=r"not clearly better than popularity .*head 2 adapted"):  # untrained texts
        return Evaluator(task, encoder, SMALL, seeds=[0, 1]).run(scorers, [2, 4], ["adapted", "frozen"])


def test_a_scorer_may_differ_by_budget(task, encoder):
    head, tfidf = make_scorer("head"), make_scorer("tfidf").fit(task.tokens)
    scorers = {"head": head, "tfidf": tfidf, "either": {2: head, 4: [tfidf]}}
    cells = {(c.scorer, c.budget): c for c in Evaluator(task, encoder, SMALL).run(scorers, [2, 4]).cells}
    assert cells["either", 2].metrics == cells["head", 2].metrics
    assert cells["either", 4].metrics == cells["tfidf", 4].metrics != cells["head", 4].metrics
    with pytest.raises(ValueError, match="for budgets \\[2\\], but none for 4"):
        Evaluator(task, encoder, SMALL).run({"some": {2: head}}, [2, 4])


def test_every_cell_is_there(evaluation, task):
    assert len(evaluation.cells) == 2 * (2 * 2 + 1)
    for cell in evaluation.cells:
        assert cell.tokens == (task.tokens.num_tokens if cell.budget is None else 60 * cell.budget)
        assert 0 <= cell.metrics["ndcg@10"] <= cell.metrics["recall@10"] <= 1
        assert set(cell.versus) == {"head", "full", "popularity"} - {cell.scorer, "head" if cell.budget is None else ""}
        for low_mean_high in (v for rival in cell.versus.values() for v in rival.values()):
            mean, low, high = low_mean_high
            assert low <= mean <= high
    json.dumps(evaluation.to_dict())


def test_many_rows_are_ranked_in_parts(task, encoder, monkeypatch):
    vectors = encoder.encode(task.tokens)
    recommender = make_recommender(encoder.width, SMALL).fit(vectors, task.train, task.held_out)
    whole = task.ranks(recommender, vectors)
    monkeypatch.setattr("tsporec.evaluation.task._ROWS", 7)
    np.testing.assert_array_equal(task.ranks(recommender, vectors), whole)
    assert replace(task, test=[], users=[]).ranks(recommender, vectors).shape == (0,)


def test_whoever_trains_a_warmed_recommender_has_their_own(task, encoder):
    evaluator = Evaluator(task, encoder, SMALL)
    first = evaluator.warmed([2], 0)
    before = {name: value.clone() for name, value in first.state_dict().items()}
    first.fit(evaluator.features(None, None)["vectors"], task.train, task.held_out)
    for name, value in evaluator.warmed([2], 0).state_dict().items():
        assert torch.equal(value, before[name]), name


def test_rivals_are_those_asked_for(task, encoder):
    scorers = {"head": make_scorer("head"), "random": make_scorer("random")}
    cells = Evaluator(task, encoder, SMALL).run(scorers, [2, 4], rivals=["random", "absent"]).cells
    assert [set(cell.versus) for cell in cells] == [{"random", "popularity"}] * 2 + [{"popularity"}] * 2
    difference = cells[0].metrics["mrr"] - cells[2].metrics["mrr"]
    assert cells[0].versus["random"]["mrr"][0] == pytest.approx(difference), "at the same budget"


def test_finished_work_is_found_again(task, encoder, tmp_path):
    class Fails:
        fingerprint = "fails"

        def score(self, tokens):
            raise RuntimeError("stopped")

    scorers = {"head": make_scorer("head"), "broken": Fails()}
    with pytest.raises(RuntimeError, match="stopped"):
        Evaluator(task, encoder, SMALL, cache=tmp_path).run(scorers, [2])
    done = sorted(tmp_path.iterdir())
    assert done
    assert not [p for p in done if p.suffix == ".tmp"]
    times = {p: p.stat().st_mtime_ns for p in done}
    again = Evaluator(task, encoder, SMALL, cache=tmp_path).run({"head": make_scorer("head")}, [2])
    fresh = Evaluator(task, encoder, SMALL).run({"head": make_scorer("head")}, [2])
    assert again.cells[0].metrics == fresh.cells[0].metrics
    assert {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == times


def test_scorers_without_a_name_are_not_taken_for_one_another(task, encoder, tmp_path):
    class Towards:
        def __init__(self, sign):
            self.sign, self.calls = sign, 0

        def score(self, tokens):
            self.calls += 1
            return (self.sign * np.arange(tokens.num_tokens)).astype(np.float32)

    first, last = Towards(-1), Towards(1)
    evaluator = Evaluator(task, encoder, SMALL, seeds=[0, 1], cache=tmp_path)
    assert evaluator.scores(first)["scores"][1] == -1
    assert evaluator.scores(last)["scores"][1] == 1
    assert not list(tmp_path.iterdir())
    first.calls = 0
    evaluator.run({"first": first}, [2, 4], ["adapted", "frozen"])
    assert first.calls == 1, "a scorer is asked once a run"


def test_memory_is_bounded(task, encoder, monkeypatch):
    scorers = {"head": make_scorer("head"), "random": make_scorer("random"), "full": None}
    bound = 3 * 60 * encoder.width * 4  # vectors of three selections
    whole = Evaluator(task, encoder, SMALL).run(scorers, [2, 4], ["adapted", "frozen"])
    monkeypatch.setattr("tsporec.evaluation.evaluator._MEMORY", bound)
    evaluator = Evaluator(task, encoder, SMALL)
    found = evaluator.run(scorers, [2, 4], ["adapted", "frozen"])
    assert sum(array.nbytes for arrays in evaluator._memory.values() for array in arrays.values()) <= bound
    assert [cell.metrics for cell in found.cells] == [cell.metrics for cell in whole.cells]


def test_wrong_tasks_are_named(catalogue, task, encoder):
    with pytest.raises(ValueError, match="no item has text in the fields"):
        prepare(catalogue.items, catalogue.train, catalogue.test, catalogue.tokenizer, ("title",))
    with pytest.raises(ValueError, match="the catalogue is empty"):
        prepare([], catalogue.train, catalogue.test, catalogue.tokenizer)
    with pytest.raises(ValueError, match="no test row has a history"):
        prepare(catalogue.items, catalogue.train, [Interactions("u", ("1",))], catalogue.tokenizer, ("description",))
    with pytest.raises(ValueError, match="stand in the training interactions"):
        prepare(catalogue.items, catalogue.test, catalogue.test, catalogue.tokenizer, ("description",))
    with pytest.raises(ValueError, match="0 of the training users have two items or more"):
        prepare([Item("1", {"title": "a"})], [], [Interactions("u", ("1", "1"))], catalogue.tokenizer)
    with pytest.raises(ValueError, match="a case must be one of adapted, frozen"):
        Evaluator(task, encoder, SMALL).run({"full": None}, [2], ["warm"])
    with pytest.raises(TypeError, match=r"items must be a list of Item, found str; .*read_items makes"):
        prepare("items.jsonl", catalogue.train, catalogue.test, catalogue.tokenizer)
    with pytest.raises(TypeError, match="train must be a list of Interactions, found NoneType"):
        prepare(catalogue.items, None, catalogue.test, catalogue.tokenizer)
    with pytest.raises(TypeError, match="scorers must be a dict of name to scorer, found list"):
        Evaluator(task, encoder, SMALL).run(["head"], [2])
    with pytest.raises(TypeError, match="budgets must be a list, such as"):
        Evaluator(task, encoder, SMALL).run({"full": None}, 2)
    with pytest.raises(ValueError, match="seeds is empty"):
        Evaluator(task, encoder, SMALL, seeds=[])


def test_tables_plots_and_results_files(evaluation, tmp_path):
    from rich.console import Console

    console = Console(width=160, record=True, file=(tmp_path / "table.txt").open("w"))
    console.print(results_table(evaluation, "adapted", {"more": [str(i) for i in range(5)]}))
    table = console.export_text()
    assert "adapted, 80 test rows, 2 seeds" in table
    assert table.count("random") == 2
    assert plot_quality(evaluation, tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    path = write_results(tmp_path / "deep" / "results.json", evaluation.to_dict(), environment(seed=3))
    written = json.loads(path.read_text())
    assert written["environment"]["seed"] == 3
    assert written["environment"]["versions"]["torch"]
    assert written["environment"]["hardware"]["cores"] >= 1
    assert len(written["cells"]) == len(evaluation.cells)
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]
