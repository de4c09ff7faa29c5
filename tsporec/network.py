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


def text_signals(ids: Tensor, segment: Tensor, start: Tensor, length: Tensor, idf: Tensor, classes: Tensor) -> Tensor:
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
        self.first = nn.Linear(5 * dim + len(SIGNALS), hidden)
        self.context = nn.Linear(hidden, hidden, bias=False)
        self.second = nn.Linear(3 * hidden, hidden)
        self.out = nn.Linear(hidden, 1, bias=False)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.out.weight)

    def forward(
        self,
        rows: Tensor,
        signals: Tensor,
        segment: Tensor,
        near: Tensor,
        lengths: Tensor,
        linear: Linear = F.linear,
    ) -> Tensor:
        """float32 ``[T]`` from token features ``rows [T, dim]`` and ``signals [T, S]``.

        ``segment`` int64 ``[T]`` ascending; ``near`` as :func:`neighbours` gives it; ``lengths`` int64 ``[N]`` of
        the segments; ``linear`` computes every matrix product.
        """
        read = torch.cat([_window(rows, near), signals], dim=1)
        hidden = F.relu(linear(read, self.first.weight, self.first.bias))
        total = hidden.new_zeros(lengths.shape[0], hidden.shape[1])
        total = total.index_add(0, segment, hidden)
        mean = linear(total / lengths.clamp(min=1)[:, None], self.context.weight, None)
        hidden = self.dropout(hidden)
        deeper = linear(_window(hidden, near[:, 1:4]), self.second.weight, self.second.bias)
        deeper = self.dropout(F.relu(deeper + mean.index_select(0, segment)))
        # Not a matrix-vector product: its order of additions depends on the number of rows.
        logits: Tensor = (deeper * self.out.weight[0]).sum(dim=1)
        return logits


def neighbours(start: Tensor, length: Tensor) -> Tensor:
    """int64 ``[T, 5]``: the positions of each token's neighbours, itself in the middle; T where there is none.

    ``start`` and ``length`` int64 ``[T]`` are those of each token's segment.
    """
    count = start.shape[0]
    near = torch.arange(count, device=start.device)[:, None] + torch.arange(-2, 3, device=start.device)
    outside = (near < start[:, None]) | (near >= (start + length)[:, None])
    return near.masked_fill_(outside, count)


def _window(rows: Tensor, near: Tensor) -> Tensor:
    """``[T, W * width]``: the rows at ``near [T, W]`` side by side, zeros where ``near`` is T."""
    padded = F.pad(rows, (0, 0, 0, 1))
    return padded.index_select(0, near.reshape(-1)).view(rows.shape[0], near.shape[1] * rows.shape[1])
