from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tsporec.budget import Budget
from tsporec.collators.packed_items import PackedColumns
from tsporec.collators.selector import SelectorCollator
from tsporec.scorers import make_scorer
from tsporec.tokens.ragged import RaggedTokens

LONGEST = 20


def packed(prefix, texts, tail=1):
    return {
        f"{prefix}input_ids": torch.tensor([i for t in texts for i in [*t, *[0] * tail]], dtype=torch.int64),
        f"{prefix}cu_input_lens": torch.tensor([len(t) + tail for t in texts]),
        f"{prefix}position_ids": torch.cat([torch.arange(len(t) + tail) + LONGEST - len(t) for t in texts]),
    }


texts = st.lists(st.lists(st.integers(1, 50), max_size=LONGEST), min_size=3, max_size=3)


@given(pos=st.lists(texts, min_size=1, max_size=3), k=st.integers(1, 25), tail=st.integers(1, 2))
def test_items_keep_their_tail_their_place_and_a_token(pos, k, tail):
    features = [{**packed("pos_", p, tail), **packed("neg_", p[::-1], tail), "user": u} for u, p in enumerate(pos)]
    cut = SelectorCollator(
        list, make_scorer("random"), Budget(tokens=k), spans=PackedColumns("pos_", "neg_", tail=tail)
    )(features)
    for before, after in zip(features, cut, strict=True):
        assert after["user"] == before["user"]
        for prefix in ("pos_", "neg_"):
            lengths = before[f"{prefix}cu_input_lens"]
            expected = torch.minimum(lengths - tail, torch.tensor(k)) + tail
            assert torch.equal(after[f"{prefix}cu_input_lens"], expected)
            split = torch.split(after[f"{prefix}input_ids"], expected.tolist())
            whole = torch.split(before[f"{prefix}input_ids"], lengths.tolist())
            positions = torch.split(after[f"{prefix}position_ids"], expected.tolist())
            for short, full, places in zip(split, whole, positions, strict=True):
                assert short[-tail:].tolist() == [0] * tail
                walk = iter(full.tolist())
                assert all(i in walk for i in short.tolist())
                # As if the short text had been encoded: the placeholder stays at LONGEST.
                assert torch.equal(places, torch.arange(len(short)) + LONGEST - (len(short) - tail))
        if k >= LONGEST:
            assert all(torch.equal(after[n], before[n]) for n in before if n != "user")


def test_faults_are_named():
    good = packed("pos_", [[1, 2]])
    wrapped = SelectorCollator(list, make_scorer("head"), Budget(tokens=1), spans=PackedColumns("pos_", tail=1))
    with pytest.raises(ValueError, match="feature 1: none of the columns pos_input_ids"):
        wrapped([good, {"input_ids": [1]}])
    with pytest.raises(ValueError, match="feature 1: pos_cu_input_lens must be lengths of at least 1 that add up to"):
        wrapped([good, {**good, "pos_cu_input_lens": torch.tensor([2])}])
    with pytest.raises(ValueError, match="feature 0: pos_position_ids has 2 values for 3 tokens"):
        wrapped([{**good, "pos_position_ids": [1, 2]}])
    with pytest.raises(ValueError, match="give at least one prefix"):
        PackedColumns()
    with pytest.raises(ValueError, match="a mapping of budgets name the columns of spans"):
        SelectorCollator(list, make_scorer("head"), {"a": Budget(tokens=1)}, spans=PackedColumns("pos_"))


def test_lists_and_missing_positions_and_prefixes_pass():
    feature = {"pos_input_ids": [5, 6, 7, 0, 8, 0, 0], "pos_cu_input_lens": np.array([4, 2, 1])}
    spans = PackedColumns("pos_", "neg_", tail=1)
    (cut,) = SelectorCollator(list, make_scorer("head"), Budget(tokens=2), spans=spans)([feature])
    assert cut["pos_input_ids"] == [5, 6, 0, 8, 0, 0]
    assert cut["pos_cu_input_lens"].tolist() == [3, 2, 1]


def test_items_of_packed_columns_are_found_by_their_ids():
    seen = []

    class Names:
        def score(self, tokens):
            seen.append(None if tokens.items is None else tokens.items.tolist())
            return -tokens.offsets().astype(np.float32)

    feature = {"pos_input_ids": [5, 6, 7, 0, 8, 0], "pos_cu_input_lens": [4, 2], "pos_item_ids": ["a", "b"]}
    spans = PackedColumns("pos_", tail=1, item_ids="item_ids")
    (cut,) = SelectorCollator(list, Names(), 2, spans=spans)([feature])
    assert cut == {"pos_input_ids": [5, 6, 0, 8, 0], "pos_cu_input_lens": [3, 2]}
    assert seen == [RaggedTokens.from_lists([[5], [6]]).with_items(["a", "b"]).items.tolist()]
    with pytest.raises(ValueError, match="name the item ids of packed columns there"):
        SelectorCollator(list, Names(), 2, spans=spans, item_ids="item_ids")
