"""Top-k of every segment on a GPU, by the kernels of `topk.cu`, or by the torch reference if those cannot be built.

1. `topk_plan` counts how many tokens each segment keeps, and lists the long segments.
2. A running sum of the counts gives the new offsets. Reading their total is the one synchronisation: the result cannot
   be allocated without it. The mask needs none.
3. `topk_warp` (short segments) and `topk_block` (long ones) select, compact and gather in one pass.
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

WARPS = BLOCK_THREADS // 32
WARP_TOKENS = 256  # as in topk.cu
SHARED_WORDS = 256 + 4 + 64  # shared memory of a block before its cached keys, as in topk.cu
UNKNOWN_CACHE_TOKENS = 8192  # keys to cache if the host does not know the longest length
KERNEL_PAYLOADS = 4
INFINITY = {torch.float32: 0x7F800000, torch.float16: 0x7C00, torch.bfloat16: 0x7F80}


class _Inputs(NamedTuple):
    """The checked, contiguous input of one call."""

    scores: Tensor
    offsets: Tensor
    k: Tensor
    protected: Tensor | None
    forbidden: Tensor | None


class _Plan(NamedTuple):
    """The arrays that `topk_plan` writes."""

    counts: Tensor  # int32 [N + 1]: a 0, then the number of tokens that each segment keeps
    long_segments: Tensor  # int32 [N]
    status: Tensor  # int32 [3]: number of long segments, 1 if the offsets are wrong, longest length


class _Output(NamedTuple):
    """The arrays that the selection writes; None or empty for those not wanted."""

    new_offsets: Tensor | None = None
    kept: Tensor | None = None
    mask: Tensor | None = None
    sources: Sequence[Tensor] = ()
    targets: Sequence[Tensor] = ()


def mask(
    scores: Tensor, cu_seqlens: Tensor, k: Tensor, protected: Tensor | None = None, forbidden: Tensor | None = None
) -> Tensor:
    """Mark the best k tokens of each segment like `reference.mask`, without a synchronisation."""
    inputs = _checked(scores, cu_seqlens, k, protected, forbidden)
    module = kernel_module(scores.device)
    if module is None:
        return reference.mask(*inputs)
    marked = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    if len(k) == 0 or len(scores) == 0:
        return marked
    plan = _plan(module, inputs)
    long_count = len(k) if len(scores) > WARP_TOKENS else 0
    _run(module, inputs, plan, _Output(mask=marked), long_count, UNKNOWN_CACHE_TOKENS, all_long=False)
    return marked


def select(
    scores: Tensor, cu_seqlens: Tensor, k: Tensor, protected: Tensor | None = None, forbidden: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Find the best k tokens of each segment like `reference.select`."""
    inputs = _checked(scores, cu_seqlens, k, protected, forbidden)
    module = kernel_module(scores.device)
    if module is None:
        return reference.select(*inputs)
    _, kept, new_cu = _select(module, inputs, (), positions=True)
    return kept, new_cu


def gather(
    scores: Tensor,
    cu_seqlens: Tensor,
    k: Tensor,
    payloads: Sequence[Tensor],
    protected: Tensor | None = None,
    forbidden: Tensor | None = None,
) -> list[Tensor]:
    """Cut every payload to the kept tokens like `reference.gather`.

    The kernel gathers up to four payloads of 1, 2, 4 or 8 bytes a token. Others are indexed afterwards.
    """
    inputs = _checked(scores, cu_seqlens, k, protected, forbidden)
    check_payloads(payloads, len(scores))
    module = kernel_module(scores.device)
    if module is None:
        return reference.gather(*inputs[:3], payloads, *inputs[3:])
    taken = [i for i, payload in enumerate(payloads) if _fits_kernel(payload)][:KERNEL_PAYLOADS]
    rest = [i for i in range(len(payloads)) if i not in taken]
    cut, kept, new_cu = _select(module, inputs, [payloads[i] for i in taken], positions=bool(rest) or not taken)
    out = dict(zip(taken, cut, strict=True))
    out.update((i, payloads[i].index_select(0, kept)) for i in rest)
    return [*(out[i] for i in range(len(payloads))), new_cu]


def _checked(
    scores: Tensor, cu_seqlens: Tensor, k: Tensor, protected: Tensor | None, forbidden: Tensor | None
) -> _Inputs:
    """Check the input and make it contiguous."""
    check_inputs(scores, cu_seqlens, k, protected, forbidden)
    flags = (None if mask is None else mask.contiguous() for mask in (protected, forbidden))
    return _Inputs(scores.detach().contiguous(), cu_seqlens.contiguous(), k.contiguous(), *flags)


def _select(
    module: KernelModule, inputs: _Inputs, payloads: Sequence[Tensor], positions: bool
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Run the kernels: (payloads cut, kept positions or an empty tensor, new offsets)."""
    scores, segments = inputs.scores, len(inputs.k)
    if segments == 0:
        total, long_count, wrong, longest = 0, 0, int(len(scores) > 0), 0
        new_cu = torch.zeros_like(inputs.offsets)
    else:
        plan = _plan(module, inputs)
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
        _run(module, inputs, plan, output, long_count, longest, all_long=long_count == segments)
    return cut, kept, new_cu


def _plan(module: KernelModule, inputs: _Inputs) -> _Plan:
    segments, device = len(inputs.k), inputs.k.device
    zeros = torch.zeros(segments + 4, dtype=torch.int32, device=device)
    plan = _Plan(zeros[: segments + 1], torch.empty(segments, dtype=torch.int32, device=device), zeros[segments + 1 :])
    given, sizes = (inputs.offsets, inputs.k), (np.int32(segments), np.int32(len(inputs.scores)))
    if inputs.protected is None and inputs.forbidden is None:
        arguments = (*map(_pointer, given), *sizes, *map(_pointer, plan))
        module.launch("topk_plan", -(-segments // BLOCK_THREADS), arguments)
    else:
        masks = (inputs.protected, inputs.forbidden)
        arguments = (*map(_pointer, (*given, *masks)), *sizes, *map(_pointer, plan))
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
    """Launch the selection: for short segments unless all are long, for long segments if there may be any."""
    segments, item = len(inputs.k), inputs.scores.element_size()
    payloads: list[int | np.int32] = []
    for source, target in zip(output.sources, output.targets, strict=True):
        payloads += [_pointer(source), _pointer(target), np.int32(_row_bytes(source))]
    payloads += [0, 0, np.int32(0)] * (KERNEL_PAYLOADS - len(output.sources))
    arguments = (
        _pointer(inputs.scores),
        np.uint32(INFINITY[inputs.scores.dtype]),
        *map(_pointer, (inputs.protected, inputs.forbidden, inputs.offsets, plan.counts)),
        np.int32(segments),
        np.int32(len(inputs.scores)),
        *map(_pointer, (output.new_offsets, output.kept, output.mask)),
        *payloads,
    )
    if not all_long:
        module.launch(f"topk_warp_{8 * item}", -(-segments // WARPS), arguments)
    if long_count:
        cached = longest if 4 * SHARED_WORDS + longest * item <= module.shared_limit else 0
        module.launch(
            f"topk_block_{8 * item}",
            min(long_count, 8 * module.processors),
            (*arguments, *map(_pointer, (plan.long_segments, plan.status)), np.int32(cached)),
            4 * SHARED_WORDS + cached * item,
        )


def _fits_kernel(payload: Tensor) -> bool:
    size = _row_bytes(payload)
    return size in (1, 2, 4, 8) and payload.is_contiguous() and payload.data_ptr() % size == 0


def _row_bytes(payload: Tensor) -> int:
    return payload.element_size() * payload.shape[1:].numel()


def _pointer(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()
