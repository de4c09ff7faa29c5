"""Attention received in a causal LM: keep what the rest of the text attends to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tsporec.language_model import base_model, layer_stack
from tsporec.scorers.language import LanguageScorer


class AttentionScorer(LanguageScorer):
    """Score a token by the attention it receives: the mean over layers, heads and the positions that can see it.

    Token ``t`` of a text of length L is seen by ``L - t`` positions, itself included. A sum would favour early tokens.
    Arguments are those of :class:`LanguageScorer`. Attention is computed in full ("eager"): ``L * L`` numbers for each
    head, one layer at a time. Give a ``window`` for long texts.

    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> from tsporec.tokens.ragged import RaggedTokens
    >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=2))
    >>> AttentionScorer(model).score(RaggedTokens.from_lists([[4], [4, 5]])).shape
    (3,)
    """

    name = "attention"

    def read(self, ids: Tensor) -> Tensor:
        """Score ``ids`` int64 ``[B, L]``: float ``[B, L]``."""
        with _attention_received(self.model) as received:
            base_model(self.model)(input_ids=ids, use_cache=False)
        missing = set(range(self.model.config.num_hidden_layers)) - set(received)
        if missing:
            raise ValueError(
                f"{type(self.model).__name__} shows no attention in layers {sorted(missing)}; choose another model or "
                "scorer."
            )
        # received [B, L] sums over positions; place t of L is seen by L - t of them
        return torch.stack(list(received.values())).mean(dim=0) / torch.arange(ids.shape[1], 0, -1, device=ids.device)


@contextmanager
def _attention_received(model: Any) -> Iterator[dict[int, Tensor]]:
    """Collect, during one forward, layer -> attention received ``[B, L]``: the mean over heads, the sum over positions.

    1. Every module of every layer gets a hook. It keeps the first ``[B, H, L, L]`` tensor that the layer returns.
    2. The model is set to eager attention, since other implementations return no attention.
    3. At the end hooks and settings are as before. The hooks of ``output_attentions`` would stay, and a model with them
       cannot be pickled.
    """
    received: dict[int, Tensor] = {}

    def watch(layer: int) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            weights = output[1] if isinstance(output, tuple) and len(output) > 1 else None
            # Modules around the attention may return it again.
            if layer not in received and isinstance(weights, Tensor) and weights.dim() == 4:
                received[layer] = weights.float().mean(dim=1).sum(dim=1)

        return hook

    configs: dict[int, Any] = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    before = [(config, config._attn_implementation) for config in configs.values()]
    layers = enumerate(layer_stack(model))
    handles = [m.register_forward_hook(watch(i)) for i, layer in layers for m in layer.modules()]
    for config, _ in before:
        config._attn_implementation = "eager"
    try:
        yield received
    finally:
        for handle in handles:
            handle.remove()
        for config, implementation in before:
            config._attn_implementation = implementation
