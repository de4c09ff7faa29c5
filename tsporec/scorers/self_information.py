"""Surprisal under a causal LM: keep what the model could not guess, as Selective Context does (Li et al., 2023)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - as the torch documentation writes it

from tsporec.language_model import base_model
from tsporec.scorers.language import LanguageScorer


class SelfInformationScorer(LanguageScorer):
    """Score a token by its surprisal ``-log p(token | the tokens before it in its text)``, in nats.

    The model reads its beginning-of-sequence token before the first token. If it has none, the first token's score is
    ``log V``, the surprisal of a uniform guess. Arguments are those of :class:`LanguageScorer`.

    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> from tsporec.tokens.ragged import RaggedTokens
    >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=2, bos_token_id=None))
    >>> SelfInformationScorer(model).score(RaggedTokens.from_lists([[4]])).round(2).tolist()
    [2.200000047683716]
    """

    name = "self_information"

    def read(self, ids: Tensor) -> Tensor:
        """Score ``ids`` int64 ``[B, L]``: float ``[B, L]``."""
        bos = self.model.config.bos_token_id
        known = ids if bos is None else torch.cat([torch.full_like(ids[:, :1], bos), ids], dim=1)
        states = base_model(self.model)(input_ids=known[:, : ids.shape[1]], use_cache=False)[0]
        head = self.model.get_output_embeddings()
        # One row at a time: the logits of a whole batch would take gigabytes.
        rows = [
            F.cross_entropy(head(state[: len(row) - 1]), row[1:], reduction="none")
            for state, row in zip(states, known, strict=True)
        ]
        if bos is not None:
            return torch.stack(rows)
        uniform = torch.full_like(states[:, :1, 0], math.log(head.weight.shape[0]))
        return torch.cat([uniform, torch.stack(rows)], dim=1)
