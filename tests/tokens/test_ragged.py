from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsporec.tokens.ragged import RaggedTokens, lengths_to_offsets

lists = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=6), max_size=8)


@given(lists)
def test_round_trip_through_lists_and_both_paddings(sequences):
    tokens = RaggedTokens.from_lists(sequences)
    assert tokens.to_lists() == sequences
    assert len(tokens) == len(sequences)
    assert tokens.num_tokens == sum(map(len, sequences))
    for side in ("left", "right"):
        assert RaggedTokens.from_padded(*tokens.to_padded(pad_id=7, side=side)).to_lists() == sequences


@given(lists)
def test_places(sequences):
    tokens = RaggedTokens.from_lists(sequences)
    assert tokens.offsets().tolist() == [j for s in sequences for j in range(len(s))]
    assert tokens.segment_ids().tolist() == [i for i, s in enumerate(sequences) for _ in s]
    assert [s.tolist() for s in tokens] == sequences


@given(lists, st.data())
def test_take(sequences, data):
    tokens = RaggedTokens.from_lists(sequences)
    chosen = data.draw(st.lists(st.integers(0, len(sequences) - 1), max_size=5)) if sequences else []
    assert tokens.take(chosen).to_lists() == [sequences[i] for i in chosen]


def test_worked_example():
    tokens = RaggedTokens.from_lists([[5, 6, 7], [], [8]])
    assert tokens.cu_seqlens.tolist() == [0, 3, 3, 4]
    assert tokens.cu_seqlens.dtype == tokens.ids.dtype == np.int32
    assert tokens[-1].tolist() == [8]
    with pytest.raises(IndexError, match="segment 3 of 3"):
        tokens[3]


@pytest.mark.parametrize("cu", [[], [1, 3], [0, 2], [0, 2, 1, 3]])
def test_offsets_that_do_not_describe_the_ids_are_named(cu):
    with pytest.raises(ValueError, match="cu_seqlens must start at 0"):
        RaggedTokens(np.arange(3), np.array(cu, dtype=np.int64))


def test_wrong_arrays_are_named():
    with pytest.raises(ValueError, match="ids must be a one-dimensional array of integers; found float64"):
        RaggedTokens(np.zeros(3), np.array([0, 3]))
    with pytest.raises(ValueError, match="must fit into int32"):
        RaggedTokens(np.array([2**31]), np.array([0, 1]))
    with pytest.raises(ValueError, match="must fit into int32"):
        lengths_to_offsets([2**30, 2**30, 2**30])
    for wrong in ([[1, 2.5]], [[True]], [["5"]], [[1.0]], [np.array([1.5])]):
        with pytest.raises(ValueError, match="ids must be a one-dimensional array of integers; found"):
            RaggedTokens.from_lists(wrong)
    for beyond in ([[2**31]], [[np.uint64(2**63 + 5)]], [np.array([2**64 - 1], dtype=np.uint64)], [[-(2**31) - 1]]):
        with pytest.raises(ValueError, match="must fit into int32"):
            RaggedTokens.from_lists(beyond)
    with pytest.raises(ValueError, match="ids must be"):
        RaggedTokens.from_lists([[2**70]])
    arrays = [np.array([], dtype=np.float64), np.array([3], dtype=np.uint64), np.array([], dtype=np.int32)]
    assert RaggedTokens.from_lists(arrays).to_lists() == [[], [3], []]
    with pytest.raises(ValueError, match=r"must both be \[N, L\]"):
        RaggedTokens.from_padded([[1, 2]], [[1]])
    with pytest.raises(ValueError, match="side must be"):
        RaggedTokens.from_lists([[1]]).to_padded(side="middle")


def test_item_ids_go_with_their_segments():
    tokens = RaggedTokens.from_lists([[5, 6], [], [7]]).with_items(["B01", 7, None])
    assert tokens.items.dtype == np.uint64
    assert tokens.items.tolist() == RaggedTokens.from_lists([[], [], []]).with_items(["B01", "7", None]).items.tolist()
    assert tokens.take([2, 0, 0]).items.tolist() == tokens.items[[2, 0, 0]].tolist()
    assert tokens.keep(np.array([1]), np.int32([0, 1, 1, 1])).items is tokens.items
    with pytest.raises(ValueError, match="expected an item id for each of 3 segments; found 2"):
        tokens.with_items(["B01", 7])
