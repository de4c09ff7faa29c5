from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.collators.features import make_features
from tsporec.budget import Budget
from tsporec.collators.selector import SelectorCollator
from tsporec.collators.spans import MarkerSpans, UnlabelledSpans, check_spans, find_spans
from tsporec.scorers import make_scorer
from tsporec.selector.model import TokenSelector


@given(
    seed=st.integers(0, 2**32 - 1), k=st.integers(1, 6), as_type=st.sampled_from([list, np.asarray, torch.as_tensor])
)
def test_what_must_survive_survives_and_budgets_are_exact(seed, k, as_type):
    rng = np.random.default_rng(seed)
    features = make_features(rng, 3, vocab=20, as_type=as_type)
    wrapped = SelectorCollator(list, make_scorer("random"), Budget(tokens=k), protected_ids=[0, 1])
    for before, after in zip(features, wrapped(features), strict=True):
        length = len(before["input_ids"])
        assert "item_spans" not in after
        assert after["user"] == 7
        assert {len(after[c]) for c in ("input_ids", "labels", "position_ids", "attention_mask")} == {
            len(after["input_ids"])
        }
        assert isinstance(after["input_ids"], type(before["input_ids"]))
        ids, labels = np.asarray(before["input_ids"]), np.asarray(before["labels"])
        fixed = (labels != -100) | np.isin(ids, [0, 1])
        expected = length
        outside = np.ones(length, dtype=bool)
        for start, end in before["item_spans"]:
            outside[start:end] = False
            kept = min(max(k, fixed[start:end].sum()), end - start)
            assert kept >= min(1, end - start)
            expected -= end - start - kept
        assert len(after["input_ids"]) == expected
        assert np.asarray(after["position_ids"]).tolist() == list(range(3, 3 + expected))
        # What is left is a subsequence that holds everything fixed.
        pairs = list(zip(np.asarray(after["input_ids"]).tolist(), np.asarray(after["labels"]).tolist(), strict=True))
        walk = iter(zip(ids.tolist(), labels.tolist(), strict=True))
        assert all(pair in walk for pair in pairs)
        must = np.flatnonzero(fixed | outside)
        walk = iter(pairs)
        assert all((int(ids[i]), int(labels[i])) in walk for i in must)


@given(seed=st.integers(0, 2**32 - 1))
def test_a_feature_does_not_depend_on_its_batch(seed):
    rng = np.random.default_rng(seed)
    features = make_features(rng, 5, vocab=30)
    for budget in (Budget(tokens=2), Budget(keep_ratio=0.4), Budget(total=5)):
        wrapped = SelectorCollator(list, make_scorer("random"), budget)
        together = wrapped(features)
        assert [wrapped([f])[0] for f in features] == together
        assert wrapped(features) == together


def test_totals_are_shared_within_a_feature():
    features = [
        {"input_ids": list(range(10, 30)), "spans": [(0, 8), (10, 20)]},
        {"input_ids": [1, 2, 3], "spans": [(0, 3)]},
    ]
    cut = SelectorCollator(list, make_scorer("random"), Budget(total=6, minimum=1), spans="spans")(features)
    assert len(cut[0]["input_ids"]) == 6 + 2
    assert cut[1]["input_ids"] == [1, 2, 3]
    with pytest.raises(ValueError, match="could drop a whole item"):
        SelectorCollator(list, make_scorer("random"), Budget(total=6, minimum=0))


def test_markers_and_callables():
    feature = {"input_ids": [5, 90, 1, 2, 3, 91, 6, 90, 4, 91, 90, 91]}
    assert MarkerSpans(90, 91)(feature) == [(2, 5), (8, 9)]
    cut = SelectorCollator(list, make_scorer("head"), Budget(tokens=1), spans=(90, 91))([feature])
    assert cut == [{"input_ids": [5, 90, 1, 91, 6, 90, 4, 91, 90, 91]}]
    assert MarkerSpans(90, 90)({"input_ids": [90, 1, 2, 90, 3, 90]}) == [(1, 3), (4, 5)]
    cut = SelectorCollator(list, make_scorer("head"), Budget(tokens=2), spans=lambda f: [(1, 5)])(
        [{"input_ids": [1] * 6}]
    )
    assert len(cut[0]["input_ids"]) == 4
    with pytest.raises(ValueError, match="spans must be a column's name"):
        find_spans(3)


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ({"input_ids": [1, 2]}, "feature 1: there is no column 'item_spans'.* set remove_unused_columns=False"),
        ({"input_ids": [1, 2], "item_spans": [(0, 3)]}, r"feature 1: span \(0, 3\) does not fit its 2 tokens"),
        ({"input_ids": [1, 2], "item_spans": [(0, 2), (1, 2)]}, r"feature 1: span \(1, 2\) overlaps"),
        ({"input_ids": [[1, 2]], "item_spans": []}, "feature 1: input_ids must be one flat list"),
        ({"input_ids": [[1], [1, 2]], "item_spans": []}, "feature 1: input_ids must be one flat list"),
        ({"labels": [1], "item_spans": [(0, 1)]}, "feature 1: there is no column 'input_ids'"),
    ],
)
def test_faults_name_the_feature(feature, message):
    good = {"input_ids": [1, 2], "item_spans": [(0, 1)]}
    with pytest.raises(ValueError, match=message):
        SelectorCollator(list, make_scorer("head"), Budget(tokens=1))([good, feature])


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"item_spans": None}, r"item_spans must be a list of \(start, end\), whole numbers; found None"),
        ({"item_spans": 5}, "item_spans must be a list of"),
        ({"item_spans": [(0, float("inf"))]}, "item_spans must be a list of"),
        ({"item_spans": [(0.9, 2.9)]}, "item_spans must be a list of"),
        ({"item_spans": [(0, 1, 2)]}, "item_spans must be a list of"),
        ({"input_ids": [4, 5, 999, 7]}, "token id 999 is outside the vocabulary"),
        ({"input_ids": [4, -5, 6, 7]}, "token id -5 is outside the vocabulary"),
        (
            {"input_ids": np.full(4, 2**63, np.uint64)},
            "input_ids must fit int32; found values from 9223372036854775808",
        ),
        ({"input_ids": [1.0, 2.0]}, "input_ids must be one flat list of integers"),
    ],
)
def test_ids_and_spans_that_cannot_be_name_the_feature(tokenizer, column, message):
    good = {"input_ids": [4, 5, 6, 7], "item_spans": [(0, 3)]}
    wrapped = SelectorCollator(list, TokenSelector().for_tokenizer(tokenizer), 1)
    with pytest.raises(ValueError, match=f"feature 1: {message}"):
        wrapped([good, {**good, **column}])


def test_unbalanced_markers_are_named():
    for ids in ([90, 90, 91, 91], [90, 5, 90, 91]):
        with pytest.raises(ValueError, match="feature 0: the markers 90 and 91 are not balanced"):
            SelectorCollator(list, make_scorer("head"), Budget(tokens=1), spans=(90, 91))([{"input_ids": ids}])
    assert check_spans([], 0) == []


def test_special_tokens_of_the_base_collators_tokenizer_are_protected(tokenizer):
    from transformers import DataCollatorWithPadding

    wrapped = SelectorCollator(DataCollatorWithPadding(tokenizer), make_scorer("head"), Budget(tokens=1))
    batch = wrapped([{"input_ids": [5, 6, 2, 1], "item_spans": [(0, 4)]}])
    assert batch["input_ids"].tolist() == [[2, 1]]


def test_special_tokens_are_those_of_the_selector_if_no_tokenizer_is_known(tokenizer):
    feature = {"input_ids": [1, 5, 6, 7, 2], "labels": [-100] * 5}
    selector = TokenSelector().for_tokenizer(tokenizer)
    (cut,) = SelectorCollator(list, selector, 2, UnlabelledSpans())([feature])
    assert cut["input_ids"] == [1, 2]
    with pytest.warns(UserWarning, match=r"special tokens of the prompts are not protected .* give tokenizer="):
        SelectorCollator(list, make_scorer("head"), 2, UnlabelledSpans())
    (cut,) = SelectorCollator(list, make_scorer("head"), 2, UnlabelledSpans(), tokenizer=tokenizer)([feature])
    assert cut["input_ids"] == [1, 2]


def test_a_selector_is_an_object_a_name_or_a_folder(tokenizer, wordpiece_tokenizer, tmp_path):
    feature = {"input_ids": list(range(5, 25)), "item_spans": [(0, 20)]}
    unbound = TokenSelector.from_pretrained("tsporec/base")
    unbound.save_pretrained(tmp_path / "selector")
    bound = unbound.for_tokenizer(tokenizer)
    expected = SelectorCollator(list, bound, Budget(tokens=4))([feature])
    for selector in ("tsporec/base", tmp_path / "selector", str(tmp_path / "selector"), unbound, bound):
        assert SelectorCollator(list, selector, 4, tokenizer=tokenizer)([feature]) == expected
    with pytest.raises(ValueError, match="is bound to another tokenizer"):
        SelectorCollator(list, bound, tokenizer=wordpiece_tokenizer)
    with pytest.raises(ValueError, match="selector is int; expected a TokenSelector"):
        SelectorCollator(list, 16)
    with pytest.raises(ValueError, match=r"a Budget or a whole number of tokens; found 0\.5"):
        SelectorCollator(list, bound, 0.5)


def test_spans_beside_a_mapping_of_budgets_are_refused():
    for spans in ("item_spans", (90, 91)):
        with pytest.raises(ValueError, match="name the columns of spans; found spans="):
            SelectorCollator(list, make_scorer("head"), {"title_spans": 4}, spans)


def test_fields_have_budgets_of_their_own():
    feature = {"input_ids": list(range(10, 30)), "title": [(0, 4), (10, 14)], "text": [(4, 10), (14, 20)]}
    budget = {"title": Budget(keep_ratio=1.0), "text": 2}
    assert SelectorCollator(list, make_scorer("head"), budget)([feature]) == [
        {"input_ids": [10, 11, 12, 13, 14, 15, 20, 21, 22, 23, 24, 25]}
    ]
    with pytest.raises(ValueError, match=r"feature 0: span \(3, 10\) overlaps"):
        SelectorCollator(list, make_scorer("head"), budget)([{**feature, "text": [(3, 10)]}])


def test_columns_of_unequal_length_are_named_and_others_pass():
    feature = {"input_ids": [5, 6, 7], "attention_mask": [1, 1], "item_spans": [(0, 3)]}
    wrapped = SelectorCollator(list, make_scorer("head"), Budget(tokens=1))
    with pytest.raises(ValueError, match="feature 0: attention_mask has 2 values and input_ids has 3 tokens"):
        wrapped([feature])
    feature = {"input_ids": [5, 6, 7], "labels": [8, 9, 4], "item_spans": [(0, 3)]}  # an encoder's input
    explicit = SelectorCollator(list, make_scorer("head"), Budget(tokens=1), whole_columns=["labels"])
    assert explicit([feature]) == [{"input_ids": [5], "labels": [8, 9, 4]}]
    assert wrapped([feature]) == [{"input_ids": [5, 6, 7], "labels": [8, 9, 4]}]


def test_another_column_of_ids_and_packed_documents():
    feature = {"prompt_ids": [5, 6, 7], "chosen_ids": [1, 2, 3], "spans": [(0, 3)]}
    cut = SelectorCollator(list, make_scorer("head"), Budget(tokens=1), spans="spans", ids="prompt_ids")([feature])
    assert cut == [{"prompt_ids": [5], "chosen_ids": [1, 2, 3]}]
    feature = {"input_ids": [5, 6, 7, 8, 9], "seq_lengths": [3, 2], "item_spans": [(0, 3), (3, 5)]}
    cut = SelectorCollator(list, make_scorer("head"), Budget(tokens=1))([feature])
    assert cut == [{"input_ids": [5, 8], "seq_lengths": [1, 1]}]


def test_features_without_spans_pass_as_they_are_and_attributes_are_the_base_collators(tokenizer):
    import pickle

    from transformers import DataCollatorForLanguageModeling

    base = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    wrapped = SelectorCollator(base, make_scorer("head"), Budget(tokens=1), spans=no_spans)
    assert torch.equal(wrapped([[4, 5], [6, 7]])["input_ids"], base([[4, 5], [6, 7]])["input_ids"])
    assert wrapped.mlm is False
    assert pickle.loads(pickle.dumps(wrapped)).mlm is False
    with pytest.raises(AttributeError):
        wrapped.nothing  # noqa: B018
    batch = wrapped([{"input_ids": [4, 5]}], return_tensors="np")
    assert isinstance(batch["input_ids"], np.ndarray)


def no_spans(feature):
    return []


def test_square_attention_masks_are_cut_on_both_sides_and_others_pass_whole():
    mask = np.arange(16).reshape(1, 4, 4)
    feature = {"input_ids": [5, 6, 7, 8], "item_spans": [(1, 4)]}
    wrapped = SelectorCollator(list, make_scorer("head"), Budget(tokens=1))
    for given_ in (mask, torch.from_numpy(mask), mask[0]):
        (cut,) = wrapped([{**feature, "attention_mask": given_}])
        assert cut["input_ids"] == [5, 6]
        assert np.array_equal(cut["attention_mask"], given_[..., :2, :2])
    cached = {**feature, "attention_mask": np.zeros((1, 4, 9))}
    whole = SelectorCollator(list, make_scorer("head"), Budget(tokens=3))([cached])
    assert whole[0]["attention_mask"].shape == (1, 4, 9)
    with pytest.raises(ValueError, match=r"feature 1: attention_mask has shape \(1, 4, 9\) for 4 tokens"):
        wrapped([feature, cached])


def test_the_selector_by_default_is_the_bundled_one(tokenizer, tmp_path, monkeypatch):
    from transformers import DataCollatorWithPadding

    from tsporec.selector import hub

    monkeypatch.setattr(hub, "BUNDLED", tmp_path)
    base = DataCollatorWithPadding(tokenizer)
    with pytest.raises(ValueError, match="tsporec/base"):
        SelectorCollator(base)
    TokenSelector().save_pretrained(tmp_path / "base")
    assert SelectorCollator(base)([{"input_ids": [5, 6], "item_spans": [(0, 2)]}])["input_ids"].tolist() == [[5, 6]]
    with pytest.raises(ValueError, match="has to be bound to a tokenizer; give tokenizer="):
        SelectorCollator(list)


def test_a_dataset_is_cut_before_a_trainer_truncates_or_packs_it(tokenizer):
    datasets = pytest.importorskip("datasets", reason="the extra train is not installed")
    rows = make_features(np.random.default_rng(0), 6)
    cutter = SelectorCollator(list, make_scorer("random"), 2, tokenizer=tokenizer)
    data = datasets.Dataset.from_list(rows).map(lambda row: cutter.cut([row])[0], remove_columns=["item_spans"])
    assert list(data) == cutter(rows)
