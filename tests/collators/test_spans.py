from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import TEXTS, make_tokenizer
from tsporec.collators.spans import ItemStringSpans, MarkerSpans, UnlabelledSpans, find_spans, spans_of_strings
from tsporec.scorers import make_scorer
from tsporec.tokenizer import wrap_tokenizer


@given(chosen=st.lists(st.sampled_from(TEXTS), max_size=4), quote=st.sampled_from(['"', " ", "\n- ", "<", ""]))
def test_items_are_found_in_the_prompt(tokenizer, chosen, quote):
    prompt = "Bought: " + ", ".join(f"{quote}{text}{quote}" for text in chosen) + " and next?"
    encoded = tokenizer(prompt, return_offsets_mapping=True)
    spans = spans_of_strings(prompt, chosen, encoded["offset_mapping"])
    assert len(spans) == len(chosen)
    for (start, end), text in zip(spans, chosen, strict=True):
        inside = tokenizer.decode(encoded["input_ids"][start:end]).strip()
        assert inside in text
        assert len(inside) >= len(text) - 8
    feature = {**encoded, "prompt": prompt, "items": chosen}
    assert ItemStringSpans()(feature) == spans


def test_an_item_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="the item 'pen' does not stand in the text after character 0"):
        spans_of_strings("a b", ["pen"], [(0, 1), (1, 3)])


@pytest.mark.parametrize("kind", ["collapsed", "all zero", "one item collapsed"])
def test_offsets_that_cannot_be_are_refused(kind):
    text, items = 'Bought "blue gel pen", "paper pack". Next?', ["blue gel pen", "paper pack"]
    good = [(0, 6), (6, 8), (8, 12), (12, 16), (16, 20), (20, 22), (22, 24), (24, 29), (29, 34), (34, 36), (36, 42)]
    assert spans_of_strings(text, items, good) == [(2, 5), (7, 9)]
    wrong = {
        "collapsed": [(a, a) for a, _ in good],
        "all zero": [(0, 0)] * len(good),
        "one item collapsed": [(a, a if 24 <= a < 34 else b) for a, b in good],
    }[kind]
    with pytest.raises(ValueError, match=r"offsets are empty|no token has offsets in the item 'paper pack'"):
        spans_of_strings(text, items, wrong)
    assert spans_of_strings(text, ["blue gel pen", "", " "], good) == [(2, 5)]
    with pytest.raises(ValueError, match="offsets fall"):
        spans_of_strings(text, items, good[::-1])
    # A prompt that was truncated has no tokens for its last items, or for its first.
    assert spans_of_strings(text, items, good[:5]) == [(2, 5)]
    assert spans_of_strings(text, items, good[6:]) == [(1, 3)]


@pytest.mark.parametrize(
    "offsets",
    [
        [(0, 6.5)] * 12,
        [(-1, 6)] * 12, [(0, 99)] * 12, [(0, 6, 0)] * 12, [None] * 12, [("0", "6")] * 12, [(0, 2**70)] * 12,
        [0] * 12, [[0, float("nan")]] * 12,
    ],
)  # fmt: skip
def test_offsets_that_are_no_places_in_the_text_are_refused(offsets):
    with pytest.raises(ValueError, match=r"offsets (must be pairs|from .* do not fit the text of 42)"):
        spans_of_strings('Bought "blue gel pen", "paper pack". Next?', ["blue gel pen"], offsets)
    with pytest.raises(ValueError, match="has 0 pairs and input_ids has 2 tokens"):
        ItemStringSpans()({"input_ids": [5, 6], "prompt": "a", "items": ["a"], "offset_mapping": None})


@pytest.mark.parametrize("strings", ["blue", ["blue", 5], [None], [b"blue"], None, 5])
def test_items_that_are_no_list_of_strings_are_refused(strings):
    with pytest.raises(ValueError, match="expected a text and a list of the items' strings"):
        spans_of_strings("blue pen", strings, [(0, 4), (4, 8)])


def test_one_pair_of_offsets_a_token():
    feature = {"prompt": "gel pen", "items": ["pen"], "offset_mapping": [(0, 3), (3, 7)], "input_ids": [1, 5, 6]}
    with pytest.raises(ValueError, match="offset_mapping has 2 pairs and input_ids has 3 tokens"):
        ItemStringSpans()(feature)
    assert ItemStringSpans()({**feature, "offset_mapping": [(0, 0), (0, 3), (3, 7)]}) == [(2, 3)]


def test_separators_split_what_stands_between_markers():
    ids = [5, 90, 1, 2, 92, 3, 92, 92, 4, 91, 6, 92]
    assert MarkerSpans(90, 91, 92)({"input_ids": ids}) == [(2, 4), (5, 6), (8, 9)]
    assert find_spans((90, 91, 92))({"input_ids": np.array(ids)}) == [(2, 4), (5, 6), (8, 9)]


def test_the_unlabelled_part():
    feature = {"labels": [-100, -100, -100, 7, -100, 8], "attention_mask": [0, 1, 1, 1, 1, 1], "done": [0, 1]}
    assert UnlabelledSpans()(feature) == [(1, 3), (4, 5)]
    assert UnlabelledSpans("done")(feature) == [(0, 1)]


@pytest.mark.filterwarnings("ignore:truncation or packing")
@given(
    items=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=5),
    window=st.tuples(st.integers(0, 40), st.integers(0, 40)).map(sorted),
)
def test_spans_of_what_truncation_leaves(items, window):
    """They are the whole spans, as far as they reach into what is left, if one of an item's markers is there."""
    ids = []
    for before, inside in items:
        ids += [*[5] * before, 90, *[7] * inside, 91]
    start, end = (min(place, len(ids)) for place in window)
    left, whole = ids[start:end], MarkerSpans(90, 91)({"input_ids": ids})
    found = MarkerSpans(90, 91)({"input_ids": left})
    reach = [(max(a, start) - start, min(b, end) - start) for a, b in whole if a < end and b > start]
    assert found == (reach if {90, 91} & {*left} else [])


def test_items_that_truncation_took_are_counted():
    text = 'Bought "blue gel pen", "paper pack". Next?'
    offsets = [(0, 6), (6, 8), (8, 12), (12, 16), (16, 20), (20, 22), (22, 24), (24, 29), (29, 34), (34, 36), (36, 42)]
    for left, spans, lost in (
        (offsets, [(2, 5), (7, 9)], 0),
        (offsets[:8], [(2, 5), (7, 8)], 1),
        (offsets[4:], [(0, 1), (3, 5)], 1),
        (offsets[:4], [(2, 4)], 2),
    ):
        finder = ItemStringSpans()
        feature = {"prompt": text, "items": ["blue gel pen", "paper pack"], "offset_mapping": left}
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            assert finder({**feature, "input_ids": [5] * len(left)}) == spans
        assert (finder.cut_off, len(warned)) == (lost, min(lost, 1))


@pytest.fixture(scope="module")
def marked():
    tokenizer = make_tokenizer("wordpiece")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<item>", "</item>"]})
    return tokenizer, tuple(tokenizer.convert_tokens_to_ids(["<item>", "</item>"]))


def test_a_tokenizer_refuses_a_marker_without_its_partner(marked):
    tokenizer, marks = marked
    wrapped = wrap_tokenizer(tokenizer, make_scorer("head"), 2, spans=marks)
    for text in ("ink <item>pen labels</item> tape <item>black ink", "black ink</item> labels"):
        with pytest.raises(ValueError, match=f"{marks[0]} and {marks[1]} are not balanced in the text '{text[:40]}"):
            wrapped(["black ink", text])
    with pytest.raises(ValueError, match=r"are not balanced in the text \('ink', '<item>pen'\)"):
        wrapped("ink", "<item>pen")


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_tokenizer_truncates_texts_without_markers_as_ever(marked, side):
    tokenizer, marks = marked
    item = "ink <item>" + TEXTS[0] + "</item>"
    for budget in (None, 2):
        wrapped = wrap_tokenizer(tokenizer, make_scorer("random"), budget, spans=marks)
        wrapped.truncation_side = tokenizer.truncation_side = side
        for options in ({"truncation": True, "max_length": 8}, {"max_length": 8}):
            cut, plain = wrapped([item, *TEXTS], **options), tokenizer([item, *TEXTS], **options)
            assert cut["input_ids"][1:] == plain["input_ids"][1:]
            assert cut["input_ids"][0] == wrapped(item, **options)["input_ids"] != plain["input_ids"][0]
            assert list(map(len, cut["attention_mask"])) == list(map(len, cut["input_ids"]))
            assert wrapped(TEXTS, **options)["input_ids"] == plain["input_ids"][1:]
        pairs = [TEXTS[:2], [item, TEXTS[2]]]
        cut = wrapped(pairs, truncation="longest_first", max_length=25, return_offsets_mapping=True)
        plain = tokenizer(pairs, truncation="longest_first", max_length=25, return_offsets_mapping=True)
        assert all(cut[name][0] == plain[name][0] for name in plain)
    tokenizer.truncation_side = "right"
