"""Whether the tokens kept stand in what the same users touched, more often than chance would have it.

The only reward without a recommender. It is weak evidence on real texts, but it rates single tokens rather than whole
subsets, costs no encoding, and cannot be over-optimised by fooling an encoder: a good first round.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.digest import digest
from tsporec.learning.candidates import Candidates
from tsporec.learning.rewards.base import Floats
from tsporec.tokens.ragged import RaggedTokens


class CoConsumptionReward:
    """The summed log-lift of the different tokens of a subset.

    For item ``i`` with ``n`` co-consumed items (those that share a user's sequence with it, counted once a sequence),
    ``a`` of which hold token ``w``, while a share ``p`` of all touched items does::

        lift(i, w) = log((a + shrink * p) / ((n + shrink) * p))

    0 for an item nobody touched. A token that stands in a subset twice counts once.

    Parameters
    ----------
    tokens : RaggedTokens
        The whole corpus, an item a segment.
    sequences : sequences of item indices
        What users did: training users only.
    shrink : float
        Pseudo-counts that pull the lift to 0.
    """

    def __init__(self, tokens: RaggedTokens, sequences: Sequence[Sequence[int]], shrink: float = 5.0) -> None:
        self.fingerprint = digest("coconsumption", tokens.ids, tokens.cu_seqlens, [list(s) for s in sequences], shrink)
        self.token_lift = token_lift(tokens, sequences, shrink)

    def __call__(self, tokens: RaggedTokens, candidates: Candidates) -> Floats:
        """float32 ``[C]``, in nats; see :class:`~tsporec.learning.rewards.base.ProxyReward`."""
        if tokens.num_tokens != len(self.token_lift):
            raise ValueError(
                f"this reward rates the {len(self.token_lift)} tokens of its own corpus; found {tokens.num_tokens}."
            )
        owner = np.repeat(np.arange(len(candidates)), np.diff(candidates.cu_seqlens))
        pairs = owner * (int(tokens.ids.max(initial=0)) + 1) + tokens.ids[candidates.kept]
        _, first = np.unique(pairs, return_index=True)
        values = self.token_lift[candidates.kept[first]].astype(np.float64)
        return np.bincount(owner[first], values, minlength=len(candidates)).astype(np.float32)


def token_lift(tokens: RaggedTokens, sequences: Sequence[Sequence[int]], shrink: float = 5.0) -> Floats:
    """float32 ``[T]``: the lift of every token for its item; see :class:`CoConsumptionReward`."""
    size = int(tokens.ids.max(initial=0)) + 1
    pairs = np.unique(tokens.segment_ids() * size + tokens.ids)
    held = RaggedTokens((pairs % size).astype(np.int32), _offsets(np.bincount(pairs // size, minlength=len(tokens))))
    company: list[list[NDArray[np.int64]]] = [[] for _ in range(len(tokens))]
    touched = []
    for sequence in sequences:
        items = np.unique(np.asarray(sequence, dtype=np.int64))
        touched.append(items)
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
                (together + shrink * share[ids]) / ((len(others) + shrink) * share[ids])
            )
    return lift


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int32]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
