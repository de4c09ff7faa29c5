"""Top-k of every segment in plain torch: the oracle that the fast paths must match bit for bit.

It is written to be read: two stable sorts and a rank. It runs on any device. A GPU falls back to it if the CUDA kernels
cannot be built.
"""

from __future__ import annotations

import torch
from torch import Tensor

FORBIDDEN = -(2**31)
NAN = FORBIDDEN + 1
PROTECTED = 2**31 - 1


def order_keys(scores: Tensor, protected: Tensor | None = None, forbidden: Tensor | None = None) -> Tensor:
    """Map scores [T] to int32 keys: forbidden < NaN < numbers in their order < protected; -0 and +0 share a key."""
    values = scores.float() + 0.0
    bits = values.view(torch.int32)
    keys = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    keys = torch.where(values.isnan(), NAN, keys)
    if protected is not None:
        keys = torch.where(protected, PROTECTED, keys)
    if forbidden is not None:
        keys = torch.where(forbidden, FORBIDDEN, keys)
    return keys


def mask(
    scores: Tensor, cu_seqlens: Tensor, k: Tensor, protected: Tensor | None = None, forbidden: Tensor | None = None
) -> Tensor:
    """Mark the best k tokens of each segment, bool [T]; see `tsporec.topk.topk_mask` for arguments and ties."""
    # Example in the comments: one segment, scores [1, 3, 3, 2], k = 2.
    keys = order_keys(scores, protected, forbidden)
    tokens = len(keys)
    positions = torch.arange(tokens, device=keys.device)
    cu = cu_seqlens.long()
    segment = torch.searchsorted(cu, positions, right=True) - 1
    # Sort by key, then by segment; both sorts are stable, so ties stay in text order -> order [1, 2, 3, 0]
    best_first = torch.sort(keys, descending=True, stable=True).indices
    order = best_first[torch.sort(segment[best_first], stable=True).indices]
    # Invert the order to each token's rank in its segment -> rank [3, 0, 1, 2]
    rank = torch.empty_like(positions)
    rank[order] = positions - cu[segment]
    counts = torch.maximum(k.long(), _segment_sums(keys == PROTECTED, cu))
    return (rank < counts[segment]) & (keys != FORBIDDEN)


def select(
    scores: Tensor, cu_seqlens: Tensor, k: Tensor, protected: Tensor | None = None, forbidden: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Find the tokens that `mask` marks: (positions int64 [K], ascending; new offsets int32 [N+1])."""
    kept = mask(scores, cu_seqlens, k, protected, forbidden)
    new_cu = torch.zeros_like(cu_seqlens)
    new_cu[1:] = _segment_sums(kept, cu_seqlens.long()).cumsum(0)
    return kept.nonzero().squeeze(1), new_cu


def _segment_sums(flags: Tensor, cu: Tensor) -> Tensor:
    """Count the set flags of each segment, int64 [N]."""
    running = torch.zeros(len(flags) + 1, dtype=torch.int64, device=flags.device)
    running[1:] = flags.cumsum(0)
    return running[cu[1:]] - running[cu[:-1]]
