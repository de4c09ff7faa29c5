"""Attention received in a causal LM: keep what the rest of the text looks at."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tsporec.language_model import base_model
from tsporec.scorers.language import LanguageScorer


class AttentionScorer(LanguageScorer):
    """The attention a token receives, the mean over layers, heads and the positions that can see it.

    The mean over ``L - t`` positions (its own among them) and not the sum, which would favour early tokens.

    Parameters
    ----------
    model, tokenizer, layers
        As in :class:`LanguageScorer`. The attention is computed in full ("eager"), ``L * L`` numbers a head.
    """

    name = "attention"

    def read(self, ids: Tensor) -> Tensor:
        """Scores ``[B, L]``; see :class:`LanguageScorer`."""
        model = base_model(self.model)
        configs = {id(module.config): module.config for module in model.modules() if hasattr(module, "config")}
        before = {key: config._attn_implementation for key, config in configs.items()}
        for config in configs.values():
            config._attn_implementation = "eager"  # the others do not return attention
        try:
            attentions: Any = model(input_ids=ids, use_cache=False, output_attentions=True).attentions
        finally:
            for key, config in configs.items():
                config._attn_implementation = before[key]
        received = torch.stack([layer.float().mean(dim=1).sum(dim=1) for layer in attentions]).mean(dim=0)
        return received / torch.arange(ids.shape[1], 0, -1, device=ids.device)
