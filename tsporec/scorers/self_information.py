"""Surprisal under a causal LM: keep what the model could not have guessed (Li et al., 2023, Selective Context)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - as the torch documentation writes it

from tsporec.language_model import base_model
from tsporec.scorers.language import LanguageScorer


class SelfInformationScorer(LanguageScorer):
    """``-log p(token | the tokens before it in its text)``, in nats.

    The first token follows the model's beginning-of-sequence token; where it has none, its score is ``log V``, the
    surprisal of a uniform guess.
    """

    name = "self_information"

    def read(self, ids: Tensor) -> Tensor:
        """Scores ``[B, L]``; see :class:`LanguageScorer`."""
        bos = self.model.config.bos_token_id
        given = ids if bos is None else torch.cat([torch.full_like(ids[:, :1], bos), ids], dim=1)
        states = base_model(self.model)(input_ids=given[:, :-1] if bos is not None else given, use_cache=False)[0]
        head = self.model.get_output_embeddings()
        # A row at a time: the logits of a batch would be gigabytes.
        if bos is not None:
            return torch.stack(
                [F.cross_entropy(head(s), row, reduction="none") for s, row in zip(states, ids, strict=True)]
            )
        rest = [F.cross_entropy(head(s[:-1]), row[1:], reduction="none") for s, row in zip(states, ids, strict=True)]
        uniform = torch.full_like(states[:, :1, 0], float(torch.tensor(float(head.weight.shape[0])).log()))
        return torch.cat([uniform, torch.stack(rest)], dim=1)
