"""The quality suite measures each fit once, and says what it measured."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from benchmarks.cells import BEYOND, Cell, locked, pack, seeds_of, unpack
from benchmarks.embedding import Embedding
from benchmarks.generative import Generative, GenerativeConfig
from benchmarks.learned import added_later
from benchmarks.quality import NEW_CATALOGUE, NEW_ITEMS, Suite, cut, plan, show, work_through
from tests.conftest import make_causal_lm
from tests.learning.conftest import small_catalogue
from tsporec.evaluation.evaluator import Evaluator
from tsporec.evaluation.task import prepare
from tsporec.recommenders.embedding import EmbeddingConfig
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.scorers import make_scorer
from tsporec.tokens.ragged import RaggedTokens

ORIGIN = {"commit": "abc", "seed": 0, "versions": {}, "hardware": {}}
HEAD = Cell("made", "embedding", "head", 2)


@pytest.fixture(scope="module")
def made():
    return small_catalogue()


@pytest.fixture
def suite(made, tmp_path):
    task = prepare(made.items, made.train, made.test, made.tokenizer, ("description",), None)
    lm = make_causal_lm(len(made.tokenizer))
    evaluator = Evaluator(task, ItemEncoder(cut(lm)), cache=tmp_path / "cache")
    small = GenerativeConfig(history=2, candidates=4, test_rows=10)
    titles = [item.fields["description"] for item in made.items]
    cases = {
        "embedding": Embedding(evaluator, EmbeddingConfig(width=8, eval_every=2, patience=1)),
        "generative": Generative(evaluator, titles, lm, made.tokenizer, small, torch.bfloat16),
    }
    others = {"other": replace(task, train=task.train[:30])}
    return Suite(evaluator, lm, made.tokenizer, cases, lambda: others, tmp_path, ORIGIN, {"rows": "test"})


def test_every_scorer_is_measured_and_each_fit_once(suite, tmp_path, monkeypatch, capsys):
    scorers = ["head", "random", "tfidf", "self_information", "rule", "selector", NEW_ITEMS, NEW_CATALOGUE, "full"]
    cells = plan(["made"], ["embedding"], scorers, [2])
    run = partial(suite.run, seeds=[0, 1])
    assert work_through(cells, run) == []
    for cell in cells:
        found = json.loads((tmp_path / f"{cell.name}.json").read_text())
        assert [fit["seed"] for fit in found["fits"]] == [0, 1]
        assert found["mean"]["ndcg@10"] == np.mean([fit["metrics"]["ndcg@10"] for fit in found["fits"]])
        assert len({fit["vectors"] for fit in found["fits"]}) == (2 if cell.scorer == "random" else 1)
        kept = suite.tokens.num_tokens if cell.budget is None else cell.budget * len(suite.tokens)
        assert found["fits"][0]["tokens"] == kept
        ranks = unpack(found["fits"][0]["ranks"])
        gain = np.where(ranks < BEYOND, 1 / np.log2(1 + ranks), 0)
        assert gain.mean() == pytest.approx(found["fits"][0]["metrics"]["ndcg@10"])
    monkeypatch.setattr(suite.cases["embedding"], "fit", None)
    assert work_through(cells, run) == []
    show(tmp_path, [HEAD, Cell("made", "embedding", "head", 8)])
    assert "head-2: 0." in (shown := capsys.readouterr().out)
    assert "head-8: missing" in shown


def test_new_items_are_not_learned_from(suite):
    task, later = suite.evaluator.task, added_later(len(suite.tokens))
    selector = suite.learner.learn_before_items(task, 2)
    # The same with other texts of the new items, and without what users did with them.
    other = RaggedTokens.from_lists([text[::-1] if new else text for text, new in zip(task.tokens, later, strict=True)])
    rows = [[item for item in row if not later[item]] for row in task.train]
    again = suite.learner.learn_before_items(
        replace(task, tokens=other, train=[row for row in rows if len(row) > 1]), 2
    )
    known = task.tokens.take(np.flatnonzero(~later))
    kept = [one.select(known, 2).apply(known).to_lists() for one in (selector, again)]
    assert kept[0] == kept[1]


def test_a_cell_that_another_process_is_at_is_left_to_it(suite, tmp_path):
    run = partial(suite.run, seeds=[0])
    other = Cell("made", "embedding", "tfidf", 2)
    with locked(suite.locks / HEAD.name) as ours:
        assert ours
        assert work_through([HEAD, other], run) == [HEAD]
    assert not (tmp_path / f"{HEAD.name}.json").exists()
    assert (tmp_path / f"{other.name}.json").exists()


def test_a_cell_of_other_settings_is_refused(suite, tmp_path):
    suite.run(HEAD, [0])
    assert seeds_of(tmp_path, HEAD, suite.settings(HEAD)) == [0]
    suite.shared["rows"] = "last"
    with pytest.raises(ValueError, match=r"other settings \(rows\)"):
        suite.run(HEAD, [1])


def test_cells_of_another_recipe_are_refused(suite, monkeypatch):
    settings = suite.settings(Cell("made", "embedding", "selector", 2))
    monkeypatch.setattr("benchmarks.quality.RECIPE", "another")
    assert suite.settings(Cell("made", "generative", "selector_total", 2))["recipe"] == "another"
    assert suite.settings(Cell("made", "embedding", "selector", 2)) != settings


def test_self_information_says_what_it_computed_in(suite):
    suite.dtype = torch.bfloat16
    settings = suite.settings(Cell("made", "embedding", "self_information", 2))
    assert (settings["scorer_dtype"], suite.lm.dtype) == ("bfloat16", torch.float32)
    assert suite.settings(Cell("made", "embedding", "attention", 2))["scorer_dtype"] == "float32"


def test_llmlingua2_is_measured_from_a_checkpoint(suite, made, tmp_path):
    from transformers import BertConfig, BertForTokenClassification

    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertForTokenClassification(BertConfig(vocab_size=len(made.tokenizer), **shape)).save_pretrained(tmp_path / "model")
    made.tokenizer.save_pretrained(tmp_path / "model")
    suite.checkpoint = str(tmp_path / "model")
    cell = Cell("made", "embedding", "llmlingua2", 2)
    assert work_through([cell], partial(suite.run, seeds=[0])) == []
    assert json.loads((tmp_path / f"{cell.name}.json").read_text())["settings"]["checkpoint"] == suite.checkpoint


def test_rows_hold_the_user_of_each_new_target(suite, tmp_path):
    suite.run(HEAD, [0])
    found = json.loads((tmp_path / f"{HEAD.rows}.json").read_text())
    assert len(unpack(found["users"])) == int(suite.evaluator.task.new.sum())
    assert 0 < found["popularity"]["ndcg@10"] < 1


def test_prompts_hold_what_scorers_keep_at_equal_totals(suite, tmp_path, monkeypatch):
    monkeypatch.setattr(suite.learner, "learn", lambda task, _: make_scorer("tfidf").fit(task.tokens))
    before = suite.lm.model.layers[-1].mlp.up_proj.weight.clone()
    cells = plan(["made"], ["generative"], ["head", "selector", "selector_total", "full"], [3])
    assert work_through(cells, partial(suite.run, seeds=[0])) == []
    read = [json.loads((tmp_path / f"{cell.name}.json").read_text())["fits"][0] for cell in cells]
    head, selector, total, whole = (fit["tokens"] for fit in read)
    assert head == selector == total < whole
    assert len({fit["ranks"] for fit in read}) > 1
    assert max(unpack(fit["ranks"]).max() for fit in read) <= 4
    assert torch.equal(before, suite.lm.model.layers[-1].mlp.up_proj.weight)
    assert suite.settings(cells[0])["dtype"] == "bfloat16"


def test_an_unknown_scorer_is_refused():
    with pytest.raises(ValueError, match="case embedding has no scorer 'selector_total'"):
        plan(["made"], ["embedding"], ["selector_total"], [2])


def test_packed_numbers_come_back():
    for values in ([], [0], [1, 11, 300], list(range(9000))):
        assert unpack(pack(np.array(values, dtype=np.int64))).tolist() == values
