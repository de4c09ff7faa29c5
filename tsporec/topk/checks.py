"""Checks of the top-k operation's input, shared by all implementations so that all refuse the same input.

Every function raises a ValueError that names the array, what was found and what was expected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

INT32_MAX = 2**31 - 1
# One set for the types of numpy and torch: comparing their names would take a tenth of a small batch's time.
FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float16), torch.float32, torch.float16, torch.bfloat16})
INT32 = frozenset({np.dtype(np.int32), torch.int32})
BOOL = frozenset({np.dtype(np.bool_), torch.bool})


def check_arrays(scores: Any, cu_seqlens: Any, protected: Any = None, forbidden: Any = None) -> None:
    """Check shapes and dtypes of arrays or tensors."""
    if scores.ndim != 1:
        raise ValueError(f"scores has shape {tuple(scores.shape)}, expected one axis [T]: pack the segments first")
    if scores.dtype not in FLOATS:
        raise ValueError(f"scores is {scores.dtype}, expected a float of 32 or 16 bits: convert it to float32")
    if len(scores) > INT32_MAX:
        raise ValueError(
            f"scores has {len(scores)} tokens, more than int32 offsets can address ({INT32_MAX}): "
            "select in several calls of whole segments"
        )
    if cu_seqlens.ndim != 1 or len(cu_seqlens) < 1:
        raise ValueError(
            f"cu_seqlens has shape {tuple(cu_seqlens.shape)}, expected offsets [N+1]: just [0] for no segments"
        )
    if cu_seqlens.dtype not in INT32:
        raise ValueError(f"cu_seqlens is {cu_seqlens.dtype}, expected int32: convert it")
    for name, flags in (("protected", protected), ("forbidden", forbidden)):
        if flags is None:
            continue
        if flags.shape != scores.shape:
            raise ValueError(f"{name} has shape {tuple(flags.shape)}, expected that of scores, {tuple(scores.shape)}")
        if flags.dtype not in BOOL:
            raise ValueError(f"{name} is {flags.dtype}, expected bool: convert it")


def check_count(name: str, value: Any) -> None:
    """Check that ``value`` is a whole number of tokens."""
    if not isinstance(value, int | np.integer | torch.SymInt) or not 0 <= value <= INT32_MAX:
        raise ValueError(f"{name} is {value!r}, expected a whole number of tokens from 0 to {INT32_MAX}")


def check_budgets(k: Any, segments: int) -> None:
    """Check that an array or tensor of budgets is int32 [N]."""
    if k.ndim != 1 or len(k) != segments:
        raise ValueError(
            f"k has shape {tuple(k.shape)}, expected one budget for each of the {segments} segments, [{segments}]"
        )
    if k.dtype not in INT32:
        raise ValueError(f"k is {k.dtype}, expected int32: convert it")


def check_payloads(payloads: Sequence[Any], tokens: int) -> None:
    """Check that the first axis of every payload is the tokens of the scores."""
    for i, payload in enumerate(payloads):
        if payload.ndim < 1 or payload.shape[0] != tokens:
            raise ValueError(
                f"payload {i} has shape {tuple(payload.shape)}, expected one row for each of the {tokens} tokens of "
                "scores"
            )


def check_inputs(
    scores: Tensor, cu_seqlens: Tensor, k: Tensor, protected: Tensor | None = None, forbidden: Tensor | None = None
) -> None:
    """Check shapes, dtypes and devices of tensors."""
    check_arrays(scores, cu_seqlens, protected, forbidden)
    check_budgets(k, cu_seqlens.shape[0] - 1)
    others = {"cu_seqlens": cu_seqlens, "k": k, "protected": protected, "forbidden": forbidden}
    for name, other in others.items():
        if other is not None and other.device != scores.device:
            raise ValueError(
                f"{name} is on {other.device}, expected the device of scores, {scores.device}: move it with .to()"
            )


def segment_lengths(cu_seqlens: NDArray[np.int32], tokens: int) -> NDArray[np.int32]:
    """Compute the length of each segment, int32 [N]. Offsets must start at 0, never fall and end at ``tokens``."""
    if int(cu_seqlens[0]) != 0 or int(cu_seqlens[-1]) != tokens:
        raise ValueError(
            f"cu_seqlens runs from {cu_seqlens[0]} to {cu_seqlens[-1]}, expected 0 to {tokens}, the tokens of scores"
        )
    starts, ends = cu_seqlens[:-1], cu_seqlens[1:]
    if np.logical_or.reduce(ends < starts):
        at = int((ends < starts).argmax())
        raise ValueError(
            f"cu_seqlens falls from {starts[at]} to {ends[at]} at segment {at}, expected offsets that "
            "never fall: build them as the running sum of the segments' lengths"
        )
    return ends - starts


def segment_budgets(k: NDArray[np.int32] | int, segments: int) -> NDArray[np.int32]:
    """Turn one whole number, or an int32 array [N], into int32 budgets [N].

    Negative budgets in an array are not refused: they count as 0. On a GPU a check would cost a synchronisation.
    """
    if isinstance(k, np.ndarray):
        check_budgets(k, segments)
        return k
    check_count("k", k)
    return np.full(segments, k, np.int32)
