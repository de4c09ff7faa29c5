"""The pairs of a preference dataset, grouped by segment: what the trainer's batches are made of."""

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


def check_preferences(dataset: Any, model: Any, name: str) -> None:
    """Refuse a dataset that cannot be trained on, saying why; see :class:`PreferenceTrainer`."""
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
            f"({bound}); bind it with for_tokenizer to the tokenizer of the dataset, or collect again."
        )


class SegmentPairs(Dataset[dict[str, Any]]):
    """The pairs of a preference dataset by segment, with the reference's sums.

    Parameters
    ----------
    dataset : datasets.Dataset
    reference : module ``(ids, cu_seqlens) -> logits``
    """

    def __init__(self, dataset: Any, reference: Any) -> None:
        columns = dataset.with_format("arrow")[:]
        self.segment = columns["segment"].to_numpy()
        self.pairs = {side: _ragged(columns[side]) for side in ("chosen", "rejected")}
        self.difference = columns["chosen_reward"].to_numpy() - columns["rejected_reward"].to_numpy()
        odd = np.flatnonzero(~np.isfinite(self.difference))
        if len(odd):
            raise ValueError(f"the rewards of pair {odd[0]} (and {len(odd) - 1} more) are not finite; collect again.")
        unequal = np.flatnonzero(self.pairs["chosen"].lengths != self.pairs["rejected"].lengths)
        if len(unequal):
            sizes = [int(self.pairs[side].lengths[unequal[0]]) for side in ("chosen", "rejected")]
            raise ValueError(
                f"pair {unequal[0]} keeps {sizes[0]} tokens against {sizes[1]}; the loss is exact for subsets of equal "
                "size only. Pair candidates of one budget."
            )
        _, first, self.owner = np.unique(self.segment, return_index=True, return_inverse=True)
        ids = _ragged(columns["input_ids"])
        self.tokens = ids.take(first)
        for side, kept in self.pairs.items():
            length = np.repeat(ids.lengths, kept.lengths)
            bad = np.flatnonzero((kept.ids < 0) | (kept.ids >= length))
            if len(bad):
                pair = int(kept.segment_ids()[bad[0]])
                raise ValueError(
                    f"pair {pair}: {side} names place {kept.ids[bad[0]]} of a segment of {ids.lengths[pair]} tokens."
                )
        self.reference = self._reference_sums(reference)
        self.members = np.split(
            np.argsort(self.owner, kind="stable"), np.cumsum(np.bincount(self.owner, minlength=len(self.tokens)))[:-1]
        )
        self.chosen_segments = np.arange(len(self.tokens))

    @torch.no_grad()
    def _reference_sums(self, reference: Any) -> dict[str, NDArray[np.float32]]:
        was_training, device = reference.training, next(reference.parameters()).device
        reference.eval()
        logits = []
        for part in np.array_split(np.arange(len(self.tokens)), max(1, self.tokens.num_tokens // 50_000)):
            batch = self.tokens.take(part)
            scores = reference(torch.from_numpy(batch.ids).to(device), torch.from_numpy(batch.cu_seqlens).to(device))
            logits.append(scores.float().cpu().numpy())
        reference.train(was_training)
        scores = np.concatenate(logits)
        sums = {}
        for side, kept in self.pairs.items():
            pair = kept.segment_ids()
            where = self.tokens.cu_seqlens[self.owner[pair]] + kept.ids
            sums[side] = np.bincount(pair, scores[where], minlength=len(kept)).astype(np.float32)
        return sums

    def split(self, fraction: float, seed: int) -> tuple[SegmentPairs, SegmentPairs]:
        """(the rest, a ``fraction`` of the segments); the same for the same seed."""
        count = len(self.tokens)
        if count < 2:
            raise ValueError(f"holding out needs pairs of at least two segments, found {count}; set held_out=0.")
        order = np.random.default_rng(seed).permutation(count)
        held = min(max(1, round(fraction * count)), count - 1)
        parts = copy.copy(self), copy.copy(self)
        parts[0].chosen_segments, parts[1].chosen_segments = np.sort(order[held:]), np.sort(order[:held])
        return parts

    def __len__(self) -> int:
        return len(self.chosen_segments)

    def __getitem__(self, index: int) -> dict[str, Any]:
        segment = int(self.chosen_segments[index])
        members = self.members[segment]
        return {
            "ids": self.tokens[segment],
            "chosen": [self.pairs["chosen"][int(m)] for m in members],
            "rejected": [self.pairs["rejected"][int(m)] for m in members],
            "ref_chosen": self.reference["chosen"][members],
            "ref_rejected": self.reference["rejected"][members],
            "reward_difference": self.difference[members],
        }


def collate_segments(rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """A batch of N segments, T tokens and B pairs, packed.

    ``ids [T]``, ``cu_seqlens [N + 1]``; ``chosen`` and ``rejected``, places in ``[T]``, with ``pair_cu [B + 1]``;
    ``pair_segment``, ``ref_chosen``, ``ref_rejected`` and ``reward_difference`` ``[B]``.
    """
    tokens = RaggedTokens.from_lists([row["ids"] for row in rows])
    batch: dict[str, Tensor] = {
        "ids": torch.from_numpy(tokens.ids.astype(np.int64)),
        "cu_seqlens": torch.from_numpy(tokens.cu_seqlens),
    }
    for side in ("chosen", "rejected"):
        moved = [kept + start for row, start in zip(rows, tokens.cu_seqlens[:-1], strict=True) for kept in row[side]]
        packed = RaggedTokens.from_lists(moved)
        batch[side] = torch.from_numpy(packed.ids.astype(np.int64))
        batch["pair_cu"] = torch.from_numpy(packed.cu_seqlens)
    pairs = torch.tensor([len(row["chosen"]) for row in rows])
    batch["pair_segment"] = torch.arange(len(rows)).repeat_interleave(pairs)
    for name in ("ref_chosen", "ref_rejected", "reward_difference"):
        batch[name] = torch.from_numpy(np.concatenate([row[name] for row in rows]).astype(np.float32))
    return batch


def _ragged(column: Any) -> RaggedTokens:
    array = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    offsets = array.offsets.to_numpy()
    return RaggedTokens(array.values.to_numpy()[offsets[0] : offsets[-1]].astype(np.int32), offsets - offsets[0])
