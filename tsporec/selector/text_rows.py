"""Packed texts laid out as rows for the scoring network, with the cheap signals of every token.

The layout is written twice, with the same result. The torch version compiles, exports and stays on its device. The
numpy version scores on a CPU: its calls cost a third.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - as the torch documentation writes it

TEXT_SIGNALS = ("first_occurrence", "log_count", "place", "log_place", "log_length")
"""The signals of a token in its text: 1 at the first occurrence of its term, else 0; the logarithm of how often the
term occurs; the place, as a share of the length and as ``log(1 + place)``; and ``log(1 + length)``. " Pen" and "pen"
are one term (:attr:`tsporec.tokens.pieces.Pieces.terms`)."""
WINDOW = 5
"""Tokens the first layer reads: two before, the token, two behind."""
GROUP = 8192
"""Tokens that are scored at once: more would not stay in the processor's cache."""

_GAP = WINDOW // 2


class Texts(NamedTuple):
    """N segments of T tokens as R rows: one empty row, then each segment with two empty rows behind it.

    So no window meets two texts: ``[[5, 6], [7]] -> [., 5, 6, ., ., 7, ., .]``.
    """

    ids: Tensor  # int64 [R + 4]: vocabulary id of each row, padding id in an empty row; two empty rows more at each end
    rows: Tensor  # int64 [T]: row of each token
    segment: Tensor  # int64 [R]: segment of each row; the first row counts as a row of segment 0
    inside: Tensor  # float [R]: 1 in the row of a token, 0 in an empty row
    signals: Tensor  # [len(TEXT_SIGNALS), R], undefined in empty rows: float64 from numpy, float32 from torch
    lengths: Tensor  # int64 [N]: tokens of each segment

    @property
    def row_ids(self) -> Tensor:
        """int64 ``[R]``: the vocabulary id of each row."""
        return self.ids[_GAP:-_GAP]


def groups(cu_seqlens: NDArray[np.int32]) -> list[tuple[int, int]]:
    """Cut N segments into runs ``(first, last)`` of at most ``GROUP`` tokens; a longer segment is a run alone.

    >>> groups(np.int32([0, 5000, 9000, 9100]))
    [(0, 1), (1, 3)]
    """
    runs, first, count = [], 0, len(cu_seqlens) - 1
    ends = cu_seqlens + np.arange(count + 1)  # an empty segment counts as a token
    while first < count:
        last = int(np.searchsorted(ends, ends[first] + GROUP, side="right")) - 1
        last = min(max(last, first + 1), count)
        runs.append((first, last))
        first = last
    return runs


def lay_out(ids: Tensor, terms: Tensor, cu_seqlens: Tensor, absent: int) -> Texts:
    """Lay out the segments ``ids [T]`` with the term of each, ``terms [T]``, and ``cu_seqlens [N + 1]``, N above 0.

    ``absent`` is the padding id. Ids and terms are below it.
    """
    tokens, segments, device = ids.shape[0], cu_seqlens.shape[0] - 1, ids.device
    total, offsets = 1 + tokens + _GAP * segments, cu_seqlens.long()
    lengths, gaps = offsets.diff(), 1 + _GAP * torch.arange(segments, device=device)
    starts = offsets[:-1] + gaps
    # Segment of each row: lengths [2, 1] -> [0, 0 0 0 0, 1 1 1].
    segment = F.pad(torch.repeat_interleave(lengths + _GAP, output_size=total - 1), (1, 0))
    # Row of each token: cu_seqlens [0, 2, 3] -> [1, 2, 5].
    rows = torch.arange(tokens, device=device)
    rows = rows + gaps.index_select(0, torch.repeat_interleave(lengths, output_size=tokens))
    laid = torch.full((total + 2 * _GAP,), absent, dtype=torch.int64, device=device)
    laid = laid.index_copy(0, rows + _GAP, ids.long())
    at = torch.arange(total, device=device) - starts.index_select(0, segment)
    place, length = at.float(), lengths.index_select(0, segment).float()
    # A stable sort puts equal (segment, term) pairs side by side, in text order; each run is one term of one text.
    term = torch.full((total,), absent, dtype=torch.int64, device=device).index_copy(0, rows, terms.long())
    pair, order = torch.sort(segment * (absent + 1) + term, stable=True)
    new = torch.ones_like(pair, dtype=torch.bool)
    new[1:] = pair[1:] != pair[:-1]
    run = torch.cumsum(new, 0) - 1
    counts = torch.zeros_like(pair).scatter_add(0, run, torch.ones_like(pair)).float().log().index_select(0, run)
    first, count = torch.empty_like(place).scatter(0, order, new.float()), torch.empty_like(place)
    columns = [
        first,
        count.scatter(0, order, counts),
        place / length.clamp(min=1),
        place.clamp(min=0).log1p(),
        length.log1p(),
    ]
    inside = ((place >= 0) & (place < length)).float()
    return Texts(laid, rows, segment, inside, torch.stack(columns), lengths)


def lay_out_numpy(
    ids: NDArray[np.int32], terms: NDArray[np.int64], cu_seqlens: NDArray[np.int32], absent: int
) -> Texts:
    """Lay out segments as :func:`lay_out` does, with the signals in float64."""
    segments = np.arange(len(cu_seqlens) - 1)
    total, lengths = 1 + len(ids) + _GAP * len(segments), np.diff(cu_seqlens).astype(np.int64)
    # Segment of each row: lengths [2, 1] -> [0, 0 0 0 0, 1 1 1]. Place of each row: [-1, 0 1 2 3, 0 1 2].
    taken = lengths + _GAP
    taken[0] += 1
    segment, at = segments.repeat(taken), np.arange(total)
    place = at - (cu_seqlens[:-1] + (1 + _GAP * segments))[segment]
    inside = place < lengths[segment]
    inside[0] = False
    rows = inside.nonzero()[0]
    laid = np.full(total + 2 * _GAP, absent)
    laid[rows + _GAP] = ids
    # Equal (segment, term) pairs side by side, in text order; each run of them is one term of one text. With the row in
    # the low bits no two are equal, and sorting values alone is several times as fast.
    bits = total.bit_length()
    pair = segment * (absent + 1) + absent
    pair[rows] += terms - absent
    pair = np.sort((pair << bits) | at)
    order, pair = pair & ((1 << bits) - 1), pair >> bits
    new = np.append(True, pair[1:] != pair[:-1])
    counts = np.diff(np.append(new.nonzero()[0], total))  # length of each run
    place = np.maximum(place, 0).astype(np.float64)
    length = lengths.astype(np.float64)
    signals = np.empty((len(TEXT_SIGNALS), total), dtype=np.float64)
    signals[0, order] = new
    signals[1, order] = np.log(counts.astype(np.float64)).repeat(counts)
    np.divide(place, np.maximum(length, 1)[segment], out=signals[2])
    np.log1p(place, out=signals[3])
    signals[4] = np.log1p(length)[segment]
    found = (laid, rows, segment, inside.astype(np.float64), signals, lengths)
    return Texts(*map(torch.from_numpy, found))
