"""Top-k of every segment on a GPU, by the kernels of `topk.cu`, or by the torch reference if those cannot be built.

1. `topk_plan` counts how many tokens each segment keeps, and lists the long segments.
2. A running sum of the counts gives the new offsets. Reading their total is the one synchronisation: the result cannot
   be allocated without it. The mask needs none.
3. `topk_warp` (short segments) and `topk_block` (long ones) select and compact in one pass.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tsporec.topk import reference
from tsporec.topk.checks import check_inputs
from tsporec.topk.kernels import BLOCK_THREADS, Kernels, kernels_on

WARPS = BLOCK_THREADS // 32
WARP_TOKENS = 256  # as in topk.cu
SHARED_WORDS = 256 + 4 + 64  # shared memory of a block before its cached keys, as in topk.cu
UNKNOWN_CACHE_TOKENS = 8192  # keys to cache if the host does not know the longest length
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


def mask(
    scores: Tensor, cu_seqlens: Tensor, k: Tensor, protected: Tensor | None = None, forbidden: Tensor | None = None
) -> Tensor:
    """Mark the best k tokens of each segment like `reference.mask`, without a synchronisation."""
    inputs = _checked(scores, cu_seqlens, k, protected, forbidden)
    kernels = kernels_on(scores.device)
    if kernels is None:
        return reference.mask(*inputs)
    marked = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    if len(k) and len(scores):
        plan, long_count = _plan(kernels, inputs), len(k) if len(scores) > WARP_TOKENS else 0
        _run(kernels, inputs, plan, (None, None, marked), long_count, UNKNOWN_CACHE_TOKENS)
    return marked


def select(
    scores: Tensor, cu_seqlens: Tensor, k: Tensor, protected: Tensor | None = None, forbidden: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Find the best k tokens of each segment like `reference.select`."""
    inputs = _checked(scores, cu_seqlens, k, protected, forbidden)
    kernels = kernels_on(scores.device)
    if kernels is None:
        return reference.select(*inputs)
    if len(k):
        plan = _plan(kernels, inputs)
        new_cu = plan.counts.cumsum(0, dtype=torch.int32)
        total, long_count, wrong, longest = torch.cat([new_cu[-1:], plan.status]).tolist()
    else:
        new_cu, total, wrong = torch.zeros_like(inputs.offsets), 0, len(scores) > 0
    if wrong:
        raise ValueError(
            f"cu_seqlens does not run from 0 to the {len(scores)} tokens of scores without falling: build it as the "
            "running sum of the segments' lengths"
        )
    kept = torch.empty(total, dtype=torch.int64, device=scores.device)
    if total:
        _run(kernels, inputs, plan, (new_cu, kept, None), long_count, longest, all_long=long_count == len(k))
    return kept, new_cu


def _checked(
    scores: Tensor, cu_seqlens: Tensor, k: Tensor, protected: Tensor | None, forbidden: Tensor | None
) -> _Inputs:
    """Check the input and make it contiguous."""
    check_inputs(scores, cu_seqlens, k, protected, forbidden)
    flags = (None if mask is None else mask.contiguous() for mask in (protected, forbidden))
    return _Inputs(scores.detach().contiguous(), cu_seqlens.contiguous(), k.contiguous(), *flags)


def _plan(kernels: Kernels, inputs: _Inputs) -> _Plan:
    segments, device = len(inputs.k), inputs.k.device
    zeros = torch.zeros(segments + 4, dtype=torch.int32, device=device)
    plan = _Plan(zeros[: segments + 1], torch.empty(segments, dtype=torch.int32, device=device), zeros[segments + 1 :])
    sizes, masks = (np.int32(segments), np.int32(len(inputs.scores))), (inputs.protected, inputs.forbidden)
    if inputs.protected is None and inputs.forbidden is None:
        kernels.launch("topk_plan", -(-segments // BLOCK_THREADS), (inputs.offsets, inputs.k, *sizes, *plan))
    else:
        arguments = (inputs.offsets, inputs.k, *masks, *sizes, *plan)
        kernels.launch("topk_plan_masked", -(-segments // WARPS), arguments)
    return plan


def _run(
    kernels: Kernels,
    inputs: _Inputs,
    plan: _Plan,
    output: tuple[Tensor | None, Tensor | None, Tensor | None],
    long_count: int,
    longest: int,
    all_long: bool = False,
) -> None:
    """Launch the selection: for short segments unless all are long, for long segments if there may be any.

    ``output`` has the new offsets, the kept positions and the mask; those that are not wanted are None.
    """
    scores, segments, item = inputs.scores, len(inputs.k), inputs.scores.element_size()
    infinity, sizes = np.uint32(INFINITY[scores.dtype]), (np.int32(segments), np.int32(len(scores)))
    masks = (inputs.protected, inputs.forbidden)
    arguments = (scores, infinity, *masks, inputs.offsets, plan.counts, *sizes, *output)
    if not all_long:
        kernels.launch(f"topk_warp_{8 * item}", -(-segments // WARPS), arguments)
    if long_count:
        cached = longest if 4 * SHARED_WORDS + longest * item <= kernels.shared_limit else 0
        kernels.launch(
            f"topk_block_{8 * item}",
            min(long_count, 8 * kernels.processors),
            (*arguments, plan.long_segments, plan.status, np.int32(cached)),
            4 * SHARED_WORDS + cached * item,
        )
