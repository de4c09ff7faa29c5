"""Top-k of every segment in numpy: the path of every CPU.

A loop over rows spends most of its time in Python, and a padded batch wastes memory on long tails. So:

1. Scores become int32 keys that order as the scores do. Forbidden tokens get the lowest key, protected tokens the
   highest. One code path then serves every dtype and mask.
2. The packed keys are read in blocks that stay in cache.
3. In a block, rows of similar length are copied side by side and partitioned by one numpy call. The k-th best key of
   each row is its threshold.
4. One comparison with the thresholds, in text order, finds the kept tokens.

No compiler is needed. Memory beyond the output is a few blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tsporec.topk.checks import INT32_MAX, check_arrays, check_payloads, segment_budgets, segment_lengths

FORBIDDEN = np.int32(-(2**31))
NAN = np.int32(-(2**31) + 1)
PROTECTED = np.int32(2**31 - 1)

BLOCK_TOKENS = 1 << 18  # large enough to call numpy seldom, small enough that a block and its copies stay in cache
SORT_UP_TO = 256  # up to this width numpy sorts a row as fast as it partitions it
NETWORK = 128  # up to this width numpy uses a sorting network, three times as fast as just above
# Row i limits the last 64 keys of a window whose segment is i tokens shorter: minimum(keys, row) forbids the last i.
_BOUNDS = np.where(np.tri(65, 64, k=-1, dtype=bool)[:, ::-1], FORBIDDEN, PROTECTED)

Array = NDArray[Any]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int32]
Positions = NDArray[np.int64]


def select(
    scores: Array, cu_seqlens: Ints, k: Ints | int, protected: Bools | None = None, forbidden: Bools | None = None
) -> tuple[Positions, Ints]:
    """Keep the best k tokens of each segment, in text order.

    Parameters
    ----------
    scores : float32 or float16 [T]
        Higher is more worth keeping. Ties go to the earlier token; NaN ranks below every number; -0 equals +0.
    cu_seqlens : int32 [N+1]
        Offsets of the segments: starts with 0, never falls, ends with T.
    k : int or int32 [N]
        Budget of each segment in tokens. A segment keeps min(max(k, protected count), allowed count) tokens.
    protected, forbidden : bool [T], optional
        Tokens that are always, or never, kept. Forbidden beats protected.

    Returns
    -------
    kept : int64 [K]
        Kept positions into [T], ascending.
    new_cu_seqlens : int32 [N+1]
        Offsets of the segments in `kept`.

    Raises
    ------
    ValueError
        If a shape, a dtype or the offsets are not as above, or T does not fit int32.

    Examples
    --------
    >>> kept, cu = select(np.float32([3, 1, 2, 5, 4]), np.int32([0, 3, 5]), 2)
    >>> kept.tolist(), cu.tolist()
    ([0, 2, 3, 4], [0, 2, 4])
    """
    lengths, counts = _checked(scores, cu_seqlens, k, protected, forbidden)
    new_cu = np.zeros(len(cu_seqlens), np.int32)
    np.add.accumulate(counts, out=new_cu[1:])
    total = int(new_cu[-1])
    if 0 < len(scores) <= BLOCK_TOKENS:
        return _select_block(order_keys(scores, protected, forbidden), cu_seqlens, lengths, counts, total), new_cu
    kept = np.empty(total, np.int64)
    done = 0
    for start, _, positions in _blocks(scores, cu_seqlens, lengths, counts, protected, forbidden):
        stop = done + len(positions)
        np.add(positions, start, out=kept[done:stop])
        done = stop
    return kept, new_cu


def mask(
    scores: Array, cu_seqlens: Ints, k: Ints | int, protected: Bools | None = None, forbidden: Bools | None = None
) -> Bools:
    """Mark the tokens that `select` keeps, bool [T]. Arguments and errors are those of `select`.

    >>> mask(np.float32([3, 1, 2]), np.int32([0, 3]), 2).tolist()
    [True, False, True]
    """
    lengths, counts = _checked(scores, cu_seqlens, k, protected, forbidden)
    kept = np.zeros(len(scores), np.bool_)
    for start, stop, positions in _blocks(scores, cu_seqlens, lengths, counts, protected, forbidden):
        kept[start:stop][positions] = True
    return kept


def gather(
    scores: Array,
    cu_seqlens: Ints,
    k: Ints | int,
    payloads: Sequence[Array],
    protected: Bools | None = None,
    forbidden: Bools | None = None,
) -> tuple[list[Array], Ints]:
    """Cut every payload [T, ...] to the tokens that `select` keeps: (payloads [K, ...], new_cu_seqlens int32 [N+1]).

    >>> (ids,), _ = gather(np.float32([3, 1, 2]), np.int32([0, 3]), 2, [np.array([7, 8, 9])])
    >>> ids.tolist()
    [7, 9]
    """
    check_payloads(payloads, len(scores))
    kept, new_cu = select(scores, cu_seqlens, k, protected, forbidden)
    return [payload.take(kept, axis=0) for payload in payloads], new_cu


def _checked(
    scores: Array, cu_seqlens: Ints, k: Ints | int, protected: Bools | None, forbidden: Bools | None
) -> tuple[Ints, Ints]:
    """Check the input; compute (length, number of tokens to keep) of each segment, both int32 [N]."""
    check_arrays(scores, cu_seqlens, protected, forbidden)
    lengths = segment_lengths(cu_seqlens, len(scores))
    counts = np.maximum(segment_budgets(k, len(lengths)), 0)
    allowed = lengths
    if protected is not None:
        counted = protected if forbidden is None else protected & ~forbidden
        np.maximum(counts, _segment_counts(counted, cu_seqlens), out=counts)
    if forbidden is not None:
        allowed = lengths - _segment_counts(forbidden, cu_seqlens)
    return lengths, np.minimum(counts, allowed, out=counts)


def _segment_counts(flags: Bools, cu_seqlens: Ints) -> Ints:
    """Count the set flags of each segment, int32 [N]."""
    found = np.flatnonzero(flags)
    return np.diff(np.searchsorted(found, cu_seqlens)).astype(np.int32)


def _blocks(
    scores: Array, cu_seqlens: Ints, lengths: Ints, counts: Ints, protected: Bools | None, forbidden: Bools | None
) -> Iterator[tuple[int, int, Positions]]:
    """Yield (start, stop, kept positions relative to start) of each block: whole segments, about BLOCK_TOKENS."""
    segments = len(counts)
    first = 0
    while first < segments:
        start = int(cu_seqlens[first])
        end = np.int32(min(start + BLOCK_TOKENS, INT32_MAX))  # an int64 would make searchsorted copy the offsets
        last = int(cu_seqlens.searchsorted(end, side="right")) - 1
        last = min(max(last, first + 1), segments)
        stop = int(cu_seqlens[last])
        if start == stop:
            first = last
            continue
        part = slice(start, stop)
        keys = order_keys(
            scores[part],
            None if protected is None else protected[part],
            None if forbidden is None else forbidden[part],
        )
        offsets, wanted = cu_seqlens[first : last + 1] - start, counts[first:last]
        yield start, stop, _select_block(keys, offsets, lengths[first:last], wanted, int(np.add.reduce(wanted)))
        first = last


def order_keys(scores: Array, protected: Bools | None = None, forbidden: Bools | None = None) -> Ints:
    """Map scores to int32 keys: forbidden < NaN < numbers in their order < protected; -0 and +0 share a key."""
    if scores.dtype == np.float16:
        # torch converts ten times as fast as numpy. The copy is made because torch wants writable memory.
        scores = torch.from_numpy(scores.copy()).float().numpy()
    # Adding +0 copies and turns -0 into +0.
    values = np.add(scores, np.float32(0), dtype=np.float32, order="C")
    keys: Ints = values.view(np.int32)
    nans = np.isnan(values) if len(values) and math.isnan(np.minimum.reduce(values)) else None
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


def _select_block(keys: Ints, offsets: Ints, lengths: Ints, counts: Ints, total: int) -> Positions:
    """Find the kept positions of one block: keys at or above their row's threshold, without the later ones of a tie.

    keys [5, 1, 5, 4 | 2], counts [2, 1] -> thresholds [5, 2] -> positions [0, 2, 4]
    """
    width, count = int(lengths[0]), int(counts[0])
    if 0 < count < width and _all_are(width, lengths, len(keys)) and _all_are(count, counts, total):
        rows = keys.reshape(-1, width)
        sides = rows.copy()
        sides.partition(width - count, axis=1)
        thresholds = sides[:, width - count]
        kept = (rows >= thresholds[:, None]).ravel()
    else:
        thresholds = _thresholds(keys, offsets, lengths, counts)
        kept = keys >= thresholds.repeat(lengths)
    (positions,) = kept.nonzero()
    if len(positions) == total:
        return positions
    return _break_ties(keys, offsets, counts, thresholds, positions)


def _all_are(value: int, values: Ints, total: int) -> bool:
    """Check in one pass whether all `values`, which sum to `total`, equal `value`."""
    return value * len(values) == total and int(np.maximum.reduce(values)) == value


def _thresholds(keys: Ints, offsets: Ints, lengths: Ints, counts: Ints) -> Ints:
    """Find the key of the last token kept in each row, int32 [n]."""
    # Keeping nothing: no key is at PROTECTED. Keeping all that is allowed: every allowed key is at or above NAN.
    thresholds = np.where(counts > 0, NAN, PROTECTED)
    rows = np.flatnonzero((counts > 0) & (counts < lengths))
    if not len(rows):
        return thresholds
    # Rows of similar length form a group; the shorter ones are filled up. Narrow rows are cheap, so their groups are an
    # octave of lengths (below NETWORK) or half an octave. For wide rows the filling costs more: an eighth of an octave.
    # The upper bits of a float32 are its octave and the place in it.
    widths = lengths[rows] - 1
    bucket = widths.astype(np.float32).view(np.int32) >> 20
    bucket[widths < SORT_UP_TO] &= ~3
    bucket[widths < NETWORK] &= ~7
    order = bucket.astype(np.uint16).argsort(kind="stable")  # a radix sort, as 16 bits suffice
    rows, bucket = rows[order], bucket[order]
    cuts = (np.flatnonzero(np.diff(bucket)) + 1).tolist()
    for low, high in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        run = rows[low:high]
        thresholds[run] = _run_thresholds(keys, offsets[run], lengths[run], counts[run])
    return thresholds


def _run_thresholds(keys: Ints, starts: Ints, lengths: Ints, counts: Ints) -> Ints:
    """Find the thresholds of rows of similar length with one partition of all rows side by side."""
    width = int(np.maximum.reduce(lengths))
    same_k = int(counts[0]) if (counts == counts[0]).all() else None
    if same_k is None and width > SORT_UP_TO:
        return _row_thresholds(keys, starts, lengths, counts)
    # View each row as a window as wide as the longest. Behind a shorter row the window holds the next row's keys, which
    # then become FORBIDDEN: keys [5, 1 | 4, 3, 2], width 3 -> rows [[5, 1, FORBIDDEN], [4, 3, 2]]
    windows = np.ndarray((len(keys) - width + 1, width), np.int32, keys, strides=(4, 4))
    rows = windows[np.minimum(starts, len(windows) - 1)]
    shortest = int(np.minimum.reduce(lengths))
    if shortest < width:
        for i in np.flatnonzero(starts >= len(windows)):  # windows that would reach beyond the block
            rows[i, : lengths[i]] = keys[starts[i] : starts[i] + lengths[i]]
        tails, span = rows[:, shortest:], width - shortest
        if span <= 64:
            np.minimum(tails, _BOUNDS.take(width - lengths, axis=0)[:, -span:], out=tails)
        else:
            np.copyto(tails, FORBIDDEN, where=np.arange(shortest, width, dtype=np.int32) >= lengths[:, None])
    if same_k is None:
        rows.sort(axis=1)
        picked: Ints = rows[np.arange(len(rows)), width - counts]
        return picked
    if NETWORK < width <= SORT_UP_TO and same_k <= width - NETWORK:
        left, right = rows[:, :NETWORK], rows[:, NETWORK:]
        left.sort(axis=1)
        right.sort(axis=1)
        # The k best of two sorted lists are max(i-th best of one, (k - 1 - i)-th best of the other), for i below k.
        best: Ints = np.maximum(left[:, : -same_k - 1 : -1], right[:, -same_k:]).min(axis=1)
        return best
    rows.partition(width - same_k, axis=1)
    return rows[:, width - same_k]


def _row_thresholds(keys: Ints, starts: Ints, lengths: Ints, counts: Ints) -> Ints:
    """Find the thresholds of long rows with different budgets, one partition each."""
    thresholds = np.empty(len(starts), np.int32)
    for i, (start, length, count) in enumerate(zip(starts.tolist(), lengths.tolist(), counts.tolist(), strict=True)):
        row = keys[start : start + length].copy()
        row.partition(length - count)
        thresholds[i] = row[length - count]
    return thresholds


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
