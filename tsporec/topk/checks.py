"""Checks of the top-k operation's input, shared by all implementations so that all refuse the same input.

Every function raises a ValueError that names the array, what was found and what was expected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

INT32_MAX = 2**31 - 1
# One set for the types of numpy and torch: comparing their names would take a tenth of a small batch's time.
FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float16), torch.float32, torch.float16, torch.bfloat16})
INT32 = frozenset({np.dtype(np.int32), torch.int32})
BOOL = frozenset({np.dtype(np.bool_), torch.bool})


def check_inputs(scores: Any, cu_seqlens: Any, k: Any, protected: Any = None, forbidden: Any = None) -> None:
    """Check shapes, dtypes and devices of arrays or tensors; offsets are checked by :func:`segment_lengths`."""
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
    segments = cu_seqlens.shape[0] - 1
    expected = (
        ("cu_seqlens", cu_seqlens, segments + 1, INT32, "int32"),
        ("k", k, segments, INT32, "int32"),
        ("protected", protected, scores.shape[0], BOOL, "bool"),
        ("forbidden", forbidden, scores.shape[0], BOOL, "bool"),
    )
    for name, array, length, dtypes, dtype in expected:
        if array is None:
            continue
        if array.ndim != 1 or array.shape[0] != length:
            raise ValueError(
                f"{name} has shape {tuple(array.shape)}, expected ({length},): one budget a segment, one flag a token"
            )
        if array.dtype not in dtypes:
            raise ValueError(f"{name} is {array.dtype}, expected {dtype}: convert it")
        if isinstance(array, torch.Tensor) and array.device != scores.device:
            raise ValueError(
                f"{name} is on {array.device}, expected the device of scores, {scores.device}: move it with .to()"
            )


def check_count(name: str, value: Any) -> None:
    """Check that ``value`` is a whole number of tokens."""
    kinds = (int, np.integer, torch.SymInt)  # torch 2.6 compiles no union of types
    whole = isinstance(value, kinds) and not isinstance(value, bool)
    if not whole or not 0 <= value <= INT32_MAX:
        raise ValueError(f"{name} is {value!r}, expected a whole number of tokens from 0 to {INT32_MAX}")


def check_payloads(payloads: Sequence[torch.Tensor], tokens: int) -> None:
    """Check that the first axis of every payload is the tokens of the scores."""
    for i, payload in enumerate(payloads):
        if payload.ndim < 1 or payload.shape[0] != tokens:
            raise ValueError(
                f"payload {i} has shape {tuple(payload.shape)}, expected one row for each of the {tokens} tokens of "
                "scores"
            )


def segment_lengths(cu_seqlens: NDArray[np.int32], tokens: int) -> NDArray[np.int32]:
    """Compute the length of each segment, int32 [N]. Offsets must start at 0, never fall and end at ``tokens``."""
    if int(cu_seqlens[0]) != 0 or int(cu_seqlens[-1]) != tokens:
        raise ValueError(
            f"cu_seqlens runs from {cu_seqlens[0]} to {cu_seqlens[-1]}, expected 0 to {tokens}, the tokens of scores"
        )
    starts, ends = cu_seqlens[:-1], cu_seqlens[1:]
    if (ends < starts).any():
        at = int((ends < starts).argmax())
        raise ValueError(
            f"cu_seqlens falls from {starts[at]} to {ends[at]} at segment {at}, expected offsets that "
            "never fall: build them as the running sum of the segments' lengths"
        )
    return ends - starts
