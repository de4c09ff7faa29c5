"""Packed token sequences of unequal length.

Texts have very different lengths, and padding them wastes most of the work. So everything below the collators uses one
array of ids and the offsets of the segments in it: the layout of FlashAttention's varlen API.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tsporec._internal.digest import short_digests

IntArray = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class RaggedTokens:
    """N segments of token ids, packed. Arrays that do not describe each other are a ValueError.

    Parameters
    ----------
    ids : int32 ``[T]``
        Token ids of all segments, one segment after the other.
    cu_seqlens : int32 ``[N + 1]``
        Offsets: segment ``i`` is ``ids[cu_seqlens[i]:cu_seqlens[i + 1]]``. They start at 0, never fall and end at T.
    items : uint64 ``[N]``, optional
        A digest of the id of each segment's item, 0 where it has none; see :meth:`with_items`.

    Examples
    --------
    >>> tokens = RaggedTokens.from_lists([[5, 6, 7], [], [8]])
    >>> tokens.cu_seqlens.tolist(), tokens[0].tolist(), len(tokens)
    ([0, 3, 3, 4], [5, 6, 7], 3)
    """

    ids: IntArray
    cu_seqlens: IntArray
    items: NDArray[np.uint64] | None = None

    def __post_init__(self) -> None:
        for name in ("ids", "cu_seqlens"):
            object.__setattr__(self, name, _as_int32(getattr(self, name), name))
        cu = self.cu_seqlens
        if len(cu) == 0 or cu[0] != 0 or cu[-1] != len(self.ids) or (np.diff(cu) < 0).any():
            raise ValueError(
                f"cu_seqlens must start at 0, never fall and end at the {len(self.ids)} ids; "
                f"found {_preview(cu)}. Build it with RaggedTokens.from_lists or from_padded."
            )
        if self.items is not None and len(self.items) != len(self):
            raise ValueError(f"expected an item id for each of {len(self)} segments; found {len(self.items)}.")

    @classmethod
    def from_lists(cls, sequences: Iterable[Sequence[int] | NDArray[np.integer]]) -> RaggedTokens:
        """Pack lists or arrays of ids, whole numbers that fit into int32. An empty list is an empty segment."""
        if not isinstance(sequences, Iterable):
            raise TypeError(f"expected lists of token ids, one for each text; found {type(sequences).__name__}.")
        lists = list(sequences)
        if not all(hasattr(one, "__len__") for one in lists):
            raise TypeError(f"expected a list of token ids for each text; found {lists!r:.60}.")
        lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
        ids: Any
        if all(isinstance(sequence, np.ndarray) for sequence in lists):  # far faster than number by number
            ids = np.concatenate([sequence for sequence in lists if len(sequence)] or [[]])
        else:
            ids = list(chain.from_iterable(lists))
        return cls(_as_int32(ids, "ids"), lengths_to_offsets(lengths))

    @classmethod
    def from_padded(cls, ids: ArrayLike, attention_mask: ArrayLike) -> RaggedTokens:
        """Pack the positions of ``ids [N, L]`` where ``attention_mask [N, L]`` is not 0.

        >>> RaggedTokens.from_padded([[7, 8], [9, 0]], [[1, 1], [1, 0]]).to_lists()
        [[7, 8], [9]]
        """
        padded, mask = np.asarray(ids), np.asarray(attention_mask) != 0
        if padded.ndim != 2 or padded.shape != mask.shape:
            raise ValueError(f"ids and attention_mask must both be [N, L]; found {padded.shape} and {mask.shape}.")
        return cls(padded[mask], lengths_to_offsets(mask.sum(axis=1)))

    def with_items(self, item_ids: Iterable[Any]) -> RaggedTokens:
        """Return the same segments with the ids of their items, by which a selector finds what it learned.

        ``item_ids [N]`` are strings or whole numbers, where 7 and "7" are one id, or None for no item.

        >>> tokens = RaggedTokens.from_lists([[5], [6], [7]]).with_items(["B01", 7, None])
        >>> tokens.take([2, 0]).items.tolist() == [0, tokens.items[0]]
        True
        """
        ids = list(item_ids)
        digests = short_digests(str(one).encode("utf-8", "surrogatepass") for one in ids)
        return replace(self, items=np.where([one is None for one in ids], np.uint64(0), digests))

    def __len__(self) -> int:
        return len(self.cu_seqlens) - 1

    def __getitem__(self, index: int) -> IntArray:
        """Return a view of the ids of one segment."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"segment {index} of {len(self)}")
        index %= len(self)
        return self.ids[self.cu_seqlens[index] : self.cu_seqlens[index + 1]]

    def __iter__(self) -> Iterator[IntArray]:
        return (self[i] for i in range(len(self)))

    @property
    def num_tokens(self) -> int:
        """Number T of tokens in all segments."""
        return len(self.ids)

    @property
    def lengths(self) -> IntArray:
        """Number of tokens of each segment, int32 ``[N]``."""
        return np.diff(self.cu_seqlens)

    def segment_ids(self) -> NDArray[np.int64]:
        """Return the segment of each token, int64 ``[T]``: lengths [2, 1] -> [0, 0, 1]."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def offsets(self) -> IntArray:
        """Return each token's place in its segment, int32 ``[T]``: lengths [2, 1] -> [0, 1, 0]."""
        starts = np.repeat(self.cu_seqlens[:-1], self.lengths)
        return np.arange(self.num_tokens, dtype=np.int32) - starts

    def take(self, segments: ArrayLike) -> RaggedTokens:
        """Return the segments numbered ``segments [M]``, in that order; repeats are allowed.

        >>> RaggedTokens.from_lists([[5, 6], [7], [8]]).take([2, 0]).to_lists()
        [[8], [5, 6]]
        """
        chosen = np.asarray(segments, dtype=np.int64).reshape(-1)
        cu = lengths_to_offsets(self.lengths[chosen])
        items = None if self.items is None else self.items[chosen]
        return RaggedTokens(self.ids[ranges(self.cu_seqlens[:-1][chosen], np.diff(cu))], cu, items)

    def keep(self, kept: NDArray[np.int64], cu_seqlens: IntArray) -> RaggedTokens:
        """Return the tokens at positions ``kept [K]`` of ``ids``, split by the new ``cu_seqlens [N + 1]``."""
        return RaggedTokens(self.ids[kept], cu_seqlens, self.items)

    def to_lists(self) -> list[list[int]]:
        """Return a list of ids for every segment."""
        flat, cu = self.ids.tolist(), self.cu_seqlens.tolist()
        return [flat[start:end] for start, end in pairwise(cu)]

    def to_padded(self, pad_id: int = 0, side: str = "right") -> tuple[IntArray, NDArray[np.int64]]:
        """Pad the segments: ``(ids int32 [N, L_max], attention_mask int64 [N, L_max])``.

        >>> ids, attention_mask = RaggedTokens.from_lists([[7, 8], [9]]).to_padded(side="left")
        >>> ids.tolist(), attention_mask.tolist()
        ([[7, 8], [0, 9]], [[1, 1], [0, 1]])
        """
        if side not in ("left", "right"):
            raise ValueError(f"side must be 'left' or 'right', found {side!r}.")
        if not isinstance(pad_id, int | np.integer):
            raise TypeError(f"pad_id must be a token id, found {pad_id!r}; any will do, for the mask leaves it out.")
        width = int(self.lengths.max(initial=0))
        places = np.arange(width)
        mask = (places < self.lengths[:, None]) if side == "right" else (places >= width - self.lengths[:, None])
        padded = np.full((len(self), width), pad_id, dtype=np.int32)
        padded[mask] = self.ids
        return padded, mask.astype(np.int64)


def check_ragged(tokens: object) -> None:
    """Refuse what is no :class:`RaggedTokens`, with the calls that make them.

    >>> check_ragged(RaggedTokens.from_lists([[5, 6]]))
    """
    if not isinstance(tokens, RaggedTokens):
        raise TypeError(
            f"tokens must be RaggedTokens, found {type(tokens).__name__}. RaggedTokens.from_lists(ids) packs ids, and "
            "tsporec.data.items.tokenize_texts(texts, tokenizer) packs texts."
        )


def check_ids(ids: IntArray, size: int, vocabulary: str, remedy: str) -> None:
    """Refuse ids outside a vocabulary of ``size`` ids, with a name for it and a remedy.

    >>> check_ids(np.int32([0, 4]), 5, "the vocabulary", "give the tokenizer that made the ids")
    """
    if len(ids) and ids.view(np.uint32).max() >= size:  # a negative id is a large unsigned one
        bad = ids[(ids < 0) | (ids >= size)][0]
        raise ValueError(f"token id {bad} is outside {vocabulary} of {size} ids; {remedy}.")


def segment_digests(tokens: RaggedTokens) -> NDArray[np.int64]:
    """Digest the ids of each segment: int64 ``[N]``; equal segments have equal digests.

    >>> a, b, c = segment_digests(RaggedTokens.from_lists([[5, 6], [7], [5, 6]])).tolist()
    >>> a == c, a == b
    (True, False)
    """
    return short_digests(segment.tobytes() for segment in tokens).view(np.int64)


def lengths_to_offsets(lengths: ArrayLike) -> IntArray:
    """Sum ``lengths [N]`` to offsets, int32 ``[N + 1]``; a total beyond int32 is refused.

    >>> lengths_to_offsets([3, 0, 1]).tolist()
    [0, 3, 3, 4]
    """
    cu = np.zeros(np.asarray(lengths).shape[0] + 1, dtype=np.int64)
    np.cumsum(lengths, out=cu[1:])
    return _as_int32(cu, "cu_seqlens")


def ranges(starts: ArrayLike, lengths: ArrayLike) -> NDArray[np.int64]:
    """Return ``start, start + 1, …`` of each run of ``lengths [M]`` from ``starts [M]``, one run after the other.

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
