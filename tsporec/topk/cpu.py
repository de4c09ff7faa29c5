"""Top-k of every segment in numpy: the path of every CPU.

A loop over rows spends most of its time in Python, and a padded batch wastes memory on long tails. So:

1. Scores become int32 keys that order as the scores do. Forbidden tokens get the lowest key, protected tokens the
   highest. One code path then serves every dtype and mask.
2. The packed keys are read in blocks that stay in cache.
3. In a block, rows of similar length are copied side by side and partitioned by one numpy call. The k-th best key of
   each row is its threshold.
4. One comparison with the thresholds, in text order, finds the kept tokens.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tsporec.topk.checks import INT32_MAX, check_count, check_inputs, segment_lengths

FORBIDDEN = np.int32(-(2**31))
NAN = np.int32(-(2**31) + 1)
PROTECTED = np.int32(2**31 - 1)

BLOCK_TOKENS = 1 << 18  # large enough to call numpy seldom, small enough that a block and its copies stay in cache

Array = NDArray[Any]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int32]
Positions = NDArray[np.int64]


def select(
    scores: Array, cu_seqlens: Ints, k: Ints | int, protected: Bools | None = None, forbidden: Bools | None = None
) -> tuple[Positions, Ints]:
    """Keep the best k tokens of each segment, like :func:`tsporec.topk.topk_select`, of numpy arrays.

    >>> kept, cu = select(np.float32([3, 1, 2, 5, 4]), np.int32([0, 3, 5]), 2)
    >>> kept.tolist(), cu.tolist()
    ([0, 2, 3, 4], [0, 2, 4])
    """
    if not isinstance(k, np.ndarray):
        check_count("k", k)
        k = np.full(max(len(cu_seqlens) - 1, 0), k, np.int32)
    check_inputs(scores, cu_seqlens, k, protected, forbidden)
    lengths = segment_lengths(cu_seqlens, len(scores))
    counts = _kept_counts(cu_seqlens, lengths, k, protected, forbidden)
    new_cu = np.zeros(len(cu_seqlens), np.int32)
    np.cumsum(counts, out=new_cu[1:])
    if 0 < len(scores) <= BLOCK_TOKENS:
        keys = order_keys(scores, protected, forbidden)
        return _select_block(keys, cu_seqlens, lengths, counts, int(new_cu[-1])), new_cu
    kept = np.empty(new_cu[-1], np.int64)
    first = 0
    while first < len(counts):  # whole segments, about BLOCK_TOKENS
        start = int(cu_seqlens[first])
        end = np.int32(min(start + BLOCK_TOKENS, INT32_MAX))  # an int64 would make searchsorted copy the offsets
        last = max(int(cu_seqlens.searchsorted(end, side="right")) - 1, first + 1)
        part, rows = slice(start, int(cu_seqlens[last])), slice(first, last)
        keys = order_keys(scores[part], *(None if mask is None else mask[part] for mask in (protected, forbidden)))
        block = kept[new_cu[first] : new_cu[last]]
        offsets = cu_seqlens[first : last + 1] - start
        np.add(_select_block(keys, offsets, lengths[rows], counts[rows], len(block)), start, out=block)
        first = last
    return kept, new_cu


def order_keys(scores: Array, protected: Bools | None = None, forbidden: Bools | None = None) -> Ints:
    """Map scores to int32 keys: forbidden < NaN < numbers in their order < protected; -0 and +0 share a key."""
    if scores.dtype == np.float16:
        # torch converts ten times as fast as numpy. The copy is made because torch wants writable memory.
        scores = torch.from_numpy(scores.copy()).float().numpy()
    # Adding +0 copies and turns -0 into +0.
    values = np.add(scores, np.float32(0), dtype=np.float32, order="C")
    keys: Ints = values.view(np.int32)
    nans = np.isnan(values) if len(values) and math.isnan(values.min()) else None
    # Negative floats order backwards by their magnitude bits, so those are flipped.
    flips = keys >> 31
    flips &= 0x7FFFFFFF
    keys ^= flips
    if nans is not None:
        keys[nans] = NAN
    if protected is not None:
        keys[protected] = PROTECTED
    if forbidden is not None:
        keys[forbidden] = FORBIDDEN
    return keys


def _kept_counts(cu_seqlens: Ints, lengths: Ints, k: Ints, protected: Bools | None, forbidden: Bools | None) -> Ints:
    """Compute how many tokens each segment keeps, int32 [N]: min(max(k, protected count), allowed count)."""

    def count(flags: Bools) -> Ints:
        return np.diff(np.searchsorted(np.flatnonzero(flags), cu_seqlens)).astype(np.int32)

    counts = np.maximum(k, 0)
    if protected is not None:
        counts = np.maximum(counts, count(protected if forbidden is None else protected & ~forbidden))
    return np.minimum(counts, lengths if forbidden is None else lengths - count(forbidden))


def _select_block(keys: Ints, offsets: Ints, lengths: Ints, counts: Ints, total: int) -> Positions:
    """Find the ``total`` kept positions of one block: keys at or above their row's threshold, fewer where keys tie.

    keys [5, 1, 5, 4 | 2], counts [2, 1] -> thresholds [5, 2] -> positions [0, 2, 4]
    """
    width, count = int(lengths[0]), int(counts[0])
    if 0 < count < width and (lengths == width).all() and (counts == count).all():
        rows = keys.reshape(-1, width)
        thresholds = _best(rows.copy(), count)
        kept = (rows >= thresholds[:, None]).ravel()
    else:
        thresholds = _thresholds(keys, offsets, lengths, counts)
        kept = keys >= thresholds.repeat(lengths)
    (positions,) = kept.nonzero()
    if len(positions) == total:
        return positions
    return _break_ties(keys, offsets, counts, thresholds, positions)


def _best(rows: Array, count: int) -> Ints:
    """Find the ``count``-th best key of each row, in place."""
    rows.partition(rows.shape[1] - count, axis=1)
    best: Ints = rows[:, rows.shape[1] - count]
    return best


def _thresholds(keys: Ints, offsets: Ints, lengths: Ints, counts: Ints) -> Ints:
    """Find the key of the last token kept in each row, int32 [n]."""
    # Keeping nothing: no key is at PROTECTED. Keeping all that is allowed: every allowed key is at or above NAN.
    thresholds = np.where(counts > 0, NAN, PROTECTED)
    rows = np.flatnonzero((counts > 0) & (counts < lengths))
    # Rows whose lengths lie in one octave form a group. The exponent bits of a float32 are its octave.
    octave = (lengths[rows] - 1).astype(np.float32).view(np.int32) >> 23
    order = octave.astype(np.uint16).argsort(kind="stable")  # a radix sort, as 16 bits suffice
    for group in np.split(rows[order], np.flatnonzero(np.diff(octave[order])) + 1) if len(rows) else []:
        thresholds[group] = _group_thresholds(keys, offsets[group], lengths[group], counts[group])
    return thresholds


def _group_thresholds(keys: Ints, starts: Ints, lengths: Ints, counts: Ints) -> Ints:
    """Find the thresholds of rows of similar length with one partition of all rows side by side."""
    shortest, width = int(lengths.min()), int(lengths.max())
    # View each row as a window as wide as the longest. Behind a shorter row the window holds the next row's keys, which
    # then become FORBIDDEN: keys [5, 1 | 4, 3, 2], width 3 -> rows [[5, 1, FORBIDDEN], [4, 3, 2]]
    windows = np.ndarray((len(keys) - width + 1, width), np.int32, keys, strides=(4, 4))
    rows = windows[np.minimum(starts, len(windows) - 1)]
    for i in np.flatnonzero(starts >= len(windows)):  # windows that would reach beyond the block
        rows[i, : lengths[i]] = keys[starts[i] : starts[i] + lengths[i]]
    places = np.arange(shortest, width, dtype=np.int32)
    np.copyto(rows[:, shortest:], FORBIDDEN, where=places >= lengths[:, None])
    if (counts == counts[0]).all():
        return _best(rows, int(counts[0]))
    rows.sort(axis=1)
    return rows[np.arange(len(rows)), width - counts]


def _break_ties(keys: Ints, offsets: Ints, counts: Ints, thresholds: Ints, positions: Positions) -> Positions:
    """Drop the last of the tokens equal to their row's threshold, in rows that hold more than their count.

    keys [5, 5, 5, 4], counts [2], positions [0, 1, 2] -> [0, 1]
    """
    found = np.diff(np.searchsorted(positions, offsets))
    excess = found - counts
    tied = np.flatnonzero(excess)
    # `where`: indices into `positions` of the tied rows. `equal`: indices into `where` of keys at the threshold.
    where = np.flatnonzero(np.repeat(excess > 0, found))
    equal = np.flatnonzero(keys[positions[where]] == np.repeat(thresholds[tied], found[tied]))
    equal_ends = np.searchsorted(equal, np.cumsum(found[tied]))
    equal_counts = np.diff(equal_ends, prepend=0)
    # In each tied row, the last `excess` of the equal tokens are dropped.
    dropped = np.arange(len(equal)) >= np.repeat(equal_ends - excess[tied], equal_counts)
    keep = np.ones(len(positions), np.bool_)
    keep[where[equal[dropped]]] = False
    return positions[keep]
