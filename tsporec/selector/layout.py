"""Texts laid out for the scoring network, with the cheap signals of every token in its text.

Twice, to the same result: in torch, which compiles, exports and stays on its device; and in numpy, whose calls cost a
third, for scoring on a CPU.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TEXT_SIGNALS = ("first_occurrence", "log_count", "place", "log_place", "log_length")
WINDOW = 5
"""Places of a token's window."""
GROUP = 8192
"""Tokens scored at once: more would not stay in the processor's cache."""

_GAP = WINDOW // 2


class Texts(NamedTuple):
    """N segments as R rows: two rows at least without a token between them, so that a window never meets two texts.

    Parameters
    ----------
    ids : int64 ``[2 + R + 2]``
        Vocabulary entries; the absent one where there is no token.
    rows : int64 ``[T]``
        The tokens' rows.
    segment : int64 ``[R]``
    inside : float ``[R]``
        1 where a token is, else 0.
    signals : float ``[len(TEXT_SIGNALS), R]``
        Of rows without a token, any number. float64 from :func:`lay_out_numpy`, float32 from :func:`lay_out`.
    starts : int64 ``[N]``
        First row of each segment.
    lengths : int64 ``[N]``
    """

    ids: Tensor
    rows: Tensor
    segment: Tensor
    inside: Tensor
    signals: Tensor
    starts: Tensor
    lengths: Tensor

    @property
    def own(self) -> Tensor:
        """int64 ``[R]``: the entry of each row."""
        return self.ids[_GAP:-_GAP]


def groups(cu_seqlens: NDArray[np.int32]) -> list[tuple[int, int]]:
    """Runs of whole segments of at most some ``GROUP`` tokens (a longer segment stands alone)."""
    runs, first, count = [], 0, len(cu_seqlens) - 1
    if count and cu_seqlens[-1] + count <= GROUP:
        return [(0, count)]
    ends = cu_seqlens + np.arange(count + 1)  # an empty segment costs too
    while first < count:
        last = int(np.searchsorted(ends, ends[first] + GROUP, side="right")) - 1
        last = min(max(last, first + 1), count)
        runs.append((first, last))
        first = last
    return runs


def lay_out(ids: Tensor, cu_seqlens: Tensor, absent: int) -> Texts:
    """The segments ``ids [T]``, ``cu_seqlens [N + 1]``, N above 0."""
    tokens, segments, device = ids.shape[0], cu_seqlens.shape[0] - 1, ids.device
    total, offsets = tokens + _GAP * segments, cu_seqlens.long()
    lengths, gaps = offsets.diff(), _GAP * torch.arange(segments, device=device)
    starts = offsets[:-1] + gaps
    segment = torch.repeat_interleave(lengths + _GAP, output_size=total)
    rows = torch.arange(tokens, device=device)
    rows = rows + gaps.index_select(0, torch.repeat_interleave(lengths, output_size=tokens))
    laid = torch.full((total + 2 * _GAP,), absent, dtype=torch.int64, device=device)
    laid = laid.index_copy(0, rows + _GAP, ids.long())
    at = torch.arange(total, device=device) - starts.index_select(0, segment)
    place, length = at.float(), lengths.index_select(0, segment).float()
    # Equal (segment, entry) pairs side by side, in text order: the sort is stable.
    pair, order = torch.sort(segment * (absent + 1) + laid[_GAP:-_GAP], stable=True)
    new = torch.ones_like(pair, dtype=torch.bool)
    new[1:] = pair[1:] != pair[:-1]
    run = torch.cumsum(new, 0) - 1
    counts = torch.zeros_like(pair).scatter_add(0, run, torch.ones_like(pair)).float().log().index_select(0, run)
    first, count = torch.empty_like(place).scatter(0, order, new.float()), torch.empty_like(place)
    columns = [first, count.scatter(0, order, counts), place / length.clamp(min=1), place.log1p(), length.log1p()]
    return Texts(laid, rows, segment, (place < length).float(), torch.stack(columns), starts, lengths)


def lay_out_numpy(ids: NDArray[np.int32], cu_seqlens: NDArray[np.int32], absent: int) -> Texts:
    """The same with the signals in float64."""
    segments = len(cu_seqlens) - 1
    total, at_segment = len(ids) + _GAP * segments, np.arange(segments)
    starts = cu_seqlens[:-1] + _GAP * at_segment
    lengths = np.diff(cu_seqlens).astype(np.int64)
    segment, at = at_segment.repeat(lengths + _GAP), np.arange(total)
    length = lengths.astype(np.float64)
    place, log_length, length = at - starts[segment], np.log1p(length)[segment], length[segment]
    place = place.astype(np.float64)
    inside = place < length
    rows = inside.nonzero()[0]
    laid = np.full(total + 2 * _GAP, absent)
    laid[rows + _GAP] = ids
    pair = segment * (absent + 1) + laid[_GAP:-_GAP]
    bits = total.bit_length()
    if bits + (segments * (absent + 1)).bit_length() < 64:
        # With its place in the low bits no two are equal, and values alone are sorted several times as fast.
        pair = np.sort((pair << bits) | at)
        order, pair = pair & ((1 << bits) - 1), pair >> bits
    else:
        order = np.argsort(pair, kind="stable")
        pair = pair[order]
    new = np.ones(total, dtype=np.bool_)
    np.not_equal(pair[1:], pair[:-1], out=new[1:])
    firsts = new.nonzero()[0]
    counts = np.empty_like(firsts)
    np.subtract(firsts[1:], firsts[:-1], out=counts[:-1])
    counts[-1] = total - firsts[-1]
    signals = np.empty((len(TEXT_SIGNALS), total), dtype=np.float64)
    signals[0, order] = new
    signals[1, order] = np.log(counts.astype(np.float64)).repeat(counts)
    np.divide(place, np.maximum(length, 1), out=signals[2])
    np.log1p(place, out=signals[3])
    signals[4] = log_length
    found = (laid, rows, segment, inside.astype(np.float64), signals, starts, lengths)
    return Texts(*map(torch.from_numpy, found))
