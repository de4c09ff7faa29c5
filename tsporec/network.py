"""The scoring network: a logit a token from the token, its neighbours and its text.

``logit = blend · signals + network(token features, signals, text mean)``. The first term is a linear rule
over cheap signals (idf, first occurrence, place ...), which works untrained; the second is zero at the start
and is what preference learning adds.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as the torch documentation writes it

from tsporec.features import CLASSES

SIGNALS = ("idf", "first_occurrence", "log_count", "place", "log_place", "log_length", *CLASSES)
"""The cheap signals of a token in its text, in column order."""

Linear = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]


def text_signals(
    ids: Tensor, segment: Tensor, start: Tensor, length: Tensor, idf: Tensor, classes: Tensor
) -> Tensor:
    """float32 ``[T, len(SIGNALS)]``.

    Parameters
    ----------
    ids : int64 ``[T]``
    segment, start, length : int64 ``[T]``
        Each token's segment, where that begins in ``[T]``, and its length in tokens.
    idf : float32 ``[T]``
        Smoothed ``log((1 + N) / (1 + df)) + 1`` of each token.
    classes : float32 ``[T, len(CLASSES)]``
    """
    place = torch.arange(ids.shape[0], device=ids.device) - start
    # Equal (segment, id) pairs side by side, in text order: the sort is stable.
    pair, order = torch.sort(segment * (ids.max() + 1) + ids if ids.shape[0] else ids, stable=True)
    new = torch.ones_like(pair, dtype=torch.bool)
    new[1:] = pair[1:] != pair[:-1]
    run = torch.cumsum(new, 0) - 1
    counts = torch.zeros_like(pair).scatter_add(0, run, torch.ones_like(pair))[run]
    first = torch.empty_like(new).scatter(0, order, new)
    count = torch.empty_like(counts).scatter(0, order, counts)
    columns = [
        idf,
        first.float(),
        torch.log(count.float()),
        place.float() / length.clamp(min=1).float(),
        torch.log1p(place.float()),
        torch.log1p(length.float()),
    ]
    return torch.cat([torch.stack(columns, dim=1), classes], dim=1)


class ScoringNetwork(nn.Module):
    """A window of 5 token features, the text's mean, a window of 3 hidden states, a logit.

    Parameters
    ----------
    dim, hidden : int
        Widths of the token features and of the hidden states. The cost is
        ``5 * dim * hidden + 3 * hidden**2 + hidden * (len(SIGNALS) + 1)`` multiply-adds a token.
    dropout : float
    """

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Linear(5 * dim, hidden)
        self.signals = nn.Linear(len(SIGNALS), hidden, bias=False)
        self.context = nn.Linear(hidden, hidden, bias=False)
        self.second = nn.Linear(3 * hidden, hidden)
        self.out = nn.Linear(hidden, 1, bias=False)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.out.weight)

    def forward(
        self, rows: Tensor, signals: Tensor, segment: Tensor, count: int, linear: Linear = F.linear
    ) -> Tensor:
        """float32 ``[T]`` from token features ``rows [T, dim]`` and ``signals [T, S]``.

        ``segment`` int64 ``[T]`` ascending, below ``count``; ``linear`` computes every matrix product.
        """
        hidden = linear(_window(rows, segment, 2), self.first.weight, self.first.bias)
        hidden = F.relu(hidden + linear(signals, self.signals.weight, None))
        total = torch.zeros(count, hidden.shape[1], device=rows.device, dtype=hidden.dtype)
        length = torch.zeros(count, device=rows.device, dtype=hidden.dtype)
        total = total.index_add(0, segment, hidden)
        length = length.index_add(0, segment, torch.ones_like(hidden[:, 0]))
        mean = linear(total / length.clamp(min=1)[:, None], self.context.weight, None)
        hidden = self.dropout(hidden)
        deeper = linear(_window(hidden, segment, 1), self.second.weight, self.second.bias)
        deeper = self.dropout(F.relu(deeper + mean.index_select(0, segment)))
        # Not a matrix-vector product: its order of additions depends on the number of rows.
        logits: Tensor = (deeper * self.out.weight[0]).sum(dim=1)
        return logits


def _window(rows: Tensor, segment: Tensor, reach: int) -> Tensor:
    """``[T, (2 * reach + 1) * width]``: each row beside its neighbours of the same segment, zeros beyond."""
    shifted = []
    for step in range(-reach, reach + 1):
        if step == 0:
            shifted.append(rows)
            continue
        near, far = (
            (slice(step, None), slice(None, -step)) if step > 0 else (slice(None, step), slice(-step, None))
        )
        same = (segment[near] == segment[far]).to(rows.dtype)[:, None]
        moved = rows[near] * same
        gap = rows.new_zeros(rows.shape[0] - moved.shape[0], rows.shape[1])
        shifted.append(torch.cat([moved, gap] if step > 0 else [gap, moved]))
    return torch.cat(shifted, dim=1)
