"""Keep the best k tokens of each segment, in text order: the operation that every selection rests on.

Three implementations agree bit for bit: `reference` (plain torch, the oracle), `cpu` (numpy) and `cuda` (NVRTC, with
the `kernels` of topk.cu). `ops` registers them with torch, and `checks` refuses wrong input. The functions below take
torch tensors on a CPU or GPU; `tsporec.topk.cpu` takes numpy arrays. docs/topk.md gives the semantics in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from tsporec.topk import ops  # noqa: F401 - registers the operators of torch.ops.tsporec
from tsporec.topk.checks import check_count, check_payloads

__all__ = ["pad_kept", "topk_gather", "topk_mask", "topk_select"]

Flags: TypeAlias = Tensor | None


def topk_mask(
    scores: Tensor, cu_seqlens: Tensor, k: Tensor | int, protected: Flags = None, forbidden: Flags = None
) -> Tensor:
    """Mark the best k tokens of each segment, bool [T].

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

    Raises
    ------
    ValueError
        If a shape, a dtype, a device or (on the CPU) an offset is not as above, or T does not fit int32.

    Examples
    --------
    >>> topk_mask(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([0, 3], dtype=torch.int32), 2).tolist()
    [True, False, True]
    """
    k = _budgets(k, cu_seqlens)
    mask: Tensor = torch.ops.tsporec.topk_mask.default(scores, cu_seqlens, k, protected, forbidden)
    return mask


def topk_select(
    scores: Tensor, cu_seqlens: Tensor, k: Tensor | int, protected: Flags = None, forbidden: Flags = None
) -> tuple[Tensor, Tensor]:
    """Find the best k tokens of each segment: (positions into [T], int64 [K], ascending; new offsets int32 [N+1]).

    Arguments and errors are those of `topk_mask`.

    >>> scores = torch.tensor([3.0, 1.0, 2.0, 5.0, 4.0])
    >>> kept, cu = topk_select(scores, torch.tensor([0, 3, 5], dtype=torch.int32), 2)
    >>> kept.tolist(), cu.tolist()
    ([0, 2, 3, 4], [0, 2, 4])
    """
    k = _budgets(k, cu_seqlens)
    kept: tuple[Tensor, Tensor] = torch.ops.tsporec.topk_select.default(scores, cu_seqlens, k, protected, forbidden)
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

    >>> scores, cu = torch.tensor([3.0, 1.0, 2.0]), torch.tensor([0, 3], dtype=torch.int32)
    >>> ids, new_cu = topk_gather(scores, cu, 2, [torch.tensor([7, 8, 9])])
    >>> ids.tolist(), new_cu.tolist()
    ([7, 9], [0, 2])
    """
    check_payloads(payloads, scores.shape[0])
    kept, new_cu = topk_select(scores, cu_seqlens, k, protected, forbidden)
    return [*(payload.index_select(0, kept) for payload in payloads), new_cu]


def pad_kept(
    kept: Tensor,
    cu_seqlens: Tensor,
    payloads: Sequence[Tensor],
    width: int,
    fill: Sequence[int | float] | None = None,
    side: str = "right",
) -> tuple[list[Tensor], Tensor]:
    """Cut every payload [T, ...] to the kept tokens, as a padded batch: ([N, width, ...], attention mask [N, width]).

    The width is an argument, so no shape depends on the data. With `topk_mask` it compiles with `fullgraph=True` and
    needs no synchronisation with a GPU.

    Parameters
    ----------
    kept : bool [T]
        Tokens that stay, as from `topk_mask`. A segment with more than ``width`` of them is a RuntimeError (on a GPU:
        an asynchronous device assertion).
    fill : sequence of numbers, optional
        Padding value of each payload. Default: 0.
    side : "right" or "left"
        Side of the padding.

    Examples
    --------
    >>> kept, cu = torch.tensor([True, False, True, True]), torch.tensor([0, 3, 4], dtype=torch.int32)
    >>> (ids,), attention_mask = pad_kept(kept, cu, [torch.tensor([7, 8, 9, 6])], width=2)
    >>> ids.tolist(), attention_mask.tolist()
    ([[7, 9], [6, 0]], [[1, 1], [1, 0]])
    """
    if side not in ("right", "left"):
        raise ValueError(f"side is {side!r}, expected 'right' or 'left'")
    check_count("width", width)
    fill = [0] * len(payloads) if fill is None else fill
    if len(fill) != len(payloads):
        raise ValueError(f"fill has {len(fill)} values, expected one for each of the {len(payloads)} payloads")
    check_payloads(payloads, kept.shape[0])
    cu, segments = cu_seqlens.long(), cu_seqlens.shape[0] - 1
    # Kept tokens before each position -> before [0, 1, 1, 2, 3] and counts [2, 1] in the example above.
    before = torch.cat([cu.new_zeros(1), kept.cumsum(0)])
    counts = before[cu[1:]] - before[cu[:-1]]
    torch._assert_async((counts <= width).all(), "a segment keeps more tokens than the width: raise it")
    # Row and column of each token in the batch -> segment [0, 0, 0, 1], column [0, 1, 1, 0].
    segment = torch.searchsorted(cu, torch.arange(kept.shape[0], device=cu.device), right=True) - 1
    column = before[:-1] - before[cu[segment]]
    if side == "left":
        column = column + width - counts[segment]
    # Dropped tokens go to one spare slot at the end -> slot [0, 4, 1, 2].
    slot = torch.where(kept, segment * width + column, segments * width)
    padded = []
    for payload, value in zip(payloads, fill, strict=True):
        out = payload.new_full((segments * width + 1, *payload.shape[1:]), value).index_copy(0, slot, payload)
        padded.append(out[:-1].view(segments, width, *payload.shape[1:]))
    columns, held = torch.arange(width, device=cu.device), counts[:, None]
    attention = columns < held if side == "right" else columns >= width - held
    return padded, attention.long()


def _budgets(k: Tensor | int, cu_seqlens: Tensor) -> Tensor:
    """Turn one whole number into budgets of all segments, int32 [N]."""
    if isinstance(k, Tensor):
        return k
    check_count("k", k)
    if not isinstance(cu_seqlens, Tensor):
        raise TypeError(f"cu_seqlens is {type(cu_seqlens).__name__}, expected a tensor; tsporec.topk.cpu takes arrays")
    return cu_seqlens.new_full((max(cu_seqlens.shape[0] - 1, 0),), k, dtype=torch.int32)
