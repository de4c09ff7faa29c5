"""The top-k operation as torch operators, so that it dispatches by device and goes through `torch.compile`.

They are defined by schema rather than by the `custom_op` decorator: a small batch takes tens of microseconds, of which
the decorator's own checks would be a good part.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tsporec.topk import cpu, cuda
from tsporec.topk.checks import check_inputs, check_payloads

__all__: list[str] = []

_MASKS = "Tensor? protected=None, Tensor? forbidden=None"
_DYNAMIC = (torch.Tag.dynamic_output_shape,)
torch.library.define("tsporec::topk_mask", f"(Tensor scores, Tensor cu_seqlens, Tensor k, {_MASKS}) -> Tensor")
torch.library.define(
    "tsporec::topk_select",
    f"(Tensor scores, Tensor cu_seqlens, Tensor k, {_MASKS}) -> (Tensor, Tensor)",
    tags=_DYNAMIC,
)
torch.library.define(
    "tsporec::topk_gather",
    f"(Tensor scores, Tensor cu_seqlens, Tensor k, Tensor[] payloads, {_MASKS}) -> Tensor[]",
    tags=_DYNAMIC,
)


def _numpy(tensor: Tensor) -> np.ndarray:
    return (tensor.detach() if tensor.requires_grad else tensor).numpy()


def _arrays(
    scores: Tensor, cu_seqlens: Tensor, k: Tensor, protected: Tensor | None, forbidden: Tensor | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
    # numpy has no bfloat16; every bfloat16 is a float32, so the order is the same.
    values = scores.float() if scores.dtype == torch.bfloat16 else scores
    return (
        _numpy(values),
        _numpy(cu_seqlens),
        _numpy(k),
        None if protected is None else _numpy(protected),
        None if forbidden is None else _numpy(forbidden),
    )


def _mask_cpu(
    scores: Tensor,
    cu_seqlens: Tensor,
    k: Tensor,
    protected: Tensor | None = None,
    forbidden: Tensor | None = None,
) -> Tensor:
    return torch.from_numpy(cpu.mask(*_arrays(scores, cu_seqlens, k, protected, forbidden)))


def _select_cpu(
    scores: Tensor,
    cu_seqlens: Tensor,
    k: Tensor,
    protected: Tensor | None = None,
    forbidden: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    kept, new_cu = cpu.select(*_arrays(scores, cu_seqlens, k, protected, forbidden))
    return torch.from_numpy(kept), torch.from_numpy(new_cu)


def _gather_cpu(
    scores: Tensor,
    cu_seqlens: Tensor,
    k: Tensor,
    payloads: Sequence[Tensor],
    protected: Tensor | None = None,
    forbidden: Tensor | None = None,
) -> list[Tensor]:
    check_payloads(payloads, len(scores))
    kept, new_cu = _select_cpu(scores, cu_seqlens, k, protected, forbidden)
    return [*(payload.index_select(0, kept) for payload in payloads), new_cu]


def _mask_fake(
    scores: Tensor,
    cu_seqlens: Tensor,
    k: Tensor,
    protected: Tensor | None = None,
    forbidden: Tensor | None = None,
) -> Tensor:
    check_inputs(scores, cu_seqlens, k, protected, forbidden)
    return scores.new_empty(scores.shape, dtype=torch.bool)


def _select_fake(
    scores: Tensor,
    cu_seqlens: Tensor,
    k: Tensor,
    protected: Tensor | None = None,
    forbidden: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    check_inputs(scores, cu_seqlens, k, protected, forbidden)
    kept = torch.library.get_ctx().new_dynamic_size()
    return scores.new_empty([kept], dtype=torch.int64), cu_seqlens.new_empty(cu_seqlens.shape)


def _gather_fake(
    scores: Tensor,
    cu_seqlens: Tensor,
    k: Tensor,
    payloads: Sequence[Tensor],
    protected: Tensor | None = None,
    forbidden: Tensor | None = None,
) -> list[Tensor]:
    check_payloads(payloads, scores.shape[0])
    kept, new_cu = _select_fake(scores, cu_seqlens, k, protected, forbidden)
    return [*(payload.new_empty([kept.shape[0], *payload.shape[1:]]) for payload in payloads), new_cu]


for _name, _on_cpu, _on_gpu, _fake in (
    ("tsporec::topk_mask", _mask_cpu, cuda.mask, _mask_fake),
    ("tsporec::topk_select", _select_cpu, cuda.select, _select_fake),
    ("tsporec::topk_gather", _gather_cpu, cuda.gather, _gather_fake),
):
    torch.library.impl(_name, "cpu", _on_cpu)
    torch.library.impl(_name, "cuda", _on_gpu)
    torch.library.register_fake(_name, _fake)
