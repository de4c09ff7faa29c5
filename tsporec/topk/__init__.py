"""Keep the best k tokens of each segment, in text order: the operation that every selection rests on.

Three implementations agree bit for bit: `reference` (plain torch, the oracle), `cpu` (numpy) and `cuda` (NVRTC).
The functions below take torch tensors on a CPU or GPU; `tsporec.topk.cpu` takes numpy arrays. docs/topk.md gives the
semantics in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from tsporec.topk import ops  # noqa: F401 - registers the operators of torch.ops.tsporec
from tsporec.topk.checks import check_count, check_payloads

__all__ = ["topk_gather", "topk_mask", "topk_padded", "topk_select"]

Flags: TypeAlias = Tensor | None


def topk_mask(
    scores: Tensor, cu_seqlens: Tensor, k: Tensor | int, protected: Flags = None, forbidden: Flags = None
) -> Tensor:
    """Mark the best k tokens of each segment.

    Parameters
    ----------
    scores : float32, float16 or bfloat16 [T]
        Higher is more worth keeping. Ties go to the earlier token; NaN ranks below every number; -0 equals +0.
    cu_seqlens : int32 [N+1]
        Offsets of the segments, as in FlashAttention's varlen API.
    k : int or int32 [N]
        Budget of each segment in tokens. A segment keeps min(max(k, protected count), allowed count) tokens.
    protected, forbidden : bool [T], optional
        Tokens that are always, or never, kept. Forbidden beats protected.

    Returns
    -------
    bool [T]
        True where the token is kept.

    Raises
    ------
    ValueError
        If a shape, a dtype, a device or (on the CPU) an offset is not as above, or T does not fit int32.

    Examples
    --------
    >>> topk_mask(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([0, 3], dtype=torch.int32), 2).tolist()
    [True, False, True]
    """
    mask: Tensor = torch.ops.tsporec.topk_mask.default(
        scores, cu_seqlens, _budgets(k, cu_seqlens), protected, forbidden
    )
    return mask


def topk_select(
    scores: Tensor, cu_seqlens: Tensor, k: Tensor | int, protected: Flags = None, forbidden: Flags = None
) -> tuple[Tensor, Tensor]:
    """Find the best k tokens of each segment. Arguments and errors are those of `topk_mask`.

    Returns
    -------
    kept : int64 [K]
        Kept positions into [T], ascending.
    new_cu_seqlens : int32 [N+1]
        Offsets of the segments in `kept`.

    Examples
    --------
    >>> scores = torch.tensor([3.0, 1.0, 2.0, 5.0, 4.0])
    >>> kept, cu = topk_select(scores, torch.tensor([0, 3, 5], dtype=torch.int32), 2)
    >>> kept.tolist(), cu.tolist()
    ([0, 2, 3, 4], [0, 2, 4])
    """
    kept: tuple[Tensor, Tensor] = torch.ops.tsporec.topk_select.default(
        scores, cu_seqlens, _budgets(k, cu_seqlens), protected, forbidden
    )
    return kept


def topk_gather(
    scores: Tensor,
    cu_seqlens: Tensor,
    k: Tensor | int,
    payloads: Sequence[Tensor],
    protected: Flags = None,
    forbidden: Flags = None,
) -> list[Tensor]:
    """Cut every payload [T, ...] to the best k tokens of each segment [K, ...]; the new cu_seqlens come last.

    Gradients pass to the payloads. Other arguments and errors are those of `topk_mask`.

    Examples
    --------
    >>> scores, cu = torch.tensor([3.0, 1.0, 2.0]), torch.tensor([0, 3], dtype=torch.int32)
    >>> ids, new_cu = topk_gather(scores, cu, 2, [torch.tensor([7, 8, 9])])
    >>> ids.tolist(), new_cu.tolist()
    ([7, 9], [0, 2])
    """
    check_payloads(payloads, scores.shape[0])
    kept, new_cu = topk_select(scores, cu_seqlens, k, protected, forbidden)
    return [*(payload.index_select(0, kept) for payload in payloads), new_cu]


def topk_padded(
    scores: Tensor,
    cu_seqlens: Tensor,
    k: Tensor | int,
    payloads: Sequence[Tensor],
    k_max: int,
    protected: Flags = None,
    forbidden: Flags = None,
    fill: Sequence[int | float] | None = None,
    side: str = "right",
) -> tuple[list[Tensor], Tensor]:
    """Cut every payload to the best k tokens of each segment, as a padded batch of a fixed width.

    The width is an argument, so no shape depends on the data. The call compiles with `fullgraph=True` and needs no
    synchronisation with a GPU. Scores, offsets, budgets and masks are those of `topk_mask`.

    Parameters
    ----------
    payloads : sequence of tensors [T, ...]
    k_max : int
        Width of the batch in tokens. No segment may keep more, protected tokens included.
    fill : sequence of numbers, optional
        Padding value of each payload. Default: 0.
    side : "right" or "left"
        Side of the padding.

    Returns
    -------
    payloads : list of tensors [N, k_max, ...]
    attention_mask : int64 [N, k_max]
        1 for a token, 0 for padding.

    Raises
    ------
    ValueError
        If an argument is not as above.
    RuntimeError
        If a segment keeps more than k_max tokens (on a GPU: an asynchronous device assertion).

    Examples
    --------
    >>> scores, cu = torch.tensor([3.0, 1.0, 2.0, 5.0]), torch.tensor([0, 3, 4], dtype=torch.int32)
    >>> (ids,), attention_mask = topk_padded(scores, cu, 2, [torch.tensor([7, 8, 9, 6])], k_max=2)
    >>> ids.tolist(), attention_mask.tolist()
    ([[7, 9], [6, 0]], [[1, 1], [1, 0]])
    """
    if side not in ("right", "left"):
        raise ValueError(f"side is {side!r}, expected 'right' or 'left'")
    check_count("k_max", k_max)
    fill = [0] * len(payloads) if fill is None else fill
    if len(fill) != len(payloads):
        raise ValueError(f"fill has {len(fill)} values, expected one for each of the {len(payloads)} payloads")
    tokens, segments = scores.shape[0], cu_seqlens.shape[0] - 1
    check_payloads(payloads, tokens)
    kept = topk_mask(scores, cu_seqlens, k, protected, forbidden)
    cu = cu_seqlens.long()
    # Kept tokens before each position -> before [0, 1, 1, 2, 3] and counts [2, 1] in the example above.
    before = torch.cat([cu.new_zeros(1), kept.cumsum(0)])
    counts = before[cu[1:]] - before[cu[:-1]]
    torch._assert_async((counts <= k_max).all(), "a segment keeps more than k_max tokens: raise k_max")
    # Row and column of each token in the batch -> segment [0, 0, 0, 1], column [0, 1, 1, 0].
    segment = torch.searchsorted(cu, torch.arange(tokens, device=cu.device), right=True) - 1
    column = before[:-1] - before[cu[segment]]
    if side == "left":
        column = column + k_max - counts[segment]
    # Dropped tokens go to one spare slot at the end -> slot [0, 4, 1, 2].
    slot = torch.where(kept, segment * k_max + column, segments * k_max)
    padded = []
    for payload, value in zip(payloads, fill, strict=True):
        out = payload.new_full((segments * k_max + 1, *payload.shape[1:]), value)
        out = out.index_copy(0, slot, payload)
        padded.append(out[:-1].view(segments, k_max, *payload.shape[1:]))
    columns = torch.arange(k_max, device=cu.device)
    held = counts[:, None]
    attention = columns < held if side == "right" else columns >= k_max - held
    return padded, attention.long()


def _budgets(k: Tensor | int, cu_seqlens: Tensor) -> Tensor:
    """Turn one whole number into budgets of all segments, int32 [N]."""
    if isinstance(k, Tensor):
        return k
    check_count("k", k)
    return cu_seqlens.new_full((max(cu_seqlens.shape[0] - 1, 0),), k, dtype=torch.int32)
