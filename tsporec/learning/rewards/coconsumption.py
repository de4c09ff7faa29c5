"""Reward tokens that stand more often than by chance in items that the same users touched.

This is the only reward without a recommender. It is weak evidence on real texts. But it rates single tokens, needs no
encoding, and cannot be over-optimised by fooling an encoder, so it is a good first round.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.digest import digest
from tsporec.learning.candidates import Candidates
from tsporec.learning.rewards.base import Floats
from tsporec.tokens.ragged import RaggedTokens, check_ragged, lengths_to_offsets

SHRINK = 5.0
"""Pseudo-counts that pull the lift to 0."""


class CoConsumptionReward:
    """Sum the log-lift (pointwise mutual information) of the different tokens of a subset.

    Let item ``i`` have ``n`` co-consumed items: those that share a user's sequence with it, counted once a sequence.
    Let ``a`` of them, and a share ``p`` of all touched items, hold token ``w``. Then ::

        lift(i, w) = log((a + SHRINK * p) / ((n + SHRINK) * p))

    The lift is 0 for an item that nobody touched. A token that stands in a subset twice counts once.

    Parameters
    ----------
    tokens : RaggedTokens
        The whole corpus; each segment is an item.
    sequences : sequences of item indices
        The items that training users touched.

    Examples
    --------
    >>> tokens = RaggedTokens.from_lists([[1, 2], [1, 3], [4]])
    >>> [round(float(lift), 2) for lift in CoConsumptionReward(tokens, [[0, 1], [2]]).token_lift]
    [0.1, -0.18, 0.1, -0.18, 0.0]
    """

    def __init__(self, tokens: RaggedTokens, sequences: Sequence[Sequence[int]]) -> None:
        check_ragged(tokens)
        self.fingerprint = digest("coconsumption", tokens.ids, tokens.cu_seqlens, [list(s) for s in sequences], SHRINK)
        self.token_lift = token_lift(tokens, sequences)

    def __call__(self, tokens: RaggedTokens, candidates: Candidates) -> Floats:
        """Return float32 ``[C]`` in nats; see :class:`~tsporec.learning.rewards.base.ProxyReward`."""
        if tokens.num_tokens != len(self.token_lift):
            raise ValueError(
                f"this reward rates the {len(self.token_lift)} tokens of its own corpus; found {tokens.num_tokens}. "
                "Make a reward for this corpus."
            )
        owner = candidates.owner
        # The first position of each different (candidate, token): owners [0, 0, 0], ids [5, 6, 5] -> [0, 1]
        _, first = np.unique(
            owner * (int(tokens.ids.max(initial=0)) + 1) + tokens.ids[candidates.kept], return_index=True
        )
        values = self.token_lift[candidates.kept[first]].astype(np.float64)
        return np.bincount(owner[first], values, minlength=len(candidates)).astype(np.float32)


def token_lift(tokens: RaggedTokens, sequences: Sequence[Sequence[int]]) -> Floats:
    """Return the lift of every token for its item: float32 ``[T]``; see :class:`CoConsumptionReward`."""
    size = int(tokens.ids.max(initial=0)) + 1
    # The different tokens of each item: [[5, 6, 5], [7]] -> [[5, 6], [7]]
    pairs = np.unique(tokens.segment_ids() * size + tokens.ids)
    held = RaggedTokens(
        (pairs % size).astype(np.int32), lengths_to_offsets(np.bincount(pairs // size, minlength=len(tokens)))
    )
    touched = [np.unique(np.asarray(sequence, dtype=np.int64)) for sequence in sequences]
    company: list[list[NDArray[np.int64]]] = [[] for _ in range(len(tokens))]
    for items in touched:
        for item in items:
            company[item].append(items[items != item])
    every = np.concatenate(touched) if touched else np.zeros(0, dtype=np.int64)
    share = (np.bincount(held.take(every).ids, minlength=size) + 0.5) / (len(every) + 1)
    lift = np.zeros(tokens.num_tokens, dtype=np.float32)
    for item, parts in enumerate(company):
        others = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
        if len(others):
            ids = tokens[item]
            together = np.bincount(held.take(others).ids, minlength=size)[ids]
            lift[tokens.cu_seqlens[item] : tokens.cu_seqlens[item + 1]] = np.log(
                (together + SHRINK * share[ids]) / ((len(others) + SHRINK) * share[ids])
            )
    return lift
