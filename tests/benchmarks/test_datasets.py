"""The benchmarks' catalogues: what is trained on, what is tested on, and that nothing leaks."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from benchmarks.datasets import CATALOGUES, most_touched, read_catalogue, read_task
from tsporec.data.synthetic import word_tokenizer
from tsporec.evaluation.task import Task
from tsporec.tokens.ragged import RaggedTokens


@pytest.fixture
def data(tmp_path):
    items = {str(i): {"title": f"pen {i}", "description": "blue " * 400} for i in range(9)}
    for folder in ("amazon18", "scientific18", "films"):
        (tmp_path / folder).mkdir()
    (tmp_path / "amazon18/Office_Products.item.json").write_text(json.dumps(items))
    head = "user_id,history_item_id,item_id\n"
    (tmp_path / "amazon18/Office_Products.valid.csv").write_text(f'{head}a,"[0, 1]",2\nb,"[3]",4\nc,"[4, 0]",5\n')
    (tmp_path / "amazon18/Office_Products.test.csv").write_text(f'{head}a,"[0, 1, 2]",6\na,"[1, 2, 6]",7\nd,"[8]",1\n')
    (tmp_path / "scientific18/Scientific.item.json").write_text(json.dumps(items))
    sequences = {str(user): [user, 1 + user, 2 + user, 3 + user] for user in range(6)}
    (tmp_path / "scientific18/Scientific.inter.json").write_text(json.dumps(sequences))
    rows = [json.dumps({"id": key, **fields}) for key, fields in items.items()]
    (tmp_path / "films/items.jsonl").write_text("\n".join(rows))
    lines = [f"{u},{item},{time}" for u, items in sequences.items() for time, item in enumerate(items)]
    (tmp_path / "films/interactions.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(lines))
    return tmp_path


def test_rows_and_whole_sequences_are_split_by_their_rules(data):
    office = read_catalogue(data, "Office_Products")
    assert [row.item_ids for row in office.test] == [("0", "1", "2", "6"), ("1", "2", "6", "7"), ("8", "1")]
    for name in ("Scientific", "films"):
        found = read_catalogue(data, name)
        assert found.test[0].item_ids == ("0", "1", "2", "3")
        assert found.train[0].item_ids == ("0", "1", "2")
    with pytest.raises(ValueError, match=f"expected one of {', '.join(CATALOGUES)}"):
        read_catalogue(data, "Toys")


def test_tasks_have_whole_texts_and_never_learn_from_a_test_target(data):
    tokenizer = word_tokenizer(["blue", "pen"])
    for name in ("Office_Products", "Scientific", "films"):
        task = read_task(data, name, tokenizer)
        assert task.tokens.lengths.min() > 256
        assert read_task(data, name, tokenizer, max_tokens=5).tokens.lengths.max() == 5
        targets = {(row[-2], row[-1]) for row in task.test}
        learned = {pair for s in [*task.train, *task.held_out] for pair in pairwise(s)}
        if name == "Office_Products":
            assert not targets & learned
        else:
            assert all(row[:-1] in [*task.train, *task.held_out] for row in task.test)
            assert {tuple(row[-2:]) for row in task.last_items().test} == {tuple(s[-2:]) for s in task.train}


def test_a_part_keeps_the_most_touched_items():
    tokens = RaggedTokens.from_lists([[5], [6], [7]])
    task = Task(tokens, [[0, 2], [2, 0], [2, 1]], [[1, 0, 2], [1, 2]], [[2, 0], [0, 1], [1, 2]], ["a", "b", "c"])
    part = most_touched(task, 2, users=2)
    assert np.array_equal(part.tokens.ids, [5, 7])
    assert (part.train, part.held_out) == ([[0, 1], [1, 0]], [[0, 1]])
    assert (part.test, part.users) == ([[1, 0]], ["a"])
