from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import TEXTS
from tsporec.collators.positions import policy
from tsporec.collators.spans import ItemStringSpans, MarkerSpans, UnlabelledSpans, find_spans, spans_of_strings


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


def test_separators_split_what_stands_between_markers():
    ids = [5, 90, 1, 2, 92, 3, 92, 92, 4, 91, 6, 92]
    assert MarkerSpans(90, 91, 92)({"input_ids": ids}) == [(2, 4), (5, 6), (8, 9)]
    assert find_spans((90, 91, 92))({"input_ids": np.array(ids)}) == [(2, 4), (5, 6), (8, 9)]


def test_the_unlabelled_part():
    feature = {"labels": [-100, -100, -100, 7, -100, 8], "attention_mask": [0, 1, 1, 1, 1, 1], "done": [0, 1]}
    assert UnlabelledSpans()(feature) == [(1, 3), (4, 5)]
    assert UnlabelledSpans("done")(feature) == [(0, 1)]
    with pytest.raises(ValueError, match="there is no column 'completion_mask'"):
        UnlabelledSpans("completion_mask")(feature)


@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4), data=st.data())
def test_positions_of_packed_runs_go_on_run_by_run(lengths, data):
    positions = np.concatenate([np.arange(n) + 3 for n in lengths])
    kept = np.array(sorted(data.draw(st.sets(st.integers(0, len(positions) - 1)))), dtype=np.int64)
    run = np.repeat(np.arange(len(lengths)), lengths)[kept]
    renumbered, aligned = policy("renumber")(positions, kept), policy("right_align")(positions, kept)
    for r, n in enumerate(lengths):
        count = (run == r).sum()
        assert renumbered[run == r].tolist() == list(range(3, 3 + count))
        assert aligned[run == r].tolist() == list(range(3 + n - count, 3 + n))
    everything = np.arange(len(positions))
    assert policy("renumber")(positions, everything).tolist() == positions.tolist()
