"""The scoring network: a logit a token from the token, its neighbours and its text.

``logit = blend · signals + network(token features, signals, text mean)``. The first term is a linear rule
over cheap signals (idf, first occurrence, place ...), which works untrained; the second is zero at the start
and is what preference learning adds.

What the first layer makes of an entry of the vocabulary at each of the five places of a window is computed once a
table (:class:`Entries`), so that a token costs five look-ups and additions there, and no product.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as the torch documentation writes it

from tsporec.selector.layout import TEXT_SIGNALS, WINDOW, Texts, lay_out
from tsporec.selector.lexicon import TensorWords, Words
from tsporec.selector.vocabulary import CLASSES

SIGNALS = ("idf", *TEXT_SIGNALS, *CLASSES)
"""The cheap signals of a token in its text, in column order: the entry's own, but for ``TEXT_SIGNALS``.

"idf" is as ``SelectorConfig.weighting`` has it: the inverse document frequency, or four times its logarithm.
"""

_OF_TEXT = slice(1, 1 + len(TEXT_SIGNALS))


class Entries(NamedTuple):
    """M vocabulary entries, ready for look-ups; the entry M is the absent one, all zeros.

    Parameters
    ----------
    slots : float32 ``[(M + 1) * 5, hidden]``, or None
        Row ``5 m + p``: what entry ``m`` adds to the first layer of the token it is ``p - 2`` places after. None where
        the network's answer is 0.
    rule : float ``[M + 1]``
        Its part of ``blend · signals``; float64 in the table that scoring uses, float32 elsewhere.
    """

    slots: Tensor | None
    rule: Tensor

    @property
    def absent(self) -> int:
        """M."""
        return self.rule.shape[0] - 1


class ScoringNetwork(nn.Module):
    """A window of 5 token features, the text's mean, a window of 3 hidden states, a logit.

    Parameters
    ----------
    dim, hidden : int
        Widths of the token features and of the hidden states. The cost is ``5 * hidden`` additions and
        ``3 * hidden**2 + hidden * (len(TEXT_SIGNALS) + 1)`` multiply-adds a token.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(WINDOW * dim + len(SIGNALS), hidden)
        self.context = nn.Linear(hidden, hidden, bias=False)
        self.second = nn.Linear(3 * hidden, hidden)
        self.out = nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(self.out.weight)

    def slots(self, rows: Tensor, own: Tensor) -> Tensor:
        """``Entries.slots`` of token features ``rows [M, dim]`` and the entries' own signals ``[M, 1 + CLASSES]``."""
        width, hidden = rows.shape[1], self.first.out_features
        weight, signals = torch.split(self.first.weight, [WINDOW * width, len(SIGNALS)], dim=1)
        places = weight.view(hidden, WINDOW, width).transpose(0, 1).reshape(WINDOW * hidden, width)
        slots = F.linear(rows, places).view(-1, WINDOW, hidden)
        here = F.linear(own, _own(signals), self.first.bias)
        slots = torch.cat([slots[:, :2], slots[:, 2:3] + here[:, None], slots[:, 3:]], dim=1)
        return F.pad(slots.view(-1, hidden), (0, 0, 0, WINDOW))

    def forward(self, slots: Tensor, texts: Texts, dropout: float = 0.0) -> Tensor:
        """The network's part of the logits ``[R]``, in the dtype of its weights; see :func:`logits`."""
        near = (texts.ids * WINDOW).unfold(0, WINDOW, 1) + torch.arange(WINDOW, device=slots.device)
        of_text = self.first.weight[:, -len(SIGNALS) :][:, _OF_TEXT]
        gathered = F.embedding_bag(near, slots, mode="sum").to(of_text.dtype)
        hidden = torch.addmm(gathered, texts.signals.t(), of_text.t())
        # Rows without a token are zeros, as what surrounds a text.
        hidden = hidden.mul_(texts.inside[:, None]).relu_()
        size, width = hidden.shape
        total = hidden.new_zeros(texts.starts.shape[0], width).index_add(0, texts.segment, hidden)
        mean = total / texts.lengths.clamp(min=1)[:, None]
        mean = torch.addmm(self.second.bias, mean, self.context.weight.t())
        if dropout:
            hidden = F.dropout(hidden, dropout)
        window = F.pad(hidden, (0, 0, 1, 1)).as_strided((size, 3 * width), (width, 1))
        deeper = torch.addmm(mean.index_select(0, texts.segment), window, self.second.weight.t()).relu_()
        if dropout:
            deeper = F.dropout(deeper, dropout)
        return (deeper * self.out.weight[0]).sum(dim=1)


def make_entries(
    network: ScoringNetwork, blend: Tensor, rows: Tensor, idf: Tensor, classes: Tensor, only_rule: bool = False
) -> Entries:
    """:class:`Entries` of token features ``rows [M, dim]``, ``idf [M]`` and ``classes [M, C]``."""
    own = torch.cat([idf[:, None], classes], dim=1)
    rule = F.pad((own * _own(blend)).sum(dim=1), (0, 1))
    return Entries(None if only_rule else network.slots(rows, own), rule)


def logits(
    network: ScoringNetwork,
    blend: Tensor,
    entries: Entries,
    texts: Texts,
    dropout: float = 0.0,
) -> Tensor:
    """The logits ``[T]`` of texts of entries, in the dtype of ``blend``, which is that of the network's weights.

    Parameters
    ----------
    blend : float ``[len(SIGNALS)]``
        In float64 the logits, rounded to float32, do not depend on the order in which a matrix product adds up: a
        matrix library picks that order by the number of rows, the row's place and the number of threads.
    """
    found = entries.rule.index_select(0, texts.own) + (texts.signals * blend[_OF_TEXT, None]).sum(dim=0)
    if entries.slots is not None:
        found = found + network(entries.slots, texts, dropout)
    return found.index_select(0, texts.rows)


class FrozenSelector(nn.Module):
    """A selector's scoring with its table as buffers: for ``torch.compile`` and ``torch.export``.

    Parameters
    ----------
    network : ScoringNetwork
    blend : float32 ``[len(SIGNALS)]``
    entries : Entries
        Of the whole vocabulary.
    words : Words, optional
        Of its lexicon.
    """

    slots: Tensor | None
    rule: Tensor
    blend: Tensor

    def __init__(self, network: ScoringNetwork, blend: Tensor, entries: Entries, words: Words | None = None) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.words = None if words is None else TensorWords(words)
        for name, value in (("blend", blend), *entries._asdict().items()):
            self.register_buffer(name, None if value is None else value.detach().clone())
        self.eval()

    def forward(self, ids: Tensor, cu_seqlens: Tensor) -> Tensor:
        """float32 ``[T]`` from ids int ``[T]``, all in the vocabulary, and ``cu_seqlens`` int ``[N + 1]``."""
        entries = Entries(self.slots, self.rule)
        if self.words is not None:
            ids, cu_seqlens, of_token = self.words(ids, cu_seqlens, entries.absent)
            found = logits(self.network, self.blend, entries, lay_out(ids, cu_seqlens, entries.absent))
            return found.index_select(0, of_token)
        # With an empty text more, a single one is no special case to the compiler.
        cu_seqlens = torch.cat([cu_seqlens, cu_seqlens[-1:]])
        return logits(self.network, self.blend, entries, lay_out(ids, cu_seqlens, entries.absent))


def _own(columns: Tensor) -> Tensor:
    """The columns of ``[..., len(SIGNALS)]`` that belong to the entry."""
    return torch.cat([columns[..., :1], columns[..., _OF_TEXT.stop :]], dim=-1)
