"""The format on disk: keys in order, records that round-trip, and bytes that stay as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsporec.budget import Budget
from tsporec.catalog.records import (
    Recipe,
    decode_ids,
    decode_records,
    encode_ids,
    encode_records,
    headers_of,
    is_intact,
)
from tsporec.catalog.store import State
from tsporec.tokens.ragged import RaggedTokens

IDS = {"str": st.text(min_size=1, max_size=40), "int": st.integers(-(2**63), 2**63 - 1)}


def recipe(vocabulary=100, budget=None, id_type="str") -> Recipe:
    return Recipe("tokenizer", "selector", vocabulary, budget or {"tokens": 9}, ("title",), id_type)


@pytest.mark.parametrize("kind", IDS)
@given(data=st.data())
def test_keys_round_trip_and_sort_as_the_ids_do(kind, data):
    ids = data.draw(st.lists(IDS[kind], unique=True))
    keys = encode_ids(ids, kind)
    assert decode_ids(keys, kind) == ids
    order = (lambda text: text.encode("utf-8", "surrogatepass")) if kind == "str" else None
    assert decode_ids(sorted(keys), kind) == sorted(ids, key=order)
    if kind == "int":
        assert encode_ids(np.array(ids, dtype=np.int64), kind) == keys


@pytest.mark.parametrize(
    "bad", [[True], [1, "a"], [1.5], ["a", ""], ["x" * 511], ["\ud800" * 200], [2**64], "B01", 3, [None], [["a"]]]
)
def test_bad_ids_are_refused(bad):
    with pytest.raises(ValueError, match="found"):
        encode_ids(bad)


@given(
    st.lists(st.lists(st.integers(0, 99), max_size=9), max_size=8),
    st.sampled_from([100, 70_000]),
    st.sampled_from([{"tokens": 9}, {"tokens": 300}, {"keep_ratio": 0.5}]),
    st.integers(1, 9),
)
def test_records_round_trip(rows, vocabulary, budget, k):
    kept = RaggedTokens.from_lists(rows)
    ranks = np.concatenate([np.arange(len(row))[::-1] for row in rows] or [[]]).astype(np.int32)
    keys, digests = encode_ids(list(map(str, range(len(rows)))), "str"), np.arange(len(rows), dtype=np.uint64)
    how = recipe(vocabulary, budget)
    records = encode_records(keys, digests, kept.lengths + 5, kept, ranks, how.token_dtype)
    assert all(map(is_intact, keys, records))
    tokens, found = decode_records(records, how)
    assert (tokens.to_lists(), found.tolist()) == (rows, ranks.tolist())
    assert headers_of(records)["digest"].tolist() == digests.tolist()
    assert headers_of(records)["length"].tolist() == [len(row) + 5 for row in rows]
    assert decode_records(records, how, k)[0].to_lists() == [row[-k:] for row in rows]
    assert decode_records([*records, b""], how)[0].to_lists() == [*rows, []]


def test_a_record_that_cannot_be_is_refused():
    kept = RaggedTokens.from_lists([[99, 3]])
    (record,) = encode_records([b"a"], np.uint64([1]), kept.lengths, kept, np.int32([0, 1]), recipe().token_dtype)
    for cut in range(1, len(record)):
        if (cut - 16) % 3 or cut < 16:
            with pytest.raises(ValueError, match="cut short"):
                decode_records([record[:cut]], recipe())
        assert not is_intact(b"a", record[:cut])
    assert not is_intact(b"b", record)
    with pytest.raises(ValueError, match="outside the vocabulary of 99"):
        decode_records([record], recipe(vocabulary=99))
    with pytest.raises(ValueError, match="outside the vocabulary"):
        decode_records([record[:16] + b"\xff" * 8], recipe(vocabulary=70_000, budget={"keep_ratio": 1.0}))
    assert headers_of([b"", record[:7], record])["length"].tolist() == [0, 0, 2]
    with pytest.raises(ValueError, match="8 bytes"):
        decode_ids([b"short"], "int")


def test_format_1_is_written_as_it_was():
    kept = RaggedTokens.from_lists([[3, 300], []])
    records = encode_records(
        encode_ids(["B01", "ü"]),
        np.uint64([1, 2**64 - 1]),
        np.array([5, 0]),
        kept,
        np.int32([1, 0]),
        recipe(400).token_dtype,
    )
    assert [record.hex() for record in records] == [
        "c45920560100000000000000050000000300012c0100",
        "ca2c4e4cffffffffffffffff00000000",
    ]
    assert encode_ids([5, -3]) == [bytes.fromhex("8000000000000005"), bytes.fromhex("7ffffffffffffffd")]


def test_the_description_round_trips_and_is_checked():
    state = State(recipe(), "b", 3)
    assert State.from_json(state.to_json(), Path("x")) == state
    assert State(recipe(budget={"tokens": np.int64(9)}), "b", 3).to_json() == state.to_json()
    data = state.to_json().decode()
    for old, new, message in (
        ('"format": 2', '"format": 3', "of format 3; this tsporec reads format 2"),
        ('"tokens": 9', '"tokens": "9"', "not readable"),
        ('"items": "b"', '"items": "../b"', "of format 2"),
        ('"vocabulary": 100', '"vocabulary": null', "not readable"),
        ('"vocabulary": 100', '"vocabulary": 1e9', "not readable"),
        ('"fields": ["title"]', '"fields": 3', "not readable"),
        ('"count": 3', '"count": []', "not readable"),
        ('"id_type": "str"', '"id_type": "bytes"', "not readable"),
        ('"id_type": "str"', '"other": "str"', "not readable"),
        (data, "[" * 100_000, "not readable"),
        (data, "null", "not readable"),
        (data, "\xff", "not readable"),
    ):
        assert old in data
        with pytest.raises(ValueError, match=message):
            State.from_json(data.replace(old, new).encode("latin-1"), Path("x"))
    assert recipe().budget == Budget(tokens=9)
