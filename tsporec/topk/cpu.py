"""Top-k of every segment in numpy: the CPU path, and what everything without a GPU runs on.

A row-by-row loop spends most of its time in Python, and a padded batch wastes memory on long tails. So the packed
scores are read in blocks that stay in cache; in a block, rows of similar length are copied side by side and
partitioned by one numpy call; the k-th best key of each row is its threshold, and one comparison with it, in text
order, finds the kept tokens. Scores become int32 keys that order as the scores do, with what is forbidden below
everything and what is protected above, so that one code path serves every dtype and mask.

No compiler is needed, and beyond its output it needs only a few blocks of memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tsporec.topk.checks import INT32_MAX, check_arrays, check_payloads, segment_budgets, segment_lengths

__all__ = ["gather", "mask", "select"]

FORBIDDEN = np.int32(-(2**31))
NAN = np.int32(-(2**31) + 1)
PROTECTED = np.int32(2**31 - 1)

BLOCK_TOKENS = 1 << 18  # a block of keys and its copies stay in cache, and numpy is called seldom
SORT_UP_TO = 256  # up to this width numpy sorts a row as fast as it partitions it
NETWORK = 128  # up to this width it does so by a sorting network, three times as fast as just above
# Row i puts an upper bound on the last 64 keys of a window whose row is i tokens shorter: the last i become FORBIDDEN.
_BOUNDS = np.where(np.tri(65, 64, k=-1, dtype=bool)[:, ::-1], FORBIDDEN, PROTECTED)

Array = NDArray[Any]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int32]
Positions = NDArray[np.int64]


def select(
    scores: Array,
    cu_seqlens: Ints,
    k: Ints | int,
    protected: Bools | None = None,
    forbidden: Bools | None = None,
) -> tuple[Positions, Ints]:
    """Keep the best k tokens of each segment, in text order.

    Parameters
    ----------
    scores : float32 or float16 [T]
        Higher is more worth keeping. Ties go to the earlier token; NaN ranks below every number; -0 equals +0.
    cu_seqlens : int32 [N+1]
        Offsets of the segments: starts with 0, never falls, ends with T.
    k : int or int32 [N]
        Budget of each segment in tokens. The number kept is min(max(k, protected count), allowed count).
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
    scores: Array,
    cu_seqlens: Ints,
    k: Ints | int,
    protected: Bools | None = None,
    forbidden: Bools | None = None,
) -> Bools:
    """Mark the tokens that `select` keeps.

    Parameters and errors are those of `select`.

    Returns
    -------
    bool [T]
        True where the token is kept.
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
    """Select, and cut every payload to the kept tokens.

    Parameters
    ----------
    payloads : sequence of arrays [T, ...]
        Any per-token arrays. The other parameters and the errors are those of `select`.

    Returns
    -------
    kept payloads : list of arrays [K, ...]
    new_cu_seqlens : int32 [N+1]
    """
    check_payloads(payloads, len(scores))
    kept, new_cu = select(scores, cu_seqlens, k, protected, forbidden)
    return [payload.take(kept, axis=0) for payload in payloads], new_cu


def _checked(
    scores: Array, cu_seqlens: Ints, k: Ints | int, protected: Bools | None, forbidden: Bools | None
) -> tuple[Ints, Ints]:
    """(lengths, effective k: min(max(k, protected count), allowed count)) of each segment, int32 [N]."""
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
    """Number of set flags in each segment, int32 [N]."""
    found = np.flatnonzero(flags)
    return np.diff(np.searchsorted(found, cu_seqlens)).astype(np.int32)


def _blocks(
    scores: Array, cu_seqlens: Ints, lengths: Ints, counts: Ints, protected: Bools | None, forbidden: Bools | None
) -> Iterator[tuple[int, int, Positions]]:
    """Yield (start, stop, kept positions relative to start) for runs of whole segments of about BLOCK_TOKENS."""
    segments = len(counts)
    first = 0
    while first < segments:
        start = int(cu_seqlens[first])
        end = np.int32(min(start + BLOCK_TOKENS, INT32_MAX))  # an int64 here would copy the offsets every time
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
        offsets, own = cu_seqlens[first : last + 1] - start, counts[first:last]
        yield start, stop, _select_block(keys, offsets, lengths[first:last], own, int(np.add.reduce(own)))
        first = last


def order_keys(scores: Array, protected: Bools | None = None, forbidden: Bools | None = None) -> Ints:
    """Map scores to int32 keys: forbidden < NaN < numbers in their order < protected; -0 and +0 share a key."""
    if scores.dtype == np.float16:
        # Exact in float32; numpy converts them one by one, at ten times the cost. A copy, for torch wants it writable.
        scores = torch.from_numpy(scores.copy()).float().numpy()
    # Adding +0 copies and turns -0 into +0.
    values = np.add(scores, np.float32(0), dtype=np.float32, order="C")
    keys: Ints = values.view(np.int32)
    nans = np.isnan(values) if len(values) and math.isnan(np.minimum.reduce(values)) else None
    # A negative float orders backwards by its magnitude bits: flip them.
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
    """Kept positions of one block: those at or above their row's threshold, less the later ones of a tie."""
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
    """Whether all of `values`, whose sum is `total`, are `value`: one pass, where comparing takes two."""
    return value * len(values) == total and int(np.maximum.reduce(values)) == value


def _thresholds(keys: Ints, offsets: Ints, lengths: Ints, counts: Ints) -> Ints:
    """Key of the last token kept in each row (of equal keys, the earlier are kept), int32 [n]."""
    # A row that keeps nothing holds no protected key, one that keeps all it may has nothing else above FORBIDDEN.
    thresholds = np.where(counts > 0, NAN, PROTECTED)
    rows = np.flatnonzero((counts > 0) & (counts < lengths))
    if not len(rows):
        return thresholds
    # Rows of similar length go together, the shorter filled up from below: one group an octave where a row costs the
    # same whatever its width, two where it costs little and numpy's calls count, eight where the filling would. The
    # bits of a float are its octave and its place in that.
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
    """Thresholds of rows of similar length: side by side, one partition for all."""
    width = int(np.maximum.reduce(lengths))
    same_k = int(counts[0]) if (counts == counts[0]).all() else None
    if same_k is None and width > SORT_UP_TO:
        return _row_thresholds(keys, starts, lengths, counts)
    # Every row as a window of the longest one's width; where a shorter row ends, its neighbour is overwritten.
    windows = np.ndarray((len(keys) - width + 1, width), np.int32, keys, strides=(4, 4))
    rows = windows[np.minimum(starts, len(windows) - 1)]
    shortest = int(np.minimum.reduce(lengths))
    if shortest < width:
        for i in np.flatnonzero(starts >= len(windows)):  # the last row or two of the block
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
        # Of two sorted lists, the greater of the i-th best and the (k - 1 - i)-th best are the k best of both.
        best: Ints = np.maximum(left[:, : -same_k - 1 : -1], right[:, -same_k:]).min(axis=1)
        return best
    rows.partition(width - same_k, axis=1)
    return rows[:, width - same_k]


def _row_thresholds(keys: Ints, starts: Ints, lengths: Ints, counts: Ints) -> Ints:
    """Thresholds of long rows whose budgets differ, one partition each."""
    thresholds = np.empty(len(starts), np.int32)
    for i, (start, length, count) in enumerate(zip(starts.tolist(), lengths.tolist(), counts.tolist(), strict=True)):
        row = keys[start : start + length].copy()
        row.partition(length - count)
        thresholds[i] = row[length - count]
    return thresholds


def _break_ties(keys: Ints, offsets: Ints, counts: Ints, thresholds: Ints, positions: Positions) -> Positions:
    """Drop the last of the tokens equal to their row's threshold where a row holds more than its count."""
    found = np.diff(np.searchsorted(positions, offsets))
    excess = found - counts
    tied = np.flatnonzero(excess)
    where = np.flatnonzero(np.repeat(excess > 0, found))
    at_threshold = keys[positions[where]] == np.repeat(thresholds[tied], found[tied])
    equal = np.flatnonzero(at_threshold)
    ends = np.cumsum(found[tied])
    equal_ends = np.searchsorted(equal, ends)
    equal_counts = np.diff(equal_ends, prepend=0)
    # A token is dropped if fewer equal tokens follow it in its row than the row has too many.
    dropped = np.arange(len(equal)) >= np.repeat(equal_ends - excess[tied], equal_counts)
    keep = np.ones(len(positions), np.bool_)
    keep[where[equal[dropped]]] = False
    return positions[keep]
