"""The quality suite measures each fit once, and says what it measured."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import torch

from benchmarks.cells import BEYOND, Cell, locked, pack, seeds_of, unpack, write_rows
from benchmarks.quality import SEEDED, Suite, plan, show, work_through
from tests.conftest import make_causal_lm
from tests.learning.conftest import small_catalogue
from tsporec.evaluation.task import prepare
from tsporec.recommenders.embedding import EmbeddingConfig

ORIGIN = {"commit": "abc", "seed": 0, "versions": {}, "hardware": {}}
HEAD = Cell("made", "embedding", "head", 2)


@pytest.fixture(scope="module")
def made():
    return small_catalogue()


@pytest.fixture
def suite(made, tmp_path):
    task = prepare(made.items, made.train, made.test, made.tokenizer, ("description",), None)
    lm = make_causal_lm(len(made.tokenizer))
    config = EmbeddingConfig(width=8, eval_every=2, patience=1)
    return Suite("made", task, lm, made.tokenizer, tmp_path / "cache", config)


def test_every_scorer_is_measured_and_each_fit_once(suite, tmp_path, monkeypatch, capsys):
    pytest.importorskip("accelerate")
    cells = plan(
        ["made"], ["embedding"], ["head", "random", "tfidf", "self_information", "rule", "selector", "full"], [2]
    )
    run = partial(suite.run, seeds=[0, 1], folder=tmp_path, origin=ORIGIN)
    assert work_through(cells, run) == []
    for cell in cells:
        found = json.loads((tmp_path / f"{cell.name}.json").read_text())
        assert [fit["seed"] for fit in found["fits"]] == [0, 1]
        assert found["mean"]["ndcg@10"] == np.mean([fit["metrics"]["ndcg@10"] for fit in found["fits"]])
        assert len({fit["vectors"] for fit in found["fits"]}) == (2 if cell.scorer in SEEDED else 1)
        assert found["fits"][0]["tokens"] == min(cell.budget or 99, 16) * len(suite.task.tokens)
        ranks = unpack(found["fits"][0]["ranks"])
        gain = np.where(ranks < BEYOND, 1 / np.log2(1 + ranks), 0)
        assert gain.mean() == pytest.approx(found["fits"][0]["metrics"]["ndcg@10"])
    monkeypatch.setattr(suite, "fit", None)
    assert work_through(cells, run) == []
    show(tmp_path, [HEAD, Cell("made", "embedding", "head", 8)])
    assert "head-2: 0." in (shown := capsys.readouterr().out)
    assert "head-8: missing" in shown


def test_a_cell_that_another_process_is_at_is_left_to_it(suite, tmp_path):
    run = partial(suite.run, seeds=[0], folder=tmp_path, origin=ORIGIN)
    other = Cell("made", "embedding", "tfidf", 2)
    with locked(suite.cache / "locks" / HEAD.name) as ours:
        assert ours
        assert work_through([HEAD, other], run) == [HEAD]
    assert not (tmp_path / f"{HEAD.name}.json").exists()
    assert (tmp_path / f"{other.name}.json").exists()


def test_a_cell_of_other_settings_is_refused(suite, tmp_path):
    suite.run(HEAD, [0], tmp_path, ORIGIN)
    assert seeds_of(tmp_path, HEAD, suite.settings(HEAD)) == [0]
    suite.rows = "last"
    with pytest.raises(ValueError, match=r"other settings \(rows\)"):
        suite.run(HEAD, [1], tmp_path, ORIGIN)


def test_self_information_says_what_it_computed_in(suite):
    suite.dtype = torch.bfloat16
    settings = suite.settings(Cell("made", "embedding", "self_information", 2))
    assert (settings["scorer_dtype"], suite.cut.dtype) == ("bfloat16", torch.float32)


def test_rows_hold_the_user_of_each_new_target(suite, tmp_path):
    write_rows(tmp_path, "made-embedding-rows", suite.task, {}, ORIGIN)
    found = json.loads((tmp_path / "made-embedding-rows.json").read_text())
    assert len(unpack(found["users"])) == int(suite.task.new.sum())
    assert 0 < found["popularity"]["ndcg@10"] < 1


def test_packed_numbers_come_back():
    for values in ([], [0], [1, 11, 300], list(range(9000))):
        assert unpack(pack(np.array(values, dtype=np.int64))).tolist() == values
