"""The scoring network: one logit for each token, from the token, its neighbours and its text.

``logit = rule + network``. The rule is a weighted sum of cheap signals (idf, first occurrence, place ...), and works
untrained. The network adds what preferences teach; it gives 0 until it has learned.

The first layer is linear in the features of five tokens. So its product with each vocabulary id at each of the five
places is computed once (:class:`Scoring`), and a token then costs five look-ups and additions there.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as the torch documentation writes it

from tsporec.scorers.base import Scores
from tsporec.selector.config import SPREAD
from tsporec.selector.text_rows import TEXT_SIGNALS, WINDOW, Texts, groups, lay_out, lay_out_numpy
from tsporec.selector.vocabulary import CLASSES, Vocabulary
from tsporec.tokens.ragged import RaggedTokens, ranges

SIGNALS = ("idf", *TEXT_SIGNALS, *CLASSES)
"""The cheap signals of a token, in column order.

``TEXT_SIGNALS`` depend on the text, the others on the vocabulary id alone. "idf" is the inverse document frequency or,
for the weightings "tfidf" and "placed", four times its logarithm.
"""

_OF_TEXT = slice(1, 1 + len(TEXT_SIGNALS))


class ScoringNetwork(nn.Module):
    """A window of 5 token features, the mean of the text, a window of 3 hidden states, one logit.

    A token costs ``5 * hidden`` additions and ``3 * hidden**2 + hidden * (len(TEXT_SIGNALS) + 1)`` multiply-adds.
    """

    def __init__(self, dim: int, hidden: int, gram_buckets: int) -> None:
        super().__init__()
        self.grams = nn.Embedding(gram_buckets, dim)
        nn.init.normal_(self.grams.weight, std=0.5)
        self.classes = nn.Linear(len(CLASSES), dim, bias=False)
        self.first = nn.Linear(WINDOW * dim + len(SIGNALS), hidden)
        self.context = nn.Linear(hidden, hidden, bias=False)
        self.second = nn.Linear(3 * hidden, hidden)
        self.out = nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(self.out.weight)

    def slots(self, vocabulary: Vocabulary, ids: NDArray[np.int64], signals: Tensor) -> Tensor:
        """Make ``Scoring.slots`` for vocabulary ids ``[M]`` and their signals ``[M, 1 + CLASSES]``."""
        # Features of each id, the mean of its n-grams' and those of its classes: packed [G'] buckets -> [M, dim].
        counts = np.diff(vocabulary.gram_offsets)[ids]
        grams = vocabulary.grams[ranges(vocabulary.gram_offsets[:-1][ids], counts)]
        starts = np.cumsum(counts) - counts
        buckets, offsets = (torch.from_numpy(part).to(signals.device) for part in (grams, starts))
        rows = F.embedding_bag(buckets, self.grams.weight, offsets, mode="mean") + self.classes(signals[:, 1:])
        # [hidden, 5 * dim] -> [5 * hidden, dim], so that one product gives all places: [M, dim] -> [M, 5, hidden].
        width, hidden = rows.shape[1], self.first.out_features
        weight, of_signals = torch.split(self.first.weight, [WINDOW * width, len(SIGNALS)], dim=1)
        places = weight.view(hidden, WINDOW, width).transpose(0, 1).reshape(WINDOW * hidden, width)
        slots = F.linear(rows, places).view(-1, WINDOW, hidden)
        # Signals and bias count at the token itself, place 2 of the window.
        here = F.linear(signals, of_id(of_signals), self.first.bias)
        slots = torch.cat([slots[:, :2], slots[:, 2:3] + here[:, None], slots[:, 3:]], dim=1)
        return F.pad(slots.view(-1, hidden), (0, 0, 0, WINDOW)).float()

    def scoring(
        self, blend: Tensor, idf: Tensor, weighting: str, vocabulary: Vocabulary, ids: NDArray[np.int64]
    ) -> Scoring:
        """Make the scoring of vocabulary ids ``[M]``, in the dtype of ``blend``; ``idf`` has a value for each spelling.

        It has no slots where these change nothing: without gradients, while the output weights are 0.
        """
        values = idf[torch.from_numpy(vocabulary.surface[ids]).to(blend.device)].to(blend.dtype)
        if weighting != "idf":
            values = SPREAD * values.clamp(min=1).log()
        signals = torch.cat([values[:, None], torch.from_numpy(vocabulary.classes[ids]).to(blend)], dim=1)
        rule = F.pad((signals * of_id(blend)).sum(dim=1), (0, 1))
        counts = torch.is_grad_enabled() or bool(self.out.weight.any())
        slots = self.slots(vocabulary, ids, signals) if counts else None
        terms = torch.from_numpy(np.unique(vocabulary.pieces.terms[ids], return_inverse=True)[1].astype(np.int64))
        return Scoring(self, blend, slots, rule, terms.to(blend.device))

    def forward(self, slots: Tensor, texts: Texts, dropout: float = 0.0) -> Tensor:
        """Compute the network's part of the logits ``[R - 2]``, in its dtype: all rows but the outer two."""
        # First layer: 5 look-ups a row, their sum, and the signals of the text: [R, 5] -> [R, hidden].
        near = (texts.ids * WINDOW).unfold(0, WINDOW, 1) + torch.arange(WINDOW, device=slots.device)
        of_text = self.first.weight[:, -len(SIGNALS) :][:, _OF_TEXT]
        hidden = F.embedding_bag(near, slots, mode="sum").to(of_text.dtype)
        hidden = hidden.addmm_(texts.signals.t(), of_text.t()).mul_(texts.inside[:, None]).relu_()
        size, width = hidden.shape
        # Mean of each text: [R, hidden] -> [N, hidden]. Empty rows are 0 and add nothing.
        total = hidden.new_zeros(texts.lengths.shape[0], width).index_add(0, texts.segment, hidden)
        mean = total / texts.lengths.clamp(min=1)[:, None]
        mean = torch.addmm(self.second.bias, mean, self.context.weight.t())
        if dropout:
            hidden = F.dropout(hidden, dropout)
        # Second layer: the text's mean and, for each place of a window of 3, a product: [R, hidden] -> [R - 2, hidden].
        deeper = mean.index_select(0, texts.segment[1:-1])
        for place, weight in enumerate(torch.split(self.second.weight, width, dim=1)):
            deeper = deeper.addmm_(hidden[place : size - 2 + place], weight.t())
        deeper = deeper.relu_()
        if dropout:
            deeper = F.dropout(deeper, dropout)
        return F.linear(deeper, self.out.weight)[:, 0]


class Scoring(NamedTuple):
    """The network, the weights of the rule, and the values that they look up for M vocabulary ids.

    Id M is the padding id, whose values are all 0.
    """

    network: ScoringNetwork
    blend: Tensor
    """``[len(SIGNALS)]``: the weights of the rule."""
    slots: Tensor | None
    """float32 ``[(M + 1) * 5, hidden]``. Row ``5 m + p``: what id ``m`` adds to the first layer of a token when it
    stands ``p - 2`` places after that token. None where the network gives 0 for every token."""
    rule: Tensor
    """``[M + 1]``: the part of the rule that depends on the id alone."""
    terms: Tensor
    """int64 ``[M]``: the term of each id, below M."""

    @property
    def absent(self) -> int:
        """The padding id M."""
        return self.rule.shape[0] - 1

    def logits(self, texts: Texts, dropout: float = 0.0) -> Tensor:
        """Compute the logits ``[T]`` of texts of these vocabulary ids, in the dtype of ``blend`` and the network.

        float64 logits, rounded to float32, have the same bits in any batch and with any number of threads. A matrix
        library picks the order of additions by the number of rows, the row's place and the threads; the difference is
        lost in the rounding.
        """
        found = self.rule.index_select(0, texts.row_ids) + (texts.signals * self.blend[_OF_TEXT, None]).sum(dim=0)
        found = found.index_select(0, texts.rows)
        if self.slots is not None:
            found = found + self.network(self.slots, texts, dropout).index_select(0, texts.rows - 1)
        return found

    def score(self, tokens: RaggedTokens) -> Scores:
        """Score packed segments, as many at once as fit into a processor's cache: float32 ``[T]``."""
        scores = np.empty(tokens.num_tokens, dtype=np.float32)
        terms, device = self.terms.cpu().numpy(), self.blend.device
        for first, last in groups(tokens.cu_seqlens):
            start, end = tokens.cu_seqlens[first], tokens.cu_seqlens[last]
            ids, cu_seqlens = tokens.ids[start:end], tokens.cu_seqlens[first : last + 1] - start
            texts = lay_out_numpy(ids, terms[ids], cu_seqlens, self.absent)
            if device.type != "cpu":
                texts = Texts(*(part.to(device) for part in texts))
            scores[start:end] = self.logits(texts).cpu().numpy()
        return scores


def check_precision(weight: Tensor) -> None:
    """Refuse the weights of a selector that was converted to another precision."""
    if weight.dtype != torch.float32:
        raise ValueError(
            f"this selector's weights are {weight.dtype}, and it scores in torch.float32; call selector.float(), and "
            "leave it out where a model around it is converted."
        )


_COMPILES = torch.__version__ >= "2.13"


class FrozenSelector(nn.Module):
    """A copy of a selector's scoring with its tables as buffers, for ``torch.compile`` and ``torch.export``."""

    blend: Tensor
    slots: Tensor | None
    rule: Tensor
    terms: Tensor

    def __init__(self, scoring: Scoring) -> None:
        super().__init__()
        self.network = copy.deepcopy(scoring.network).requires_grad_(False)
        for name in ("blend", "slots", "rule", "terms"):
            value = getattr(scoring, name)
            self.register_buffer(name, None if value is None else value.detach().clone())
        self.eval()

    def forward(self, ids: Tensor, cu_seqlens: Tensor) -> Tensor:
        """Compute logits float32 ``[T]`` from vocabulary ids ``[T]``, unchecked, and ``cu_seqlens`` int ``[N + 1]``."""
        if not _COMPILES and torch.compiler.is_compiling():  # torch 2.6 compiles it to other scores
            raise RuntimeError(f"a selector compiles and exports with torch 2.13 or newer; found {torch.__version__}.")
        scoring = Scoring(self.network, self.blend, self.slots, self.rule, self.terms)
        # One empty text more, so that a single text is no special case to the compiler.
        cu_seqlens = torch.cat([cu_seqlens, cu_seqlens[-1:]])
        return scoring.logits(lay_out(ids, scoring.terms[ids], cu_seqlens, scoring.absent))


def of_id(columns: Tensor) -> Tensor:
    """Return the columns of ``[..., len(SIGNALS)]`` that depend on the vocabulary id alone."""
    return torch.cat([columns[..., :1], columns[..., _OF_TEXT.stop :]], dim=-1)
