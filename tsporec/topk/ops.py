"""The top-k operation as torch operators: torch dispatches them by device and compiles through them.

They are defined by schema. The `custom_op` decorator adds checks to each call, and a small batch takes only tens of
microseconds. An implementation below gets the tensors in the schema's order; absent masks at the end are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsporec.topk import cpu, cuda
from tsporec.topk.checks import check_inputs

_INPUTS = "Tensor scores, Tensor cu_seqlens, Tensor k, Tensor? protected=None, Tensor? forbidden=None"


def _array(tensor: Tensor | None) -> np.ndarray | None:
    """View a tensor as a numpy array. numpy has no bfloat16; as float32 it has the same order."""
    if tensor is None:
        return None
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()


def _select_cpu(*inputs: Tensor | None) -> tuple[Tensor, Tensor]:
    kept, new_cu = cpu.select(*map(_array, inputs))  # type: ignore[arg-type]
    return torch.from_numpy(kept), torch.from_numpy(new_cu)


def _mask_cpu(scores: Tensor, *others: Tensor | None) -> Tensor:
    kept, _ = _select_cpu(scores, *others)
    return torch.zeros(scores.shape, dtype=torch.bool).index_fill_(0, kept, True)


def _select_fake(scores: Tensor, cu_seqlens: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    check_inputs(scores, cu_seqlens, *others)
    kept = torch.library.get_ctx().new_dynamic_size()
    return scores.new_empty([kept], dtype=torch.int64), cu_seqlens.new_empty(cu_seqlens.shape)


def _mask_fake(scores: Tensor, *others: Any) -> Tensor:
    check_inputs(scores, *others)
    return scores.new_empty(scores.shape, dtype=torch.bool)


torch.library.define("tsporec::topk_mask", f"({_INPUTS}) -> Tensor")
torch.library.define("tsporec::topk_select", f"({_INPUTS}) -> (Tensor, Tensor)", tags=(torch.Tag.dynamic_output_shape,))
for _name, _on_cpu, _on_gpu, _fake in (
    ("tsporec::topk_mask", _mask_cpu, cuda.mask, _mask_fake),
    ("tsporec::topk_select", _select_cpu, cuda.select, _select_fake),
):
    torch.library.impl(_name, "cpu", _on_cpu)
    torch.library.impl(_name, "cuda", _on_gpu)
    torch.library.register_fake(_name, _fake)
