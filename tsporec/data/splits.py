"""Split users' sequences into training, validation and test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tsporec.data.items import Interactions


def merge_windows(rows: Sequence[Interactions]) -> list[Interactions]:
    """Merge each user's rows, which are windows of one sequence in time order, into that sequence.

    A row continues the sequence by its longest overlap with the end. A row that the sequence contains adds nothing.

    >>> rows = [Interactions("u", ("1", "2")), Interactions("u", ("1", "2", "3")), Interactions("u", ("2", "3", "4"))]
    >>> merge_windows(rows)[0].item_ids
    ('1', '2', '3', '4')
    """
    known: dict[str, tuple[str, ...]] = {}
    for row in rows:
        known[row.user_id] = _join(known.get(row.user_id, ()), row.item_ids)
    return [Interactions(user, items) for user, items in known.items()]


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


def hold_out_users(
    sequences: Sequence[Interactions], fraction: float = 0.1, seed: int = 0
) -> tuple[list[Interactions], list[Interactions]]:
    """Hold out a ``fraction`` of the users, at least one: (the rest, held-out sequences). The seed decides which.

    >>> rest, held_out = hold_out_users([Interactions(str(user), ("1", "2")) for user in range(10)], 0.2)
    >>> len(rest), len(held_out)
    (8, 2)
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be in (0, 1), found {fraction}.")
    users = sorted({sequence.user_id for sequence in sequences})
    count = max(1, round(fraction * len(users))) if users else 0
    held = {users[i] for i in np.random.default_rng(seed).permutation(len(users))[:count]}
    return [s for s in sequences if s.user_id not in held], [s for s in sequences if s.user_id in held]


def leave_one_out(sequences: Sequence[Interactions]) -> tuple[list[Interactions], list[Interactions]]:
    """Hold out each user's last item: (training sequences without it, evaluation rows with it as the target).

    >>> train, rows = leave_one_out([Interactions("u", ("1", "2", "3"))])
    >>> train[0].item_ids, rows[0].item_ids
    (('1', '2'), ('1', '2', '3'))
    """
    whole = [s for s in sequences if len(s.item_ids) > 1]
    return [Interactions(s.user_id, s.item_ids[:-1]) for s in whole if len(s.item_ids) > 2], whole


def split_by_time(
    sequences: Sequence[Interactions], valid: float = 0.1, test: float = 0.1, history: int = 10
) -> tuple[list[Interactions], list[Interactions], list[Interactions]]:
    """Split at two moments that are the same for all users: (training sequences, validation rows, test rows).

    ``valid`` and ``test`` are the shares of all interactions in the validation period and in the test period after it.
    An interaction at the moment of a cut belongs to the later period. A row has at most ``history`` items before its
    target (10 as in MiniOneRec); a user's first interaction makes no row. Sequences without times are a ValueError.

    >>> train, valid, test = split_by_time([Interactions("u", tuple("abcd"), (1, 2, 3, 4))], 0.25, 0.25)
    >>> train[0].item_ids, valid[0].item_ids, test[0].item_ids
    (('a', 'b'), ('a', 'b', 'c'), ('a', 'b', 'c', 'd'))
    """
    if min(valid, test) < 0 or not 0 < valid + test < 1 or history < 1:
        raise ValueError(
            f"valid and test must be shares with a sum in (0, 1) and history at least 1; found {valid}, {test}, "
            f"{history}."
        )
    for sequence in sequences:
        if len(sequence.times) != len(sequence.item_ids):
            raise ValueError(
                f"user {sequence.user_id!r} has {len(sequence.item_ids)} items and {len(sequence.times)} times; "
                "read interactions with timestamps, or use leave_one_out."
            )
    moments = np.sort(np.concatenate([s.times for s in sequences])) if sequences else np.zeros(0)
    cuts = [round(share * len(moments)) for share in (1 - valid - test, 1 - test)]
    first, second = (moments[cut] if cut < len(moments) else np.inf for cut in cuts)
    train: list[Interactions] = []
    valid_rows: list[Interactions] = []
    test_rows: list[Interactions] = []
    for sequence in sequences:
        user, items, times = sequence.user_id, sequence.item_ids, sequence.times
        known = sum(time < first for time in times)
        if known > 1:
            train.append(Interactions(user, items[:known], times[:known]))
        for place in range(max(known, 1), len(items)):
            window = slice(max(0, place - history), place + 1)
            rows = valid_rows if times[place] < second else test_rows
            rows.append(Interactions(user, items[window], times[window]))
    return train, valid_rows, test_rows


def _join(known: tuple[str, ...], window: tuple[str, ...]) -> tuple[str, ...]:
    for overlap in range(min(len(known), len(window)), 0, -1):
        if known[-overlap:] == window[:overlap]:
            return known + window[overlap:]
    if any(known[i : i + len(window)] == window for i in range(len(known) - len(window) + 1)):
        return known
    if any(window[i : i + len(known)] == known for i in range(len(window) - len(known) + 1)):
        return window
    return known + window
