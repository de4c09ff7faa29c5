"""Attention received in a causal LM: keep what the rest of the text looks at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tsporec.language_model import base_model
from tsporec.ragged import RaggedTokens
from tsporec.scorers.base import Scores
from tsporec.scorers.language import LanguageScorer


class AttentionScorer(LanguageScorer):
    """The attention a token receives, the mean over layers, heads and the positions that can see it.

    The mean over ``L - t`` positions (its own among them) and not the sum, which would favour early tokens.

    Parameters
    ----------
    model, tokenizer, layers, batch_tokens, window
        As in :class:`LanguageScorer`. The attention is computed in full ("eager"): ``L * L`` numbers a head and layer
        are held at once, so give a ``window`` where texts are long.
    attention_layers : ints, optional
        The layers whose attention counts, from 0; -1 is the last that is read. By default all.
    """

    name = "attention"

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        layers: int | None = None,
        batch_tokens: int | None = None,
        window: int | None = None,
        attention_layers: Sequence[int] | None = None,
    ) -> None:
        super().__init__(model, tokenizer, layers, batch_tokens, window)
        depth = int(self.model.config.num_hidden_layers)
        chosen = list(range(depth)) if attention_layers is None else list(attention_layers)
        if not chosen or not all(-depth <= layer < depth for layer in chosen):
            raise ValueError(
                f"attention_layers must name some of the {depth} layers that are read, from {-depth} to {depth - 1}; "
                f"found {chosen}."
            )
        self.attention_layers = sorted({layer % depth for layer in chosen})

    def config(self) -> dict[str, Any]:
        """As in :class:`LanguageScorer`, and the layers whose attention counts."""
        return {**super().config(), "attention_layers": self.attention_layers}

    def _score_own(self, tokens: RaggedTokens) -> Scores:
        with _showing_attention(self.model):
            return super()._score_own(tokens)

    def read(self, ids: Tensor) -> Tensor:
        """Scores ``[B, L]``; see :class:`LanguageScorer`."""
        attentions: Any = base_model(self.model)(input_ids=ids, use_cache=False, output_attentions=True).attentions
        chosen = [attentions[layer].float().mean(dim=1).sum(dim=1) for layer in self.attention_layers]
        return torch.stack(chosen).mean(dim=0) / torch.arange(ids.shape[1], 0, -1, device=ids.device)


@contextmanager
def _showing_attention(model: nn.Module) -> Iterator[None]:
    """Compute attention "eagerly" (the other ways do not return it), and leave the model as it was."""
    configs: dict[int, Any] = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    before = [(config, config._attn_implementation) for config in configs.values()]
    # transformers hooks the layers to see their attention: with the hooks left there, a model does not pickle.
    modules = [(module, set(module.__dict__), module._forward_hooks.copy()) for module in model.modules()]
    for config, _ in before:
        config._attn_implementation = "eager"
    try:
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation = implementation
        for module, attributes, hooks in modules:
            for name in set(module.__dict__) - attributes:
                delattr(module, name)
            for key in set(module._forward_hooks) - set(hooks):
                del module._forward_hooks[key]
