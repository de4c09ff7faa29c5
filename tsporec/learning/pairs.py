"""Make training batches of a preference dataset.

All pairs of a segment stay together, so that its tokens are scored once.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from tsporec.learning.dataset import COLUMNS
from tsporec.selector.model import TokenSelector
from tsporec.tokens.ragged import RaggedTokens

SIDES = ("chosen", "rejected")


def check_preferences(dataset: Any, model: Any, name: str) -> None:
    """Refuse a dataset that the model cannot be trained on; see :class:`PreferenceTrainer`."""
    if len(dataset) == 0:
        raise ValueError(f"{name} is empty; collect preferences at a budget smaller than the texts.")
    missing = [column for column in COLUMNS if column not in dataset.column_names]
    if missing:
        raise ValueError(f"{name} lacks the columns {missing}; found {dataset.column_names}.")
    found = dataset.unique("tokenizer")
    bound = getattr(getattr(model, "vocabulary", None), "fingerprint", None)
    if isinstance(model, TokenSelector) and bound is None:
        raise ValueError("the selector is not bound to a tokenizer; call selector.for_tokenizer(tokenizer) first.")
    if bound and found != [bound]:
        raise ValueError(
            f"{name} was made with another tokenizer ({', '.join(map(str, found))}) than the selector is bound to "
            f"({bound}); bind the selector to the tokenizer of the dataset with for_tokenizer, or collect again."
        )


class SegmentPairs(Dataset[dict[str, Any]]):
    """Hold the pairs of S segments and the reference's sums for them.

    Parameters
    ----------
    dataset : datasets.Dataset
        Its columns are :data:`tsporec.learning.dataset.COLUMNS`.
    reference : module ``(ids, cu_seqlens) -> logits``
        The reference policy.

    Attributes
    ----------
    tokens : RaggedTokens
        S segments.
    cu_pairs : int64 ``[S + 1]``
        Segment ``s`` has the pairs ``cu_pairs[s]`` to ``cu_pairs[s + 1]`` of P in all.
    subsets : dict of RaggedTokens
        The places of P chosen and P rejected subsets.
    sums : dict of float32 ``[P]``
        The reference's sum over each subset.
    difference : float32 ``[P]``
        Chosen minus rejected reward.
    rows : int64
        The segments of this part of the dataset.
    """

    def __init__(self, dataset: Any, reference: Any) -> None:
        columns = dataset.with_format("arrow")[:]
        self.segment: NDArray[np.int64] = columns["segment"].to_numpy()
        self.tokens, outer = _ragged(columns["input_ids"]), _chunk(columns["chosen"])
        self.cu_pairs: NDArray[np.int64] = np.append(0, np.cumsum(outer.value_lengths().to_numpy()))
        self.subsets = {side: _ragged(_chunk(columns[side]).flatten()) for side in SIDES}
        rewards = [_chunk(columns[f"{side}_reward"]).flatten().to_numpy() for side in SIDES]
        self.difference = rewards[0] - rewards[1]
        self.rows = np.arange(len(self.tokens))
        self._check()
        self.sums = self._reference_sums(reference)

    def _owner(self) -> NDArray[np.int64]:
        """Return the row of each pair: int64 ``[P]``."""
        return np.repeat(np.arange(len(self.tokens)), np.diff(self.cu_pairs))

    def _check(self) -> None:
        owner = self._owner()
        odd = np.flatnonzero(~np.isfinite(self.difference))
        if len(odd):
            raise ValueError(
                f"the rewards of {len(odd)} pairs are not finite, the first in row {owner[odd[0]]}; collect again."
            )
        sizes = [self.subsets[side].lengths for side in SIDES]
        unequal = np.flatnonzero(sizes[0] != sizes[1])
        if len(unequal):
            raise ValueError(
                f"a pair in row {owner[unequal[0]]} keeps {sizes[0][unequal[0]]} tokens against "
                f"{sizes[1][unequal[0]]}; the loss is exact for subsets of equal size only. Pair "
                "candidates of one budget."
            )
        for side, subsets in self.subsets.items():
            length = self.tokens.lengths[owner[subsets.segment_ids()]]
            bad = np.flatnonzero((subsets.ids < 0) | (subsets.ids >= length))
            if len(bad):
                raise ValueError(
                    f"row {owner[subsets.segment_ids()[bad[0]]]}: {side} names place {subsets.ids[bad[0]]} in a "
                    f"segment of {length[bad[0]]} tokens; collect again."
                )

    @torch.no_grad()
    def _reference_sums(self, reference: Any) -> dict[str, NDArray[np.float32]]:
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

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = int(self.rows[index])
        pairs = slice(int(self.cu_pairs[row]), int(self.cu_pairs[row + 1]))
        found: dict[str, Any] = {"ids": self.tokens[row], "reward_difference": self.difference[pairs]}
        for side in SIDES:
            found[side] = [self.subsets[side][pair] for pair in range(pairs.start, pairs.stop)]
            found[f"ref_{side}"] = self.sums[side][pairs]
        return found


def collate_segments(rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Pack rows into a batch of N segments, T tokens and B pairs.

    Returns
    -------
    dict
        ``ids [T]`` and ``cu_seqlens [N + 1]``; ``chosen`` and ``rejected``, positions in ``[T]``, with ``pair_cu
        [B + 1]``; ``pair_segment``, ``ref_chosen``, ``ref_rejected`` and ``reward_difference``, each ``[B]``.
    """
    tokens = RaggedTokens.from_lists([row["ids"] for row in rows])
    batch: dict[str, Tensor] = {
        "ids": torch.from_numpy(tokens.ids.astype(np.int64)),
        "cu_seqlens": torch.from_numpy(tokens.cu_seqlens),
    }
    for side in SIDES:
        moved = [kept + start for row, start in zip(rows, tokens.cu_seqlens[:-1], strict=True) for kept in row[side]]
        packed = RaggedTokens.from_lists(moved)
        batch[side] = torch.from_numpy(packed.ids.astype(np.int64))
        batch["pair_cu"] = torch.from_numpy(packed.cu_seqlens)
    pairs = torch.tensor([len(row["chosen"]) for row in rows])
    batch["pair_segment"] = torch.arange(len(rows)).repeat_interleave(pairs)
    for name in ("ref_chosen", "ref_rejected", "reward_difference"):
        batch[name] = torch.from_numpy(np.concatenate([row[name] for row in rows]).astype(np.float32))
    return batch


def _chunk(column: Any) -> Any:
    """Return an arrow column as one array."""
    return column.combine_chunks() if hasattr(column, "combine_chunks") else column


def _ragged(lists: Any) -> RaggedTokens:
    """Convert an arrow array of lists of numbers: [[5, 6], [7]] -> ids [5, 6, 7], offsets [0, 2, 3]."""
    lists = _chunk(lists)
    offsets = np.append(0, np.cumsum(lists.value_lengths().to_numpy())).astype(np.int32)
    return RaggedTokens(lists.flatten().to_numpy().astype(np.int32), offsets)
