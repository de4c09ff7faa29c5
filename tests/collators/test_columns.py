"""Which columns are cut with the ids, how, and what is said of the others."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from tsporec.budget import Budget
from tsporec.collators.columns import TOKEN_COLUMNS
from tsporec.collators.selector import SelectorCollator
from tsporec.collators.spans import UnlabelledSpans
from tsporec.scorers import make_scorer

HEAD = make_scorer("head")
FEATURE = {"input_ids": [10, 11, 12, 13, 14, 15], "item_spans": [(1, 5)]}
KEPT = [0, 1, 2, 5]  # with two tokens of the span


def cut(feature, **options):
    (found,) = SelectorCollator(list, HEAD, 2, **options)([feature])
    return found


@pytest.mark.parametrize("name", [n for n in TOKEN_COLUMNS if n not in ("position_ids", "labels")])
@pytest.mark.parametrize("as_type", [list, tuple, np.array, torch.tensor])
def test_known_columns_are_cut_with_the_ids(name, as_type):
    found = cut({**FEATURE, name: as_type(range(6))})[name]
    assert type(found) is type(as_type(range(6)))
    assert [int(value) for value in found] == KEPT


@pytest.mark.parametrize("as_type", [np.array, torch.tensor, list])
def test_columns_of_several_rows_are_cut_on_their_last_axis(as_type):
    place = np.arange(6)
    rows = as_type(np.stack([place, place, place])[:, None].tolist())
    found = cut({**FEATURE, "position_ids": rows, "token_type_ids": as_type(place[None].tolist())})
    assert np.asarray(found["position_ids"]).tolist() == [[[0, 1, 2, 3]]] * 3
    assert np.asarray(found["token_type_ids"]).tolist() == [KEPT]
    labels = as_type([[-100] * 6, [-100] * 4 + [7, 8]])
    found = cut({**FEATURE, "labels": labels})  # token 4 has a label in one of the rows
    assert found["input_ids"] == [10, 11, 14, 15]
    assert np.asarray(found["labels"]).tolist() == [[-100] * 4, [-100, -100, 7, 8]]


def test_rows_of_positions_share_their_runs():
    # Text, an image of 2 x 2 patches, text (Qwen-VL): every row goes down by the dropped tokens before it.
    rows = np.array([[0, 1, 2, 3, 3, 3, 3, 5, 6], [0, 1, 2, 3, 3, 4, 4, 5, 6], [0, 1, 2, 3, 4, 3, 4, 5, 6]])
    feature = {"input_ids": list(range(9)), "item_spans": [(0, 3)], "position_ids": rows}
    assert (
        cut(feature)["position_ids"].tolist() == (rows[:, [0, 1, 3, 4, 5, 6, 7, 8]] - [0, 0, 1, 1, 1, 1, 1, 1]).tolist()
    )


def test_pairs_and_vectors_are_cut_on_their_first_axis():
    offsets = [(i, i + 1) for i in range(6)]
    vectors = np.arange(12).reshape(6, 2)
    found = cut({**FEATURE, "offset_mapping": offsets, "inputs_embeds": vectors}, token_columns=["inputs_embeds"])
    assert found["offset_mapping"] == [offsets[i] for i in KEPT]
    assert found["inputs_embeds"].tolist() == vectors[KEPT].tolist()


def test_positions_of_several_parts_a_token():
    rows = np.arange(6)[:, None] + [0, 10, 20]
    for as_type in (np.array, torch.tensor, list):
        found = np.asarray(cut({**FEATURE, "position_ids": as_type(rows.tolist())})["position_ids"])
        assert found.tolist() == rows[:4].tolist()


def test_square_columns_that_are_named_are_cut_on_both_sides():
    bias = np.arange(72).reshape(2, 6, 6)
    found = cut({**FEATURE, "bias": bias, "flat": bias[0]}, token_columns=["bias", "flat"])
    assert np.array_equal(found["bias"], bias[:, KEPT][:, :, KEPT])
    assert np.array_equal(found["flat"], bias[0][KEPT][:, KEPT])
    with pytest.warns(UserWarning, match=r"column 'bias' has an axis as long as input_ids \(6 tokens\)"):
        assert cut({**FEATURE, "bias": bias})["bias"].shape == (2, 6, 6)


@pytest.mark.parametrize("lengths", [[-1, 7], [2, 3], [2.0, 4.0], [[2, 4]]])
def test_lengths_of_documents_that_cannot_be_are_refused(lengths):
    with pytest.raises(ValueError, match="feature 0: seq_lengths must"):
        cut({**FEATURE, "seq_lengths": lengths})


def test_documents_of_no_tokens():
    for lengths, left in (([0, 3, 3], [0, 3, 3]), ([3, 0, 3], [3, 0, 3]), ([6, 0], [4, 0]), (None, None)):
        assert cut({**FEATURE, "seq_lengths": lengths})["seq_lengths"] == left


@pytest.mark.parametrize("positions", [[0.5] * 6, [None] * 6, ["0"] * 6])
def test_positions_that_are_no_whole_numbers_are_refused(positions):
    with pytest.raises(ValueError, match="feature 0: position_ids must be whole numbers"):
        cut({**FEATURE, "position_ids": positions})


def test_an_unknown_column_as_long_as_the_ids_is_passed_whole_and_said_so_once():
    feature = {**FEATURE, "history": [9] * 6, "loss": 1.5, "name": "abcdef"}
    wrapped = SelectorCollator(list, HEAD, 2)
    with pytest.warns(UserWarning, match=r"column 'history' .* token_columns=\['history'\] .* whole_columns="):
        assert wrapped([feature])[0]["history"] == [9] * 6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrapped([feature] * 3)
        assert wrapped.layout.uncut == {"history": 4}
        assert cut(feature, token_columns=["history"])["history"] == [9] * 4
        assert cut(feature, whole_columns=["history"])["history"] == [9] * 6
        assert cut({**FEATURE, "labels": [3] * 6}, whole_columns=["labels"])["labels"] == [3] * 6
        SelectorCollator(list, HEAD, 4)([feature])  # nothing is cut


def test_other_sequences_are_cut_to_lists():
    found = cut({**FEATURE, "position_ids": range(6), "attention_mask": range(6)})
    assert found["position_ids"] == [0, 1, 2, 3]
    assert found["attention_mask"] == KEPT


def test_a_column_of_another_shape_is_refused():
    for shape in ((2, 5), (5, 3, 4)):
        with pytest.raises(ValueError, match=rf"feature 0: token_type_ids has shape \({shape[0]}, .* whole_columns"):
            cut({**FEATURE, "token_type_ids": np.zeros(shape)})
    with pytest.raises(ValueError, match="feature 0: loss_mask has 5 values and input_ids has 6 tokens"):
        cut({**FEATURE, "loss_mask": [1] * 5})


@pytest.mark.parametrize(
    ("labels", "lengths", "expected"),
    [
        ([-100, -100, 12] + [-100] * 7, [3, 2, 5], [3, 2, 2]),
        ([-100, 11, 12, -100, -100, -100, -100, -100, 18, 19], [5, 5], [5, 4]),
        ([10, -100, -100, -100, -100, -100, -100, 17, 18, 19], [2, 4, 4], [2, 2, 4]),
    ],
)
def test_no_span_reaches_over_two_documents(labels, lengths, expected):
    from_lengths = SelectorCollator(list, HEAD, 2, UnlabelledSpans(), protected_ids=[])
    feature = {"input_ids": list(range(10, 20)), "labels": labels}
    (found,) = from_lengths([{**feature, "seq_lengths": lengths}])
    assert found["seq_lengths"] == expected
    positions = [i for n in lengths for i in range(n)]
    (same,) = from_lengths([{**feature, "position_ids": positions}])
    assert same["input_ids"] == found["input_ids"]
    assert same["position_ids"] == [i for n in expected for i in range(n)]
    with pytest.raises(ValueError, match="feature 0: seq_lengths must add up to the 10 tokens"):
        from_lengths([{**feature, "seq_lengths": [3, 2]}])


def test_collators_of_packed_documents_run_on_the_cut(tokenizer):
    trl = pytest.importorskip("trl.trainer.sft_trainer", reason="TRL is not installed")
    base = trl.DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    feature = {"input_ids": list(range(10, 20)), "labels": [-100, -100, 12] + [-100] * 7, "seq_lengths": [3, 2, 5]}
    batch = SelectorCollator(base, HEAD, Budget(tokens=2), UnlabelledSpans(), tokenizer=tokenizer)([feature])
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1]]


@pytest.mark.parametrize("ids", [[1, [2]], torch.rand(6).requires_grad_(), torch.empty(6, device="meta"), None, "abc"])
def test_ids_that_are_no_list_of_numbers_are_named(ids):
    with pytest.raises(ValueError, match="feature 0: input_ids must be one flat list of integers"):
        cut({**FEATURE, "input_ids": ids})


def test_item_ids_that_are_no_list_are_named():
    with pytest.raises(ValueError, match="feature 0: expected an item id or a list of them; found None"):
        cut({**FEATURE, "asin": None}, item_ids="asin")
