from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsporec.data.items import Interactions
from tsporec.data.readers import read_sequences
from tsporec.data.splits import hold_out_users, make_rows, merge_windows, refuse_learned, split, training_sequences


def windows(user, items, width):
    items = [str(item) for item in items]
    return [Interactions(user, tuple(items[max(0, t - width) : t + 1])) for t in range(1, len(items))]


@given(st.lists(st.lists(st.integers(0, 40), min_size=2, max_size=30, unique=True), max_size=4), st.integers(1, 10))
def test_windows_of_any_width_merge_to_the_sequence(users, width):
    rows = [row for number, items in enumerate(users) for row in windows(f"u{number}", items, width)]
    assert merge_windows(rows) == [Interactions(f"u{n}", tuple(map(str, items))) for n, items in enumerate(users)]


@given(st.lists(st.integers(0, 3), min_size=2, max_size=10))
def test_repeats_survive_where_the_window_is_wide_enough(items):
    assert merge_windows(windows("u", items, 10)) == [Interactions("u", tuple(map(str, items)))]


@given(st.lists(st.integers(0, 40), min_size=4, max_size=30, unique=True), st.data())
def test_no_test_target_is_learned_from(items, data):
    rows = windows("u", items, 10)
    cut = data.draw(st.integers(0, len(rows) - 1))
    targets = {row.item_ids[-1] for row in rows[cut:]}
    learned = {item for sequence in training_sequences(rows[:cut], rows[cut:]) for item in sequence.item_ids}
    assert not learned & targets


@given(st.lists(st.sampled_from("abcdefgh"), min_size=2), st.integers(0, 9))
def test_users_are_held_out_whole_and_alike(names, seed):
    sequences = [Interactions(name, (str(i), "x")) for i, name in enumerate(names)]
    rest, held = hold_out_users(sequences, seed)
    assert (rest, held) == hold_out_users(sequences, seed)
    assert {s.user_id for s in rest}.isdisjoint(s.user_id for s in held)
    assert sorted(rest + held, key=sequences.index) == sequences
    assert held


events = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12)), min_size=1, max_size=40)


def sequences_of(events):
    users = {}
    for number, (user, time) in sorted(enumerate(events), key=lambda e: e[1][1]):
        users.setdefault(user, []).append((str(number), float(time)))
    return [Interactions(u, tuple(i for i, _ in touched), tuple(t for _, t in touched)) for u, touched in users.items()]


@given(events, st.sampled_from([0.1, 0.3, 0.9]))
def test_a_split_by_time_is_its_definition(events, share):
    sequences = sequences_of(events)
    train, held_out = split(sequences, "time", share)
    moments = sorted(float(time) for _, time in events)
    first = moments[min(round((1 - share) * len(moments)), len(moments) - 1)]
    for found, kept in ((train, lambda time: time < first), (held_out, lambda time: time >= first)):
        expected = {s.user_id: tuple(i for i, t in zip(s.item_ids, s.times, strict=True) if kept(t)) for s in sequences}
        assert {s.user_id: s.item_ids for s in found} == {user: items for user, items in expected.items() if items}
    assert held_out


@given(events, st.sampled_from(["last-item", "time"]), st.booleans())
def test_rows_end_in_what_is_held_out_and_nothing_of_it_is_learned(events, how, timed):
    sequences = sequences_of(events)
    if not timed and how == "last-item":
        sequences = [Interactions(s.user_id, s.item_ids) for s in sequences]
    train, held_out = split(sequences, how)
    refuse_learned(train, held_out)
    rows = make_rows(train, held_out)
    whole = {s.user_id: s.item_ids for s in sequences}
    assert all(row.row and whole[row.user_id][: len(row.item_ids)] == row.item_ids for row in rows)
    targets = {(s.user_id, i) for s in held_out for i in s.item_ids if whole[s.user_id][0] != i}
    assert {(row.user_id, row.item_ids[-1]) for row in rows} == targets
    assert not {(s.user_id, i) for s in train for i in s.item_ids} & targets
    # The file of test rows may begin with what was learned from.
    known = {s.user_id: s for s in train}
    longer = [known.get(h.user_id, Interactions(h.user_id, ())) for h in held_out]
    longer = [
        Interactions(h.user_id, k.item_ids + h.item_ids, k.times + h.times)
        for k, h in zip(longer, held_out, strict=True)
    ]
    assert make_rows(train, longer) == rows


def test_the_last_items_are_held_out():
    sequences = [Interactions("u", ("1", "2", "3")), Interactions("v", ("1",)), Interactions("w", ("1", "2"))]
    train, held_out = split(sequences)
    assert [s.item_ids for s in train] == [("1", "2"), ("1",), ("1",)]
    assert make_rows(train, held_out) == [sequences[0], sequences[2]]
    again = Interactions("u", ("1", "1", "2"), (1.0, 2.0, 3.0))  # the first item once more, after the cut
    parts = split([again], "time", 0.6)
    assert [row.item_ids for row in make_rows(*parts)] == [("1", "1"), ("1", "1", "2")]
    twice = [Interactions("u", ("1", "2", "2"), (1.0, 5.0, 5.0))]  # one event, in the log two times
    assert [s.item_ids for s in split(twice)[0]] == [("1",)]


def test_what_is_learned_and_tested_is_refused():
    users = [Interactions(str(u), ("1", "2", str(u)), (1.0, 2.0, 3.0)) for u in range(3, 7)]
    bare = [Interactions(s.user_id, s.item_ids) for s in users]
    rows = [Interactions(s.user_id, s.item_ids, row=True) for s in users]
    last = [Interactions(s.user_id, s.item_ids[-1:], s.times[-1:]) for s in users]
    for known, held in ((users, users), (bare, bare), (users, rows), (users, last), (bare, last)):
        with pytest.raises(ValueError, match=r"4 of 4 test sequences stand in .*, for example item '3' of user '3'"):
            refuse_learned(known, held)
    refuse_learned(users, [Interactions("3", ("1",), (9.0,))])  # touched again
    refuse_learned(bare, [Interactions("3", ("1", "2", "3", "1"))])  # a file with the histories
    with pytest.raises(ValueError, match="1 of 2 test sequences"):
        refuse_learned(users, [*last[:1], Interactions("4", ("9",), (9.0,))])


def test_what_cannot_be_split_is_named():
    with pytest.raises(ValueError, match="'u' has 2 items and 0 times"):
        split([Interactions("u", ("1", "2"))], "time")
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\)"):
        split([], "time", 1.0)
    with pytest.raises(ValueError, match="a split is one of last-item, time; found 'random'"):
        split([], "random")


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
