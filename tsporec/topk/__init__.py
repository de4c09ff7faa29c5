"""The k best tokens of every segment, in text order: one operation, an implementation a device.

``cpu`` is numpy and works on arrays; ``reference`` is plain torch, the oracle, and what runs on a GPU. The functions
here work on torch tensors, are registered with ``torch.library`` as ``tsporec::topk_*``, and agree bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tsporec.topk import cpu, reference
from tsporec.topk.checks import segment_budgets

__all__ = ["topk_gather", "topk_mask", "topk_padded", "topk_select"]

_MASKS = "Tensor? protected=None, Tensor? forbidden=None"
torch.library.define("tsporec::topk_mask", f"(Tensor scores, Tensor cu_seqlens, Tensor k, {_MASKS}) -> Tensor")
torch.library.define(
    "tsporec::topk_select", f"(Tensor scores, Tensor cu_seqlens, Tensor k, {_MASKS}) -> (Tensor, Tensor)"
)
torch.library.define(
    "tsporec::topk_gather",
    f"(Tensor scores, Tensor cu_seqlens, Tensor k, Tensor[] payloads, {_MASKS}) -> Tensor[]",
)


def topk_mask(
    scores: Tensor,
    cu_seqlens: Tensor,
    k: Tensor | int,
    protected: Tensor | None = None,
    forbidden: Tensor | None = None,
) -> Tensor:
    """Mark the ``k`` best tokens of each segment.

    Parameters
    ----------
    scores : float32, float16 or bfloat16 ``[T]``
        Higher is more worth keeping. Ties go to the earlier token; NaN ranks below every number; -0 equals +0.
    cu_seqlens : int32 ``[N + 1]``
        Offsets of the segments.
    k : int32 ``[N]`` or int
        Tokens each segment may keep; the number kept is ``min(max(k, protected), allowed)``.
    protected, forbidden : bool ``[T]``, optional
        Always, never kept; forbidden beats protected.

    Returns
    -------
    bool ``[T]``

    Raises
    ------
    ValueError
        On the CPU: if a shape, a dtype or the offsets are not as above, or T does not fit int32. On a GPU the
        contents of ``cu_seqlens`` are not checked, which would cost a synchronisation.
    """
    budgets = _budgets(k, cu_seqlens)
    kept: Tensor = torch.ops.tsporec.topk_mask(scores, cu_seqlens, budgets, protected, forbidden)
    return kept


def topk_select(
    scores: Tensor,
    cu_seqlens: Tensor,
    k: Tensor | int,
    protected: Tensor | None = None,
    forbidden: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The positions that :func:`topk_mask` marks (int64 ``[K]``, ascending) and their offsets (int32 ``[N + 1]``)."""
    budgets = _budgets(k, cu_seqlens)
    kept, new_cu = torch.ops.tsporec.topk_select(scores, cu_seqlens, budgets, protected, forbidden)
    return kept, new_cu


def topk_gather(
    scores: Tensor,
    cu_seqlens: Tensor,
    k: Tensor | int,
    payloads: Sequence[Tensor],
    protected: Tensor | None = None,
    forbidden: Tensor | None = None,
) -> list[Tensor]:
    """Every payload ``[T, ...]`` cut to the kept tokens ``[K, ...]``, and the new offsets last."""
    budgets = _budgets(k, cu_seqlens)
    cut: list[Tensor] = torch.ops.tsporec.topk_gather(scores, cu_seqlens, budgets, list(payloads), protected, forbidden)
    return cut


def topk_padded(scores: Tensor, attention_mask: Tensor, k: Tensor | int, width: int) -> tuple[Tensor, Tensor]:
    """Keep the ``k`` best tokens of each row of a padded batch.

    Parameters
    ----------
    scores : float ``[N, L]``
    attention_mask : bool or int ``[N, L]``
        Where it is 0 there is no token.
    k : int32 ``[N]`` or int
    width : int
        Columns of the result; the kept tokens beyond it are lost, so give at least the largest ``k``.

    Returns
    -------
    positions : int64 ``[N, width]``
        Kept columns of each row, ascending, right-padded with 0.
    mask : bool ``[N, width]``
    """
    rows, length = scores.shape
    cu = torch.arange(0, rows * length + 1, max(length, 1), dtype=torch.int32, device=scores.device)[: rows + 1]
    kept = topk_mask(scores.reshape(-1), cu, k, forbidden=(attention_mask == 0).reshape(-1)).view(rows, length)
    # Kept columns first, in their order: a stable sort of a boolean.
    order = torch.argsort((~kept).to(torch.int8), dim=1, stable=True)[:, :width]
    if order.shape[1] < width:
        order = torch.nn.functional.pad(order, (0, width - order.shape[1]))
    mask = torch.arange(width, device=scores.device) < kept.sum(dim=1, keepdim=True)
    return order * mask, mask


def _budgets(k: Tensor | int, cu_seqlens: Tensor) -> Tensor:
    if isinstance(k, Tensor):
        return k
    segment_budgets(k, 0)
    return torch.full((cu_seqlens.shape[0] - 1,), k, dtype=torch.int32, device=cu_seqlens.device)


def _array(tensor: Tensor | None) -> np.ndarray | None:
    if tensor is None:
        return None
    values = tensor.detach()
    # numpy has no bfloat16; float32 holds each of its values exactly.
    array: np.ndarray = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return array


def _mask_cpu(
    scores: Tensor,
    cu_seqlens: Tensor,
    k: Tensor,
    protected: Tensor | None = None,
    forbidden: Tensor | None = None,
) -> Tensor:
    kept = cpu.mask(*map(_array, (scores, cu_seqlens, k, protected, forbidden)))  # type: ignore[arg-type]  # not None
    return torch.from_numpy(kept)


def _select_cpu(
    scores: Tensor,
    cu_seqlens: Tensor,
    k: Tensor,
    protected: Tensor | None = None,
    forbidden: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    kept, new_cu = cpu.select(*map(_array, (scores, cu_seqlens, k, protected, forbidden)))  # type: ignore[arg-type]
    return torch.from_numpy(kept), torch.from_numpy(new_cu)


def _gather_cpu(
    scores: Tensor,
    cu_seqlens: Tensor,
    k: Tensor,
    payloads: list[Tensor],
    protected: Tensor | None = None,
    forbidden: Tensor | None = None,
) -> list[Tensor]:
    kept, new_cu = _select_cpu(scores, cu_seqlens, k, protected, forbidden)
    return [*(payload.index_select(0, kept) for payload in payloads), new_cu]


def _mask_fake(
    scores: Tensor,
    cu_seqlens: Tensor,
    k: Tensor,
    protected: Tensor | None = None,
    forbidden: Tensor | None = None,
) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


def _select_fake(
    scores: Tensor,
    cu_seqlens: Tensor,
    k: Tensor,
    protected: Tensor | None = None,
    forbidden: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    count = torch.library.get_ctx().new_dynamic_size()
    return scores.new_empty(count, dtype=torch.int64), torch.empty_like(cu_seqlens)


def _gather_fake(
    scores: Tensor,
    cu_seqlens: Tensor,
    k: Tensor,
    payloads: list[Tensor],
    protected: Tensor | None = None,
    forbidden: Tensor | None = None,
) -> list[Tensor]:
    count = torch.library.get_ctx().new_dynamic_size()
    return [*(p.new_empty((count, *p.shape[1:])) for p in payloads), torch.empty_like(cu_seqlens)]


for _name, _on_cpu, _on_gpu, _fake in (
    ("tsporec::topk_mask", _mask_cpu, reference.mask, _mask_fake),
    ("tsporec::topk_select", _select_cpu, reference.select, _select_fake),
    ("tsporec::topk_gather", _gather_cpu, reference.gather, _gather_fake),
):
    torch.library.impl(_name, "cpu", _on_cpu)
    torch.library.impl(_name, "cuda", _on_gpu)
    torch.library.register_fake(_name, _fake)
