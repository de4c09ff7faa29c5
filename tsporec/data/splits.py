"""Split users' sequences into what is trained on and what is tested on, and see that nothing is both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tsporec._internal.types import expect
from tsporec.data.items import Interactions, check_records

SPLITS = ("last-item", "time")


def split(
    sequences: Sequence[Interactions], how: str = "last-item", share: float = 0.1
) -> tuple[list[Interactions], list[Interactions]]:
    """Split interactions into two parts: (to train on, held out). :func:`make_rows` makes test rows of the second.

    "last-item" holds out each user's last item. "time" holds out ``share`` of all interactions: those from one moment
    on, which is the same for all users. Rows of a user are merged first.

    >>> train, held_out = split([Interactions("u", ("1", "2", "3"))])
    >>> train[0].item_ids, held_out[0].item_ids
    (('1', '2'), ('3',))
    >>> split([Interactions("u", ("1", "2", "3", "4"), (1, 2, 3, 4))], "time", share=0.5)[1][0].item_ids
    ('3', '4')
    """
    check_records(sequences, Interactions, "sequences")
    if how not in SPLITS:
        raise ValueError(f"a split is one of {', '.join(SPLITS)}; found {how!r}.")
    if any(sequence.row for sequence in sequences):
        sequences = merge_windows(sequences)
    cuts = [_last(sequence) for sequence in sequences] if how == "last-item" else _before_moment(sequences, share)
    parts = list(zip(sequences, cuts, strict=True))
    train = [_part(sequence, slice(cut)) for sequence, cut in parts if cut]
    return train, [_part(sequence, slice(cut, None)) for sequence, cut in parts if cut < len(sequence.item_ids)]


def _last(sequence: Interactions) -> int:
    """Return where a user's last event begins: one of several equal events must not be trained on."""
    items, times = sequence.item_ids, sequence.times
    cut = len(items) - 1
    while times and cut > 1 and (items[cut - 1], times[cut - 1]) == (items[-1], times[-1]):
        cut -= 1
    return max(cut, 1)


def _before_moment(sequences: Sequence[Interactions], share: float) -> list[int]:
    """Return how many events of each user come before the moment that holds out ``share`` of all."""
    expect("share", share, float, "a number in (0, 1)")
    if not 0 < share < 1:
        raise ValueError(f"share must be in (0, 1), found {share}.")
    for sequence in sequences:
        if len(sequence.times) != len(sequence.item_ids):
            raise ValueError(
                f"user {sequence.user_id!r} has {len(sequence.item_ids)} items and {len(sequence.times)} times, so a "
                "split by time is not possible; give interactions with timestamps, or split by last-item."
            )
    moments = np.sort([time for sequence in sequences for time in sequence.times])
    first = moments[min(round((1 - share) * len(moments)), len(moments) - 1)]
    return [sum(time < first for time in sequence.times) for sequence in sequences]


def make_rows(train: Sequence[Interactions], held_out: Sequence[Interactions]) -> list[Interactions]:
    """Make test rows, each a history and then a target.

    Rows that have a history stay as they are. Every other interaction that is held out is a target. Its history is
    what its user touched before: in ``train``, up to its time if there are times, and among what is held out. If a
    held-out sequence begins with its user's training sequence, that beginning is history. A user's first interaction
    has no history and makes no row.

    >>> make_rows([Interactions("u", ("1", "2"))], [Interactions("u", ("3",))])[0].item_ids
    ('1', '2', '3')
    """
    check_records(train, Interactions, "train")
    check_records(held_out, Interactions, "held_out")
    rows: list[Interactions] = []
    for known, held in _pairs(train, held_out):
        history = known.item_ids
        if held.row:
            rows.append(held)
            continue
        if known.times and held.times:
            history = tuple(i for i, time in zip(history, known.times, strict=True) if time <= held.times[0])
        whole = history + held.item_ids
        ends = range(max(len(history), 1) + 1, len(whole) + 1)
        rows += [Interactions(held.user_id, whole[:end], row=True) for end in ends]
    return rows


def refuse_learned(train: Sequence[Interactions], held_out: Sequence[Interactions]) -> None:
    """Refuse test targets that stand in the training sequences.

    With times, one event that is in both is enough. Without them, a user's training sequence that ends with what is
    held out may also be a repeat, so most users must have one. A row that has a new target must stand in training as a
    whole. The error has the count and an example.

    >>> refuse_learned([Interactions("u", ("1", "2"))], [Interactions("u", ("3",))])  # nothing is in both
    """
    learned, repeats = [], []
    for known, held in _pairs(train, held_out):
        whole, part = known.item_ids, held.item_ids
        if held.row:
            places = range(len(whole) - len(part) + 1) if len(part) > 1 and part[-1] not in part[:-1] else ()
            if any(whole[i : i + len(part)] == part for i in places):
                learned.append(held)
        elif known.times and held.times:
            if not set(zip(whole, known.times, strict=True)).isdisjoint(zip(part, held.times, strict=True)):
                learned.append(held)
        elif whole[-len(part) :] == part:
            repeats.append(held)
    found = learned + repeats if 2 * len(repeats) > len(held_out) else learned
    if found:
        raise ValueError(
            f"{len(found)} of {len(held_out)} test sequences stand in the training interactions, for example item "
            f"{found[0].item_ids[-1]!r} of user {found[0].user_id!r}. Take them out of the training file, or give one "
            "file alone, which is then split."
        )


def _pairs(
    train: Sequence[Interactions], held_out: Sequence[Interactions]
) -> Iterator[tuple[Interactions, Interactions]]:
    """Yield (the user's training sequence, what is held out without that sequence at its start)."""
    known = {sequence.user_id: sequence for sequence in merge_windows(train)}
    for held in held_out:
        before = known.get(held.user_id, Interactions(held.user_id, ()))
        begun = len(before.item_ids)
        begins = held.item_ids[:begun] == before.item_ids and len(held.item_ids) > begun
        if before.times and held.times:
            begins = begins and held.times[:begun] == before.times
        yield before, _part(held, slice(begun, None)) if begins and not held.row else held


def merge_windows(rows: Sequence[Interactions]) -> list[Interactions]:
    """Merge each user's rows, which are windows of one sequence in time order, into that sequence.

    A row continues the sequence by its longest overlap with the end. A row that the sequence contains adds nothing. A
    user's only row stays as it is, with its times.

    >>> rows = [Interactions("u", ("1", "2")), Interactions("u", ("1", "2", "3")), Interactions("u", ("2", "3", "4"))]
    >>> merge_windows(rows)[0].item_ids
    ('1', '2', '3', '4')
    """
    known: dict[str, Interactions] = {}
    for row in rows:
        before = known.get(row.user_id)
        whole = row if before is None else Interactions(row.user_id, _join(before.item_ids, row.item_ids))
        known[row.user_id] = whole
    return list(known.values())


def training_sequences(train: Sequence[Interactions], test: Sequence[Interactions] = ()) -> list[Interactions]:
    """Make the training sequences: the merged ``train`` rows, and the history before each user's first test target.

    Later histories in ``test`` contain test targets and are not read. Each user gets one sequence, so no pair is
    learned twice, and holding out a user holds out all of their rows. Sequences of a single item are left out.

    >>> training_sequences([Interactions("u", ("1", "2"))], test=[Interactions("u", ("2", "3", "9"))])[0].item_ids
    ('1', '2', '3')
    """
    first: dict[str, Interactions] = {}
    for row in test:
        first.setdefault(row.user_id, Interactions(row.user_id, row.item_ids[:-1]))
    merged = merge_windows([*train, *(row for row in first.values() if row.item_ids)])
    return [sequence for sequence in merged if len(sequence.item_ids) > 1]


def hold_out_users(sequences: Sequence[Interactions], seed: int = 0) -> tuple[list[Interactions], list[Interactions]]:
    """Hold out a tenth of the users, at least one: (the rest, held-out sequences). The seed decides which.

    >>> rest, held_out = hold_out_users([Interactions(str(user), ("1", "2")) for user in range(20)])
    >>> len(rest), len(held_out)
    (18, 2)
    """
    users = sorted({sequence.user_id for sequence in sequences})
    count = max(1, round(0.1 * len(users))) if users else 0
    held = {users[i] for i in np.random.default_rng(seed).permutation(len(users))[:count]}
    return [s for s in sequences if s.user_id not in held], [s for s in sequences if s.user_id in held]


def _part(sequence: Interactions, places: slice) -> Interactions:
    times, written = sequence.times[places], sequence.written[places]
    return Interactions(sequence.user_id, sequence.item_ids[places], times, written=written)


def _join(known: tuple[str, ...], window: tuple[str, ...]) -> tuple[str, ...]:
    for overlap in range(min(len(known), len(window)), 0, -1):
        if known[-overlap:] == window[:overlap]:
            return known + window[overlap:]
    if any(known[i : i + len(window)] == window for i in range(len(known) - len(window) + 1)):
        return known
    if any(window[i : i + len(known)] == known for i in range(len(window) - len(known) + 1)):
        return window
    return known + window
