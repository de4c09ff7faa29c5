"""Make training batches of a preference dataset.

All pairs of a segment stay together, so that its tokens are scored once.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from tsporec.learning.preferences import COLUMNS
from tsporec.selector.model import TokenSelector
from tsporec.tokens.ragged import RaggedTokens, ranges

SIDES = ("chosen", "rejected")


def check_preferences(dataset: Any, model: Any, name: str) -> None:
    """Refuse a dataset that the model cannot be trained on; see :class:`PreferenceTrainer`."""
    if len(dataset) == 0:
        raise ValueError(f"{name} is empty; collect preferences at a budget smaller than the texts.")
    missing = [column for column in COLUMNS if column not in dataset.column_names]
    if missing:
        raise ValueError(f"{name} lacks the columns {missing}; found {dataset.column_names}.")
    found = dataset.unique("tokenizer")
    bound = getattr(model, "tokenizer_fingerprint", None)
    if isinstance(model, TokenSelector) and bound is None:
        raise ValueError("the selector is not bound to a tokenizer; call selector.for_tokenizer(tokenizer) first.")
    if bound and found != [bound]:
        raise ValueError(
            f"{name} was made with another tokenizer ({', '.join(map(str, found))}) than the selector is bound to "
            f"({bound}); bind the selector to the tokenizer of the dataset with for_tokenizer, or collect again."
        )


class SegmentPairs(Dataset[Any]):
    """Hold the P pairs of S segments and the reference's sums for them.

    Parameters
    ----------
    dataset : datasets.Dataset
        Its columns are :data:`tsporec.learning.preferences.COLUMNS`.
    reference : module ``(ids, cu_seqlens) -> logits``
        The reference policy.
    """

    def __init__(self, dataset: Any, reference: Any) -> None:
        columns = dataset.with_format("arrow")[:]
        self.segment: NDArray[np.int64] = columns["segment"].to_numpy()
        self.tokens = _ragged(columns["input_ids"])
        # Segment s has the pairs cu_pairs[s] to cu_pairs[s + 1]: int64 [S + 1].
        self.cu_pairs = np.append(0, np.cumsum(_array(columns["chosen"]).value_lengths().to_numpy()))
        self.subsets = {side: _ragged(_array(columns[side]).flatten()) for side in SIDES}
        rewards = [_array(columns[f"{side}_reward"]).flatten().to_numpy() for side in SIDES]
        self.difference: NDArray[np.float32] = rewards[0] - rewards[1]
        self.rows = np.arange(len(self.tokens))
        self._check()
        self.sums = self._reference_sums(reference)

    def _owner(self) -> NDArray[np.int64]:
        """Return the row of each pair: int64 ``[P]``."""
        return np.repeat(np.arange(len(self.tokens)), np.diff(self.cu_pairs))

    def _check(self) -> None:
        owner, sizes = self._owner(), [self.subsets[side].lengths for side in SIDES]
        odd = np.flatnonzero(~np.isfinite(self.difference))
        if len(odd):
            raise ValueError(
                f"the rewards of {len(odd)} pairs are not finite, the first in row {owner[odd[0]]}; collect again."
            )
        unequal = np.flatnonzero(sizes[0] != sizes[1])
        if len(unequal):
            found = " against ".join(str(size[unequal[0]]) for size in sizes)
            raise ValueError(
                f"a pair in row {owner[unequal[0]]} keeps {found} tokens; the loss is exact for subsets of equal size "
                "only. Pair candidates of one budget."
            )
        for side, subsets in self.subsets.items():
            row = owner[subsets.segment_ids()]
            bad = np.flatnonzero((subsets.ids < 0) | (subsets.ids >= self.tokens.lengths[row]))
            if len(bad):
                raise ValueError(
                    f"row {row[bad[0]]}: {side} names place {subsets.ids[bad[0]]} in a segment of "
                    f"{self.tokens.lengths[row[bad[0]]]} tokens; collect again."
                )

    @torch.no_grad()
    def _reference_sums(self, reference: Any) -> dict[str, NDArray[np.float32]]:
        """Sum the reference's logits over every subset: float32 ``[P]`` for each side."""
        was_training, device = reference.training, next(reference.parameters()).device
        reference.eval()
        logits = []
        for part in np.array_split(np.arange(len(self.tokens)), max(1, self.tokens.num_tokens // 50_000)):
            batch = self.tokens.take(part)
            found = reference(torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.cu_seqlens).to(device))
            logits.append(found.float().cpu().numpy())
        reference.train(was_training)
        scores, owner, sums = np.concatenate(logits), self._owner(), {}
        for side, subsets in self.subsets.items():
            pair = subsets.segment_ids()
            where = self.tokens.cu_seqlens[owner[pair]] + subsets.ids
            sums[side] = np.bincount(pair, scores[where], minlength=len(subsets)).astype(np.float32)
        return sums

    def split(self, fraction: float, seed: int) -> tuple[SegmentPairs, SegmentPairs]:
        """Return (the rest, a ``fraction`` of the segments). The same seed gives the same parts."""
        segments = np.unique(self.segment)
        count = len(segments)
        if count < 2:
            raise ValueError(f"holding out needs pairs of at least two segments, found {count}; set held_out=0.")
        order = np.random.default_rng(seed).permutation(count)
        held = np.isin(self.segment, segments[order[: min(max(1, round(fraction * count)), count - 1)]])
        parts = copy.copy(self), copy.copy(self)
        parts[0].rows, parts[1].rows = np.flatnonzero(~held), np.flatnonzero(held)
        return parts

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Pack N segments of T tokens and B pairs into a batch; a ``DataLoader`` calls this.

        Returns
        -------
        dict of Tensor
            ``ids [T]`` and ``cu_seqlens [N + 1]``; ``chosen`` and ``rejected``, positions in ``[T]``, with ``pair_cu
            [B + 1]``; ``pair_segment``, ``ref_chosen``, ``ref_rejected`` and ``reward_difference``, each ``[B]``.
        """
        rows = self.rows[np.asarray(indices)]
        tokens, count = self.tokens.take(rows), np.diff(self.cu_pairs)[rows]
        pairs, segment = ranges(self.cu_pairs[rows], count), np.repeat(np.arange(len(rows)), count)
        batch = {"ids": tokens.ids.astype(np.int64), "cu_seqlens": tokens.cu_seqlens, "pair_segment": segment}
        batch["reward_difference"] = self.difference[pairs]
        for side in SIDES:
            kept = self.subsets[side].take(pairs)
            batch["pair_cu"], batch[f"ref_{side}"] = kept.cu_seqlens, self.sums[side][pairs]
            # Places in the segment -> positions in the batch.
            batch[side] = kept.ids + np.repeat(tokens.cu_seqlens[segment].astype(np.int64), kept.lengths)
        return {name: torch.from_numpy(values) for name, values in batch.items()}


def _array(column: Any) -> Any:
    """Return an arrow column as one array."""
    return column.combine_chunks() if hasattr(column, "combine_chunks") else column


def _ragged(lists: Any) -> RaggedTokens:
    """Convert an arrow column of lists of numbers: [[5, 6], [7]] -> ids [5, 6, 7], offsets [0, 2, 3]."""
    lists = _array(lists)
    offsets = np.append(0, np.cumsum(lists.value_lengths().to_numpy())).astype(np.int32)
    return RaggedTokens(lists.flatten().to_numpy().astype(np.int32), offsets)
