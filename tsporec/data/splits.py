"""What to train on, what to choose by and what to report: splits of users' sequences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tsporec.data.items import Interactions


def merge_windows(rows: Sequence[Interactions]) -> list[Interactions]:
    """One sequence a user from rows that are windows of it, in time order.

    A row whose history starts with the end of what is known goes on from there (the longest overlap is
    taken); a row that is known already adds nothing; one without overlap is appended.

    >>> rows = [Interactions("u", ("1", "2")), Interactions("u", ("1", "2", "3")), Interactions("u", ("2", "3", "4"))]
    >>> merge_windows(rows)[0].item_ids
    ('1', '2', '3', '4')
    """
    known: dict[str, tuple[str, ...]] = {}
    for row in rows:
        known[row.user_id] = _join(known.get(row.user_id, ()), row.item_ids)
    return [Interactions(user, items) for user, items in known.items()]


def training_sequences(train: Sequence[Interactions], test: Sequence[Interactions] = ()) -> list[Interactions]:
    """The sequences to learn from: the merged ``train`` rows, and what came before each user's first test target.

    The history of a user's first row in ``test`` is older than the test period; later histories hold test
    targets, so they are not read. Each user has one sequence, so no pair is learned from twice and holding out a
    user holds out all of theirs. Sequences of a single item have nothing to predict and are left out.
    """
    first: dict[str, Interactions] = {}
    for row in test:
        first.setdefault(row.user_id, Interactions(row.user_id, row.item_ids[:-1]))
    merged = merge_windows([*train, *(row for row in first.values() if row.item_ids)])
    return [sequence for sequence in merged if len(sequence.item_ids) > 1]


def hold_out_users(
    sequences: Sequence[Interactions], fraction: float = 0.1, seed: int = 0
) -> tuple[list[Interactions], list[Interactions]]:
    """(the rest, a ``fraction`` of the users held out); the same users for the same seed."""
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be in (0, 1), found {fraction}.")
    users = sorted({sequence.user_id for sequence in sequences})
    count = max(1, round(fraction * len(users))) if users else 0
    held = {users[i] for i in np.random.default_rng(seed).permutation(len(users))[:count]}
    return [s for s in sequences if s.user_id not in held], [s for s in sequences if s.user_id in held]


def leave_one_out(sequences: Sequence[Interactions]) -> tuple[list[Interactions], list[Interactions]]:
    """(all but each user's last item, the whole sequence as an evaluation row with the last item as target)."""
    whole = [s for s in sequences if len(s.item_ids) > 1]
    return [Interactions(s.user_id, s.item_ids[:-1]) for s in whole if len(s.item_ids) > 2], whole


def split_by_time(
    sequences: Sequence[Interactions], valid: float = 0.1, test: float = 0.1, history: int = 10
) -> tuple[list[Interactions], list[Interactions], list[Interactions]]:
    """(training sequences, validation rows, test rows), cut at two moments that are the same for all users.

    Parameters
    ----------
    sequences : one a user, with ``times``
    valid, test : float
        Shares of all interactions that come after the training period, and last. Interactions at the very moment
        of a cut are on its later side.
    history : int
        Items of history in a row at most, as MiniOneRec's windows have. A first interaction makes no row.

    Raises
    ------
    ValueError
        If a sequence has no times, or the shares are out of range.
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
