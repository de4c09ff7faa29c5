"""Datasets that TRL truncates and packs: items are cut before, so no row is lost and packs are full."""

from __future__ import annotations

import warnings

import pytest

from tests.conftest import TEXTS, make_causal_lm
from tsporec import SelectorCollator, make_scorer, wrap_tokenizer
from tsporec.collators.spans import MarkerSpans, UnlabelledSpans

trl = pytest.importorskip("trl", "1.16", reason="an older TRL truncates in its collator")
from datasets import Dataset  # noqa: E402 - TRL brings it

MAX_LENGTH, K, ROWS = 100, 4, 48
BEGIN, END = 90, 91  # ids that none of the texts has as a marker


def rows(tokenizer):
    """Features of 2 to 6 items and an answer, with spans."""
    items = tokenizer(TEXTS, add_special_tokens=False)["input_ids"]
    made = []
    for number in range(ROWS):
        ids, spans = [1], []
        for item in range(2 + number % 5):
            ids.append(BEGIN)
            start = len(ids)
            ids += [i for i in items[(number + item) % len(items)] if i not in (BEGIN, END)]
            spans.append((start, len(ids)))
            ids.append(END)
        answer = [300 + number, 299, 2]
        labels = [-100] * len(ids) + answer
        made.append({"input_ids": ids + answer, "labels": labels, "item_spans": spans})
    return made


def trainer(tokenizer, data, tmp_path, **options):
    arguments = trl.SFTConfig(
        str(tmp_path), report_to=[], use_cpu=True, bf16=False, max_steps=1, per_device_train_batch_size=4,
        save_strategy="no", disable_tqdm=True, max_length=MAX_LENGTH, **options,
    )  # fmt: skip
    return trl.SFTTrainer(make_causal_lm(len(tokenizer)), arguments, train_dataset=data, processing_class=tokenizer)


@pytest.mark.parametrize("packing", [False, True])
def test_a_dataset_that_is_cut_loses_no_row(tokenizer, tmp_path, packing):
    data = Dataset.from_list(rows(tokenizer))
    cutter = SelectorCollator(list, make_scorer("random"), K, tokenizer=tokenizer)
    cut = data.map(cutter.cut_columns, batched=True, remove_columns=["item_spans"])
    assert list(cut) == cutter.cut(list(data))
    made = trainer(tokenizer, cut, tmp_path, packing=packing)
    found = made.train_dataset
    assert sum(ids.count(2) for ids in found["input_ids"]) == ROWS
    answers = sorted(i for labels in found["labels"] for i in labels if i not in (-100, 2, 299))
    assert answers == [300 + number for number in range(ROWS)]
    if packing:
        assert sum(map(len, found["input_ids"])) > 0.9 * MAX_LENGTH * (len(found) - 1)
        assert sum(map(len, found["seq_lengths"])) == ROWS
    whole = trainer(tokenizer, data.remove_columns("item_spans"), tmp_path, packing=packing).train_dataset
    assert sum(ids.count(2) for ids in whole["input_ids"]) < ROWS


def test_packs_with_cut_off_markers_are_cut_and_counted(tokenizer, tmp_path):
    data = Dataset.from_list(rows(tokenizer)).remove_columns("item_spans")
    packs = trainer(tokenizer, data, tmp_path, packing=True).train_dataset
    collator = SelectorCollator(list, make_scorer("head"), K, spans=(BEGIN, END), tokenizer=tokenizer)
    names = ("input_ids", "labels", "seq_lengths")
    with pytest.warns(UserWarning, match=r"cut off an item's text.*dataset\.map\(collator\.cut_columns"):
        cut = collator([{name: row[name] for name in names} for row in packs])
    begins, ends = (sum(ids.count(mark) for ids in packs["input_ids"]) for mark in (BEGIN, END))
    assert collator.layout.finders[0].cut_off == begins - ends > 0
    finder = MarkerSpans(BEGIN, END)
    finder.cut_off = 1  # it has warned
    for row in cut:
        assert sum(row["seq_lengths"]) == len(row["input_ids"]) == len(row["labels"])
        assert all(end - start <= K for start, end in finder(row))


def test_markers_that_truncation_took():
    head, tail = {"input_ids": [5, 90, 1, 2, 91, 90, 3]}, {"input_ids": [2, 91, 90, 3, 91, 5]}
    packed = {"input_ids": head["input_ids"] + tail["input_ids"], "seq_lengths": [7, 6]}
    for feature, spans, lost in ((head, [(2, 4), (6, 7)], 1), (tail, [(0, 1), (3, 4)], 1),
                                 (packed, [(2, 4), (6, 7), (7, 8), (10, 11)], 2)):  # fmt: skip
        finder = MarkerSpans(90, 91)
        with pytest.warns(UserWarning, match="counted in the cut_off of these spans"):
            assert finder(feature) == spans
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            finder(feature)
        assert finder.cut_off == 2 * lost
    with pytest.raises(ValueError, match="the markers 90 and 91 are not balanced"):
        MarkerSpans(90, 91)({"input_ids": [90, 1, 90, 2, 91]})
    # With one id for both, no span reaches into the next document.
    same = {"input_ids": [90, 1, 90, 5, 6, 90, 2, 90], "position_ids": [0, 1, 2, 3, 0, 1, 2, 3]}
    assert MarkerSpans(90, 90)(same) == [(1, 2), (6, 7)]


def test_masks_that_trl_made_labels_of():
    feature = {"input_ids": [5, 6, 7], "labels": [-100, -100, 7]}
    assert UnlabelledSpans("completion_mask")(feature) == [(0, 2)]
    assert UnlabelledSpans("completion_mask")({**feature, "completion_mask": [0, 1, 1]}) == [(0, 1)]
    with pytest.raises(ValueError, match="there is no column 'completion_mask'"):
        UnlabelledSpans("completion_mask")({"input_ids": [5]})


def test_preferences_of_a_wrapped_tokenizer(tokenizer, tmp_path):
    marked = make_marked(tokenizer)
    marks = tuple(marked.convert_tokens_to_ids(["<item>", "</item>"]))
    short = wrap_tokenizer(marked, make_scorer("random"), K, spans=marks)
    prompts = ["bought " + "".join(f"<item>{text}</item>" for text in TEXTS[: 1 + n % 6]) + ":" for n in range(12)]
    answers = {"chosen": f" {TEXTS[0]}", "rejected": f" {TEXTS[1]}"}
    data = Dataset.from_list([{"prompt": prompt, **answers} for prompt in prompts])
    found = {}
    for name, processing in (("whole", marked), ("short", short)):
        arguments = trl.DPOConfig(str(tmp_path), report_to=[], use_cpu=True, bf16=False, max_length=MAX_LENGTH)
        models = make_causal_lm(len(marked)), make_causal_lm(len(marked))
        made = trl.DPOTrainer(*models, args=arguments, train_dataset=data, processing_class=processing)
        found[name] = made.train_dataset
    assert len(found["whole"]) < len(found["short"]) == 12
    for column in ("chosen_ids", "rejected_ids"):  # candidates stay as they are
        assert found["short"][0][column] == found["whole"][0][column]
    cutter = SelectorCollator(list, make_scorer("random"), K, MarkerSpans(*marks), tokenizer=marked)
    for row in found["short"]:
        assert row["prompt_ids"] == cutter.cut([{"input_ids": marked(row["prompt"])["input_ids"]}])[0]["input_ids"]


def make_marked(tokenizer):
    import copy

    marked = copy.deepcopy(tokenizer)
    marked.add_special_tokens({"additional_special_tokens": ["<item>", "</item>"]})
    return marked
