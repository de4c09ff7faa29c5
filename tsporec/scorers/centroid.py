"""Likeness of a token's state to its text's mean: keep what the text is about (KeyBERT, Grootendorst, 2020)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - as the torch documentation writes it

from tsporec.language_model import base_model
from tsporec.scorers.language import LanguageScorer


class CentroidScorer(LanguageScorer):
    """Cosine of a token's last hidden state and the mean of the states of its text."""

    name = "centroid"

    def read(self, ids: Tensor) -> Tensor:
        """Scores ``[B, L]``; see :class:`LanguageScorer`."""
        states: Tensor = base_model(self.model)(input_ids=ids, use_cache=False)[0].float()
        return F.cosine_similarity(states, states.mean(dim=1, keepdim=True), dim=-1)
