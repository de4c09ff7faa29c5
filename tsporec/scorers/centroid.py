"""Similarity of a token to its text: keep what the text is about, as KeyBERT does (Grootendorst, 2020)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - as the torch documentation writes it

from tsporec.language_model import base_model
from tsporec.scorers.language import LanguageScorer


class CentroidScorer(LanguageScorer):
    """Score a token by the cosine of its last hidden state and the mean of its text's states.

    Arguments are those of :class:`LanguageScorer`.

    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> from tsporec.tokens.ragged import RaggedTokens
    >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=2))
    >>> CentroidScorer(model).score(RaggedTokens.from_lists([[4]])).tolist()
    [1.0]
    """

    name = "centroid"

    def read(self, ids: Tensor) -> Tensor:
        """Score ``ids`` int64 ``[B, L]``: float ``[B, L]`` in [-1, 1]."""
        states: Tensor = base_model(self.model)(input_ids=ids, use_cache=False)[0].float()
        return F.cosine_similarity(states, states.mean(dim=1, keepdim=True), dim=-1)
