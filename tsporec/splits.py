"""What to train on, what to choose by and what to report: splits of users' sequences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tsporec.items import Interactions


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
    targets, so they are not read. Sequences of a single item have nothing to predict and are left out.
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


def _join(known: tuple[str, ...], window: tuple[str, ...]) -> tuple[str, ...]:
    for overlap in range(min(len(known), len(window)), 0, -1):
        if known[-overlap:] == window[:overlap]:
            return known + window[overlap:]
    if any(known[i : i + len(window)] == window for i in range(len(known) - len(window) + 1)):
        return known
    if any(window[i : i + len(known)] == known for i in range(len(window) - len(known) + 1)):
        return window
    return known + window
