"""Learned weights for the tokens of known texts, added to the scores of a selector.

A reward often says something about one item that its spelling cannot say: it is about that item and the users who
touched it. Recommenders serve the items that they were trained on, so this is worth keeping. Each token of a known
text has one weight, learned from preferences as the network is. A text is found by the digest of its token ids.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tsporec._internal.digest import short_digests
from tsporec.scorers.base import Scores
from tsporec.tokens.ragged import RaggedTokens, lengths_to_offsets, ranges

_GAIN = 20.0  # scores per unit of weight: an optimiser's step that suits shared weights is too small for these


class ItemWeights(nn.Module):
    """One learned weight for each token of K known texts; see :meth:`tsporec.TokenSelector.with_item_weights`.

    Parameters
    ----------
    digests : int64 ``[K]``
        Digests of the texts' token ids, ascending.
    starts : int64 ``[K + 1]``
        Text ``k`` has the weights ``weight[starts[k]:starts[k + 1]]``, one a token.
    weight : float32 ``[W]``
        The weights, in units of 20 score points.
    tokenizer_fingerprint : str
        The tokenizer that made the ids.
    max_tokens : int, optional
        The known texts were cut to this many tokens. A longer text is then found by its first ``max_tokens`` tokens,
        and the tokens behind them have no weights. Default: texts are found whole.

    Raises
    ------
    ValueError
        If the tensors do not fit each other, or a weight is not finite.

    Examples
    --------
    >>> weights = ItemWeights.zeros(RaggedTokens.from_lists([[5, 6, 7], [8, 9]]), "a tokenizer")
    >>> tokens, places = weights.find(RaggedTokens.from_lists([[4], [8, 9]]))
    >>> tokens.tolist()  # the tokens of known texts, as positions into all five ids
    [1, 2]
    """

    digests: Tensor
    starts: Tensor

    def __init__(
        self, digests: Tensor, starts: Tensor, weight: Tensor, tokenizer_fingerprint: str, max_tokens: int | None = None
    ) -> None:
        super().__init__()
        if (
            [part.dtype for part in (digests, starts, weight)] != [torch.int64, torch.int64, torch.float32]
            or [part.dim() for part in (digests, starts, weight)] != [1, 1, 1]
            or len(starts) != len(digests) + 1
        ):
            raise ValueError(
                "expected digests int64 [K], starts int64 [K + 1] and weight float32 [W]; found "
                + ", ".join(f"{part.dtype} {list(part.shape)}" for part in (digests, starts, weight))
                + "."
            )
        if starts[0] != 0 or starts[-1] != len(weight) or bool((starts.diff() < 0).any()):
            raise ValueError(f"starts must ascend from 0 to the {len(weight)} weights; they do not.")
        if bool((digests[1:] <= digests[:-1]).any()):
            raise ValueError("digests must ascend, each once; they do not.")
        if not bool(torch.isfinite(weight).all()):
            raise ValueError("a weight is NaN or infinite; every weight must be finite.")
        if max_tokens is not None and max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1; found {max_tokens}.")
        self.register_buffer("digests", digests)
        self.register_buffer("starts", starts)
        self.weight = nn.Parameter(weight)
        self.tokenizer_fingerprint, self.max_tokens = tokenizer_fingerprint, max_tokens

    @classmethod
    def zeros(cls, corpus: RaggedTokens, tokenizer_fingerprint: str, max_tokens: int | None = None) -> ItemWeights:
        """Zero weights for the texts of ``corpus``, one text a segment; equal texts share their weights."""
        digests, first = np.unique(text_digests(corpus), return_index=True)
        starts = torch.from_numpy(np.append(0, corpus.lengths[first].astype(np.int64).cumsum()))
        weight = torch.zeros(int(starts[-1]))
        return cls(torch.from_numpy(digests), starts, weight, tokenizer_fingerprint, max_tokens)

    def find(self, tokens: RaggedTokens) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Find the known texts among N segments of T tokens.

        Returns
        -------
        positions : int64 ``[F]``
            The tokens of known texts, as positions into ``[T]``, ascending.
        places : int64 ``[F]``
            The weight of each, as positions into ``weight``.
        """
        digests, starts = self.digests.cpu().numpy(), self.starts.cpu().numpy()
        read = tokens.lengths.astype(np.int64)
        if self.max_tokens is not None:
            # Each segment cut to its first max_tokens: ids [5 6 7 | 8 9], max_tokens 2 -> [5 6 | 8 9].
            read = np.minimum(read, self.max_tokens)
            ids = tokens.ids[ranges(tokens.cu_seqlens[:-1].astype(np.int64), read)]
            wanted = text_digests(RaggedTokens(ids, lengths_to_offsets(read)))
        else:
            wanted = text_digests(tokens)
        # Digest of each segment -> (segments that are known, the text of each).
        text = np.searchsorted(digests, wanted)
        segments = np.flatnonzero(text < len(digests))
        segments = segments[digests[text[segments]] == wanted[segments]]
        text, lengths = text[segments], read[segments]
        # A text of another length has the same digest by accident: it is not known.
        same = starts[text + 1] - starts[text] == lengths
        first = tokens.cu_seqlens[segments].astype(np.int64)
        return ranges(first[same], lengths[same]), ranges(starts[text][same], lengths[same])

    def forward(self, logits: Tensor, tokens: RaggedTokens) -> Tensor:
        """``logits [T]`` plus the weights of known texts, differentiable in the weights."""
        positions, places = (torch.from_numpy(part).to(logits.device) for part in self.find(tokens))
        return logits.index_add(0, positions, _GAIN * self.weight.index_select(0, places))

    @torch.no_grad()
    def add_to(self, scores: Scores, tokens: RaggedTokens) -> None:
        """Add the weights of known texts to ``scores`` float32 ``[T]``, in place."""
        positions, places = self.find(tokens)
        scores[positions] += np.float32(_GAIN) * self.weight.cpu().numpy()[places]

    @torch.no_grad()
    def set_differences(self, tokens: RaggedTokens, differences: Scores) -> None:
        """Set the weights of known texts so that they add ``differences`` float32 ``[T]`` to their scores."""
        positions, places = self.find(tokens)
        wanted = torch.from_numpy((differences[positions] / _GAIN).astype(np.float32))
        self.weight[torch.from_numpy(places).to(self.weight.device)] = wanted.to(self.weight.device)


def text_digests(tokens: RaggedTokens) -> NDArray[np.int64]:
    """int64 ``[N]``: a digest of the token ids of each segment; equal segments have equal digests."""
    return short_digests(segment.tobytes() for segment in tokens).view(np.int64)
