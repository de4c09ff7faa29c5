from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsporec.data.items import Interactions
from tsporec.data.readers import read_sequences
from tsporec.data.splits import hold_out_users, leave_one_out, merge_windows, split_by_time, training_sequences


def windows(user, items, width):
    return [Interactions(user, tuple(items[max(0, t - width) : t + 1])) for t in range(1, len(items))]


@given(st.lists(st.lists(st.integers(0, 40), min_size=2, max_size=30, unique=True), max_size=4), st.integers(1, 10))
def test_windows_of_any_width_merge_to_the_sequence(users, width):
    rows = [row for number, items in enumerate(users) for row in windows(f"u{number}", items, width)]
    assert merge_windows(rows) == [Interactions(f"u{n}", tuple(items)) for n, items in enumerate(users)]


@given(st.lists(st.integers(0, 3), min_size=2, max_size=10))
def test_repeats_survive_where_the_window_is_wide_enough(items):
    assert merge_windows(windows("u", items, 10)) == [Interactions("u", tuple(items))]


@given(st.lists(st.integers(0, 40), min_size=4, max_size=30, unique=True), st.data())
def test_no_test_target_is_learned_from(items, data):
    rows = windows("u", items, 10)
    cut = data.draw(st.integers(0, len(rows) - 1))
    targets = {row.item_ids[-1] for row in rows[cut:]}
    learned = {item for sequence in training_sequences(rows[:cut], rows[cut:]) for item in sequence.item_ids}
    assert not learned & targets


@given(st.lists(st.sampled_from("abcdefgh"), min_size=2), st.floats(0.01, 0.99), st.integers(0, 9))
def test_users_are_held_out_whole_and_alike(names, fraction, seed):
    sequences = [Interactions(name, (str(i), "x")) for i, name in enumerate(names)]
    rest, held = hold_out_users(sequences, fraction, seed)
    assert (rest, held) == hold_out_users(sequences, fraction, seed)
    assert {s.user_id for s in rest}.isdisjoint(s.user_id for s in held)
    assert sorted(rest + held, key=sequences.index) == sequences
    assert held


events = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12)), max_size=40)


@given(events, st.sampled_from([(0.1, 0.1), (0.0, 0.3), (0.4, 0.0), (0.3, 0.3)]), st.integers(1, 4))
def test_a_split_by_time_is_its_definition(events, shares, history):
    users = {}
    for number, (user, time) in sorted(enumerate(events), key=lambda e: e[1][1]):
        users.setdefault(user, []).append((str(number), float(time)))
    sequences = [
        Interactions(u, tuple(i for i, _ in touched), tuple(t for _, t in touched)) for u, touched in users.items()
    ]
    train, valid, test = split_by_time(sequences, *shares, history)
    moments = sorted(float(time) for _, time in events)
    late = [round((1 - sum(shares)) * len(moments)), round((1 - shares[1]) * len(moments))]
    first, second = ([*moments, float("inf")][min(cut, len(moments))] for cut in late)
    expected = [], [], []
    for user, touched in users.items():
        early = [item for item, time in touched if time < first]
        if len(early) > 1:
            expected[0].append(Interactions(user, tuple(early)))
        for place, (_, time) in enumerate(touched):
            if place and time >= first:
                row = tuple(item for item, _ in touched[max(0, place - history) : place + 1])
                expected[1 if time < second else 2].append(Interactions(user, row))
    assert (train, valid, test) == expected
    assert all(max(s.times) < first for s in train)


def test_what_cannot_be_split_is_named():
    with pytest.raises(ValueError, match="'u' has 2 items and 0 times"):
        split_by_time([Interactions("u", ("1", "2"))])
    with pytest.raises(ValueError, match="a sum in"):
        split_by_time([], 0.5, 0.5)
    with pytest.raises(ValueError, match=r"fraction must be in \(0, 1\)"):
        hold_out_users([], 1.0)
    assert split_by_time([]) == ([], [], [])


def test_leave_one_out():
    sequences = [Interactions("u", ("1", "2", "3")), Interactions("v", ("1",)), Interactions("w", ("1", "2"))]
    assert leave_one_out(sequences) == ([Interactions("u", ("1", "2"))], [sequences[0], sequences[2]])


@pytest.mark.real
def test_where_the_feasibility_studys_numbers_come_from(data_dir):
    """3,303 sequences and 16,235 pairs for Office, as the study counted them.

    It took the merged validation rows but for a tenth of their users, and besides them the first test history of
    every user, though it repeats what 588 users' validation rows hold, those of users held out among them. We merge
    the two by user instead, so that no pair counts twice and no held-out user is learned from.
    """
    valid, test = (
        read_sequences(data_dir / "amazon18" / f"Office_Products.{split}.csv") for split in ("valid", "test")
    )
    merged = merge_windows(valid)
    users = [sequence.user_id for sequence in merged]
    random.Random(0).shuffle(users)
    held = set(users[: len(users) // 10])
    first = {}
    for row in test:
        first.setdefault(row.user_id, row.item_ids[:-1])
    study = [s.item_ids for s in merged if s.user_id not in held] + [h for h in first.values() if len(h) > 1]
    assert (len(study), sum(len(items) - 1 for items in study)) == (3303, 16235)
    known = {sequence.user_id: sequence.item_ids for sequence in merged}
    both = [(known[user], history) for user, history in first.items() if user in known]
    assert sum(merged_row[-len(history) :] == history for merged_row, history in both) == len(both) == 588
    assert held & set(first)
