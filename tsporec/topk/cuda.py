"""Top-k of every segment on a GPU, by the kernels of `topk.cu`; the torch reference where those cannot be built.

A call plans first (how many tokens each segment keeps, which segments are long), sums the counts to the new offsets,
reads their total (the one synchronisation, without which the result could not be allocated; the mask needs none), and
then selects, compacts and gathers in one pass: a warp for each short segment, a block for each long one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tsporec.topk import reference
from tsporec.topk.checks import check_inputs, check_payloads
from tsporec.topk.device import BLOCK_THREADS, KernelModule, kernel_module

__all__ = ["gather", "mask", "select"]

WARPS = BLOCK_THREADS // 32
WARP_TOKENS = 256  # as in topk.cu
SHARED_WORDS = 256 + 4 + 64  # of a block before its cached keys, as in topk.cu
UNKNOWN_CACHE_TOKENS = 8192  # cached where the longest length is not known on the host
KERNEL_PAYLOADS = 4
INFINITY = {torch.float32: 0x7F800000, torch.float16: 0x7C00, torch.bfloat16: 0x7F80}


class _Inputs(NamedTuple):
    scores: Tensor
    offsets: Tensor
    protected: Tensor | None
    forbidden: Tensor | None


class _Plan(NamedTuple):
    counts: Tensor  # int32 [N + 1]: a 0, then what each segment keeps
    long_segments: Tensor  # int32 [N]
    status: Tensor  # int32 [3]: long segments, whether the offsets are wrong, longest length


class _Output(NamedTuple):
    new_offsets: Tensor | None = None
    kept: Tensor | None = None
    mask: Tensor | None = None
    sources: Sequence[Tensor] = ()
    targets: Sequence[Tensor] = ()


def mask(
    scores: Tensor,
    cu_seqlens: Tensor,
    k: Tensor,
    protected: Tensor | None = None,
    forbidden: Tensor | None = None,
) -> Tensor:
    """Mark the best k tokens of each segment, as `reference.mask`, without synchronising."""
    check_inputs(scores, cu_seqlens, k, protected, forbidden)
    module = kernel_module(scores.device)
    if module is None:
        return reference.mask(scores, cu_seqlens, k, protected, forbidden)
    marked = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    if len(k) == 0 or len(scores) == 0:
        return marked
    inputs = _contiguous(scores, cu_seqlens, protected, forbidden)
    plan = _plan(module, inputs, k)
    long_count = len(k) if len(scores) > WARP_TOKENS else 0
    _run(module, inputs, plan, _Output(mask=marked), long_count, UNKNOWN_CACHE_TOKENS, all_long=False)
    return marked


def select(
    scores: Tensor,
    cu_seqlens: Tensor,
    k: Tensor,
    protected: Tensor | None = None,
    forbidden: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Find the best k tokens of each segment, as `reference.select`."""
    module = kernel_module(scores.device)
    if module is None:
        check_inputs(scores, cu_seqlens, k, protected, forbidden)
        return reference.select(scores, cu_seqlens, k, protected, forbidden)
    _, kept, new_cu = _select(module, scores, cu_seqlens, k, (), protected, forbidden, positions=True)
    return kept, new_cu


def gather(
    scores: Tensor,
    cu_seqlens: Tensor,
    k: Tensor,
    payloads: Sequence[Tensor],
    protected: Tensor | None = None,
    forbidden: Tensor | None = None,
) -> list[Tensor]:
    """Cut every payload to the kept tokens, as `reference.gather`.

    The kernel takes up to four payloads of 1, 2, 4 or 8 bytes a token along; others are indexed afterwards.
    """
    module = kernel_module(scores.device)
    if module is None:
        check_inputs(scores, cu_seqlens, k, protected, forbidden)
        check_payloads(payloads, len(scores))
        return reference.gather(scores, cu_seqlens, k, payloads, protected, forbidden)
    check_payloads(payloads, len(scores))
    taken = [i for i, payload in enumerate(payloads) if _fits_kernel(payload)][:KERNEL_PAYLOADS]
    rest = [i for i in range(len(payloads)) if i not in taken]
    sources = [payloads[i] for i in taken]
    cut, kept, new_cu = _select(
        module, scores, cu_seqlens, k, sources, protected, forbidden, positions=bool(rest) or not taken
    )
    out = dict(zip(taken, cut, strict=True))
    out.update((i, payloads[i].index_select(0, kept)) for i in rest)
    return [*(out[i] for i in range(len(payloads))), new_cu]


def _select(
    module: KernelModule,
    scores: Tensor,
    cu_seqlens: Tensor,
    k: Tensor,
    payloads: Sequence[Tensor],
    protected: Tensor | None,
    forbidden: Tensor | None,
    positions: bool,
) -> tuple[list[Tensor], Tensor, Tensor]:
    """(payloads cut, kept positions or an empty tensor, new offsets)."""
    check_inputs(scores, cu_seqlens, k, protected, forbidden)
    inputs = _contiguous(scores, cu_seqlens, protected, forbidden)
    if len(k) == 0:
        total, long_count, wrong, longest = 0, 0, int(len(scores) > 0), 0
        new_cu = torch.zeros_like(inputs.offsets)
    else:
        plan = _plan(module, inputs, k)
        new_cu = plan.counts.cumsum(0, dtype=torch.int32)
        total, long_count, wrong, longest = torch.cat([new_cu[-1:], plan.status]).tolist()
    if wrong:
        raise ValueError(
            f"cu_seqlens does not run from 0 to the {len(scores)} tokens of scores without falling: build it as the "
            "running sum of the segments' lengths"
        )
    kept = torch.empty(total if positions else 0, dtype=torch.int64, device=scores.device)
    cut = [payload.new_empty((total, *payload.shape[1:])) for payload in payloads]
    if total:
        output = _Output(new_cu, kept if positions else None, None, [p.detach() for p in payloads], cut)
        _run(module, inputs, plan, output, long_count, longest, all_long=long_count == len(k))
    return cut, kept, new_cu


def _contiguous(scores: Tensor, cu_seqlens: Tensor, protected: Tensor | None, forbidden: Tensor | None) -> _Inputs:
    return _Inputs(
        scores.detach().contiguous(),
        cu_seqlens.contiguous(),
        None if protected is None else protected.contiguous(),
        None if forbidden is None else forbidden.contiguous(),
    )


def _plan(module: KernelModule, inputs: _Inputs, k: Tensor) -> _Plan:
    segments, device = len(k), k.device
    zeros = torch.zeros(segments + 4, dtype=torch.int32, device=device)
    plan = _Plan(zeros[: segments + 1], torch.empty(segments, dtype=torch.int32, device=device), zeros[segments + 1 :])
    k = k.contiguous()
    sizes = (np.int32(segments), np.int32(len(inputs.scores)))
    outputs = tuple(map(_pointer, plan))
    if inputs.protected is None and inputs.forbidden is None:
        arguments = (_pointer(inputs.offsets), _pointer(k), *sizes, *outputs)
        module.launch("topk_plan", -(-segments // BLOCK_THREADS), arguments)
    else:
        masks = (_pointer(inputs.protected), _pointer(inputs.forbidden))
        arguments = (_pointer(inputs.offsets), _pointer(k), *masks, *sizes, *outputs)
        module.launch("topk_plan_masked", -(-segments // WARPS), arguments)
    return plan


def _run(
    module: KernelModule,
    inputs: _Inputs,
    plan: _Plan,
    output: _Output,
    long_count: int,
    longest: int,
    all_long: bool,
) -> None:
    """Launch the selection for short segments, unless all are long, and for long ones, where there may be any."""
    segments = len(plan.long_segments)
    item = inputs.scores.element_size()
    payloads: list[int | np.int32] = []
    for source, target in zip(output.sources, output.targets, strict=True):
        payloads += [_pointer(source), _pointer(target), np.int32(_row_bytes(source))]
    payloads += [0, 0, np.int32(0)] * (KERNEL_PAYLOADS - len(output.sources))
    arguments = (
        _pointer(inputs.scores),
        np.uint32(INFINITY[inputs.scores.dtype]),
        _pointer(inputs.protected),
        _pointer(inputs.forbidden),
        _pointer(inputs.offsets),
        _pointer(plan.counts),
        np.int32(segments),
        np.int32(len(inputs.scores)),
        _pointer(output.new_offsets),
        _pointer(output.kept),
        _pointer(output.mask),
        *payloads,
    )
    if not all_long:
        module.launch(f"topk_warp_{8 * item}", -(-segments // WARPS), arguments)
    if long_count:
        cached = longest if 4 * SHARED_WORDS + longest * item <= module.shared_limit else 0
        long_arguments = (_pointer(plan.long_segments), _pointer(plan.status), np.int32(cached))
        module.launch(
            f"topk_block_{8 * item}",
            min(long_count, 8 * module.processors),
            arguments + long_arguments,
            4 * SHARED_WORDS + cached * item,
        )


def _fits_kernel(payload: Tensor) -> bool:
    size = _row_bytes(payload)
    return size in (1, 2, 4, 8) and payload.is_contiguous() and payload.data_ptr() % size == 0


def _row_bytes(payload: Tensor) -> int:
    return payload.element_size() * payload.shape[1:].numel()


def _pointer(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()
