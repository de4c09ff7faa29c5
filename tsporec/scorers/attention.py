"""Attention received in a causal LM: keep what the rest of the text looks at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tsporec.language_model import base_model, layer_stack
from tsporec.scorers.language import LanguageScorer


class AttentionScorer(LanguageScorer):
    """The attention a token receives, the mean over layers, heads and the positions that can see it.

    The mean over ``L - t`` positions (its own among them) and not the sum, which would favour early tokens.

    Parameters
    ----------
    model, tokenizer, layers, batch_tokens, window
        As in :class:`LanguageScorer`. The attention is computed in full ("eager"), ``L * L`` numbers a head, one layer
        at a time: give a ``window`` where texts are long.
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

    def read(self, ids: Tensor) -> Tensor:
        """Scores ``[B, L]``; see :class:`LanguageScorer`."""
        with _attention_received(self.model) as received:
            base_model(self.model)(input_ids=ids, use_cache=False)
        missing = set(self.attention_layers) - set(received)
        if missing:
            raise ValueError(
                f"{type(self.model).__name__} shows no attention in layers {sorted(missing)}; choose others with "
                "attention_layers, or another model or scorer."
            )
        mean = torch.stack([received[layer] for layer in self.attention_layers]).mean(dim=0)
        return mean / torch.arange(ids.shape[1], 0, -1, device=ids.device)


@contextmanager
def _attention_received(model: Any) -> Iterator[dict[int, Tensor]]:
    """Layer -> attention received ``[B, L]``, the mean over heads, summed over positions, of the forward inside.

    The hooks are our own and are removed at the end: those that ``output_attentions`` installs stay, keep a model from
    being pickled, and are not installed in a process that got its model by pickle.
    """
    received: dict[int, Tensor] = {}

    def watch(layer: int) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            weights = output[1] if isinstance(output, tuple) and len(output) > 1 else None
            # A layer's attention is the first [B, H, L, L] in it; modules around it may hand it on.
            if layer not in received and isinstance(weights, Tensor) and weights.dim() == 4:
                received[layer] = weights.float().mean(dim=1).sum(dim=1)

        return hook

    configs: dict[int, Any] = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    before = [(config, config._attn_implementation) for config in configs.values()]
    layers = enumerate(layer_stack(model))
    handles = [m.register_forward_hook(watch(i)) for i, layer in layers for m in layer.modules()]
    for config, _ in before:
        config._attn_implementation = "eager"  # the others do not return attention
    try:
        yield received
    finally:
        for handle in handles:
            handle.remove()
        for config, implementation in before:
            config._attn_implementation = implementation
