"""The top-k operation as torch operators: torch dispatches them by device and compiles through them.

They are defined by schema. The `custom_op` decorator adds checks to each call, and a small batch takes only tens of
microseconds. An implementation below gets the tensors in the schema's order; absent masks at the end are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsporec.topk import cpu, cuda
from tsporec.topk.checks import check_inputs, check_payloads

_INPUTS, _MASKS = "Tensor scores, Tensor cu_seqlens, Tensor k", "Tensor? protected=None, Tensor? forbidden=None"
_DYNAMIC = (torch.Tag.dynamic_output_shape,)
torch.library.define("tsporec::topk_mask", f"({_INPUTS}, {_MASKS}) -> Tensor")
torch.library.define("tsporec::topk_select", f"({_INPUTS}, {_MASKS}) -> (Tensor, Tensor)", tags=_DYNAMIC)
torch.library.define("tsporec::topk_gather", f"({_INPUTS}, Tensor[] payloads, {_MASKS}) -> Tensor[]", tags=_DYNAMIC)


def _arrays(scores: Tensor, *others: Tensor | None) -> list[Any]:
    """View tensors as numpy arrays; None stays None."""
    # numpy has no bfloat16. Every bfloat16 is a float32, so the order is the same.
    values = scores.float() if scores.dtype == torch.bfloat16 else scores
    return [None if tensor is None else _array(tensor) for tensor in (values, *others)]


def _array(tensor: Tensor) -> np.ndarray:
    return (tensor.detach() if tensor.requires_grad else tensor).numpy()


def _mask_cpu(*inputs: Any) -> Tensor:
    return torch.from_numpy(cpu.mask(*_arrays(*inputs)))


def _select_cpu(*inputs: Any) -> tuple[Tensor, Tensor]:
    kept, new_cu = cpu.select(*_arrays(*inputs))
    return torch.from_numpy(kept), torch.from_numpy(new_cu)


def _gather_cpu(scores: Tensor, cu_seqlens: Tensor, k: Tensor, payloads: Sequence[Tensor], *masks: Any) -> list[Tensor]:
    check_payloads(payloads, len(scores))
    kept, new_cu = _select_cpu(scores, cu_seqlens, k, *masks)
    return [*(payload.index_select(0, kept) for payload in payloads), new_cu]


def _mask_fake(scores: Tensor, *others: Any) -> Tensor:
    check_inputs(scores, *others)
    return scores.new_empty(scores.shape, dtype=torch.bool)


def _select_fake(scores: Tensor, cu_seqlens: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    check_inputs(scores, cu_seqlens, *others)
    kept = torch.library.get_ctx().new_dynamic_size()
    return scores.new_empty([kept], dtype=torch.int64), cu_seqlens.new_empty(cu_seqlens.shape)


def _gather_fake(
    scores: Tensor, cu_seqlens: Tensor, k: Tensor, payloads: Sequence[Tensor], *masks: Any
) -> list[Tensor]:
    check_payloads(payloads, scores.shape[0])
    kept, new_cu = _select_fake(scores, cu_seqlens, k, *masks)
    return [*(payload.new_empty([kept.shape[0], *payload.shape[1:]]) for payload in payloads), new_cu]


for _name, _on_cpu, _on_gpu, _fake in (
    ("tsporec::topk_mask", _mask_cpu, cuda.mask, _mask_fake),
    ("tsporec::topk_select", _select_cpu, cuda.select, _select_fake),
    ("tsporec::topk_gather", _gather_cpu, cuda.gather, _gather_fake),
):
    torch.library.impl(_name, "cpu", _on_cpu)
    torch.library.impl(_name, "cuda", _on_gpu)
    torch.library.register_fake(_name, _fake)
