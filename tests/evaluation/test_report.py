"""Pictures of kept tokens: the marks stand where the kept tokens stand, in colour or in brackets."""

from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console

from tests.conftest import TEXTS
from tests.tokens.test_pieces import KINDS
from tsporec.budget import Budget
from tsporec.evaluation.measures import Cell, Evaluation
from tsporec.evaluation.report import compare_texts, details_table, highlighted, kept_runs, results_table
from tsporec.scorers import make_scorer
from tsporec.selection import Selection, select
from tsporec.tokens.ragged import RaggedTokens


def packed(tokenizer):
    return RaggedTokens.from_lists([tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS])


@pytest.mark.parametrize("budget", [32, 0.125])
def test_tables_fit_80_columns_whole(budget):
    versus = {name: {"ndcg@10": (-0.0304, -0.0370, -0.0238)} for name in ("head", "tfidf", "full", "popularity")}
    metrics = {"ndcg@10": 0.1234, "recall@10": 0.2345}
    rows = [("self_information", budget), ("head", budget), ("tfidf", budget), ("full", None)]
    cells = [Cell(name, b, "adapted", metrics, 0.1, {}, 12_345_678, 1234.5, 1234.5, versus) for name, b in rows]
    evaluation = Evaluation(cells, 4866, 0.1, [0, 1, 2], {"ndcg@10": 0.01}, {})
    console = Console(width=80, highlight=False)
    for table in (results_table(evaluation, "adapted"), details_table(evaluation, "adapted")):
        with console.capture() as capture:
            console.print(table)
        assert "…" not in capture.get()
        (line,) = [line for line in capture.get().splitlines() if "self_information" in line]
        assert ("-.0304±.0066*" in line) or ("12,345,678" in line and "1234.5" in line)


def test_brackets_where_there_is_no_terminal(tokenizer, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    tokens = packed(tokenizer)
    selection = select(make_scorer("head"), tokens, Budget(tokens=2))
    for i in range(len(tokens)):
        plain = highlighted(*kept_runs(tokens, selection, tokenizer, i)).plain
        if len(tokens[i]):
            assert plain.count("[") == plain.count("]") >= 1


def test_brackets_hold_words_without_the_space_that_ends_them(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    tokenizer = KINDS["ends of words"]
    tokens = RaggedTokens.from_lists([tokenizer("gel pen gel", add_special_tokens=False)["input_ids"]])
    selection = select(make_scorer("head"), tokens, Budget(tokens=2))
    assert highlighted(*kept_runs(tokens, selection, tokenizer, 0)).plain == "[gel] [pen] gel"


def test_colours_keep_the_text_as_it_is(tokenizer, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    tokens = packed(tokenizer)
    selection = select(make_scorer("random"), tokens, Budget(tokens=2))
    picture = highlighted(*kept_runs(tokens, selection, tokenizer, 0))
    assert "[" not in picture.plain
    assert picture.spans
    assert all(0 <= span.start < span.end <= len(picture.plain) for span in picture.spans)


def test_nothing_kept_is_the_bare_text(tokenizer, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    tokens = packed(tokenizer)
    none = Selection(np.empty(0, dtype=np.int64), np.zeros(len(tokens) + 1, dtype=np.int32))
    assert kept_runs(tokens, none, tokenizer, 0)[1] == []
    assert not highlighted(*kept_runs(tokens, none, tokenizer, 0)).spans


def test_scorers_stand_under_the_whole_text(tokenizer, capsys):
    from rich.console import Console

    tokens = packed(tokenizer)
    selections = {"head": select(make_scorer("head"), tokens, 3), "random": select(make_scorer("random"), tokens, 3)}
    compare_texts(Console(width=200), "[red]7", tokens, selections, tokenizer, 1)
    name, whole, head, random = capsys.readouterr().out.splitlines()[:4]
    assert name == "[red]7"
    assert whole.startswith("whole   HP")
    assert whole.replace("[", "").replace("]", "").split(maxsplit=1)[1].strip() == TEXTS[1]
    assert TEXTS[1].startswith(head.removeprefix("head    ").strip())
    assert "".join(part.split("]")[0] for part in whole.split("[")[1:]) in random.replace(" ", "")
