"""Packed token sequences of unequal length.

Items have texts of very different length. Padding them wastes most of the work, so everything below the
collator handles them packed: one array of ids and the offsets of the segments in it, the layout of
FlashAttention's varlen API.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

IntArray = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class RaggedTokens:
    """N segments of token ids, packed.

    Parameters
    ----------
    ids : int32 ``[T]``
        The token ids of all segments, one segment after the other.
    cu_seqlens : int32 ``[N + 1]``
        Segment ``i`` is ``ids[cu_seqlens[i]:cu_seqlens[i + 1]]``; starts at 0, never falls, ends at T.

    Raises
    ------
    ValueError
        If the arrays are not integers of one dimension or the offsets do not describe ``ids``.

    Examples
    --------
    >>> tokens = RaggedTokens.from_lists([[5, 6, 7], [], [8]])
    >>> tokens.cu_seqlens.tolist(), tokens[0].tolist(), len(tokens)
    ([0, 3, 3, 4], [5, 6, 7], 3)
    """

    ids: IntArray
    cu_seqlens: IntArray

    def __post_init__(self) -> None:
        for name in ("ids", "cu_seqlens"):
            object.__setattr__(self, name, _as_int32(getattr(self, name), name))
        cu = self.cu_seqlens
        if len(cu) == 0 or cu[0] != 0 or cu[-1] != len(self.ids) or (np.diff(cu) < 0).any():
            raise ValueError(
                f"cu_seqlens must start at 0, never fall and end at the {len(self.ids)} ids; "
                f"found {_preview(cu)}. Build it with RaggedTokens.from_lists or from_padded."
            )

    @classmethod
    def from_lists(cls, sequences: Iterable[Sequence[int] | NDArray[np.integer]]) -> RaggedTokens:
        """Pack lists (or arrays) of ids; an empty list is an empty segment."""
        lists = list(sequences)
        lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
        total = int(lengths.sum())
        ids = np.fromiter(chain.from_iterable(lists), dtype=np.int64, count=total)
        return cls(_as_int32(ids, "ids"), lengths_to_offsets(lengths))

    @classmethod
    def from_padded(cls, ids: ArrayLike, attention_mask: ArrayLike) -> RaggedTokens:
        """Pack ``ids [N, L]``, keeping the positions where ``attention_mask [N, L]`` is not 0."""
        padded, mask = np.asarray(ids), np.asarray(attention_mask) != 0
        if padded.ndim != 2 or padded.shape != mask.shape:
            raise ValueError(f"ids and attention_mask must both be [N, L]; found {padded.shape} and {mask.shape}.")
        return cls(padded[mask], lengths_to_offsets(mask.sum(axis=1)))

    def __len__(self) -> int:
        return len(self.cu_seqlens) - 1

    def __getitem__(self, index: int) -> IntArray:
        """The ids of one segment, a view."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"segment {index} of {len(self)}")
        index %= len(self)
        return self.ids[self.cu_seqlens[index] : self.cu_seqlens[index + 1]]

    def __iter__(self) -> Iterator[IntArray]:
        return (self[i] for i in range(len(self)))

    @property
    def num_tokens(self) -> int:
        """T, the number of tokens in all segments."""
        return len(self.ids)

    @property
    def lengths(self) -> IntArray:
        """int32 ``[N]``: tokens in each segment."""
        return np.diff(self.cu_seqlens)

    def segment_ids(self) -> NDArray[np.int64]:
        """int64 ``[T]``: the segment each token belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def offsets(self) -> IntArray:
        """int32 ``[T]``: each token's place within its segment, from 0."""
        starts = np.repeat(self.cu_seqlens[:-1], self.lengths)
        return np.arange(self.num_tokens, dtype=np.int32) - starts

    def take(self, segments: ArrayLike) -> RaggedTokens:
        """The segments named by ``segments [M]``, in that order; repeats are allowed."""
        chosen = np.asarray(segments, dtype=np.int64).reshape(-1)
        cu = lengths_to_offsets(self.lengths[chosen])
        return RaggedTokens(self.ids[ranges(self.cu_seqlens[:-1][chosen], np.diff(cu))], cu)

    def keep(self, kept: NDArray[np.int64], cu_seqlens: IntArray) -> RaggedTokens:
        """The tokens at positions ``kept [K]`` of ``ids``, split by the new ``cu_seqlens [N + 1]``."""
        return RaggedTokens(self.ids[kept], cu_seqlens)

    def to_lists(self) -> list[list[int]]:
        """A list of ids for every segment."""
        flat, cu = self.ids.tolist(), self.cu_seqlens.tolist()
        return [flat[start:end] for start, end in pairwise(cu)]

    def to_padded(self, pad_id: int = 0, side: str = "right") -> tuple[IntArray, NDArray[np.int64]]:
        """``(ids int32 [N, L_max], attention_mask int64 [N, L_max])``; padding on the ``side`` given."""
        if side not in ("left", "right"):
            raise ValueError(f"side must be 'left' or 'right', found {side!r}.")
        width = int(self.lengths.max(initial=0))
        places = np.arange(width)
        mask = (places < self.lengths[:, None]) if side == "right" else (places >= width - self.lengths[:, None])
        padded = np.full((len(self), width), pad_id, dtype=np.int32)
        padded[mask] = self.ids
        return padded, mask.astype(np.int64)


def lengths_to_offsets(lengths: ArrayLike) -> IntArray:
    """int32 ``[N + 1]`` offsets of segments with these ``lengths [N]``; refuses totals beyond int32."""
    cu = np.zeros(np.asarray(lengths).shape[0] + 1, dtype=np.int64)
    np.cumsum(lengths, out=cu[1:])
    return _as_int32(cu, "cu_seqlens")


def ranges(starts: ArrayLike, lengths: ArrayLike) -> NDArray[np.int64]:
    """``start, start + 1, …`` of each run of ``lengths [M]`` from ``starts [M]``, one run after the other.

    >>> ranges([10, 0], [2, 3]).tolist()
    [10, 11, 0, 1, 2]
    """
    counts = np.asarray(lengths, dtype=np.int64)
    ends = np.cumsum(counts)
    shift = np.repeat(np.asarray(starts, dtype=np.int64) - (ends - counts), counts)
    places: NDArray[np.int64] = np.arange(len(shift)) + shift
    return places


def _as_int32(values: ArrayLike, name: str) -> IntArray:
    array = np.asarray(values)
    if array.size == 0 and array.ndim == 1:
        return np.zeros(0, dtype=np.int32)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name} must be a one-dimensional array of integers; found {array.dtype} {array.shape}.")
    if array.dtype == np.int32:
        return array
    low, high = int(array.min()), int(array.max())
    if low < -(2**31) or high >= 2**31:
        raise ValueError(f"{name} must fit into int32; found values from {low} to {high}. Use smaller batches.")
    return array.astype(np.int32)


def _preview(array: IntArray) -> str:
    return f"{array.tolist()}" if len(array) <= 8 else f"{array[:4].tolist()[:-1]} … {array[-2:].tolist()}"
