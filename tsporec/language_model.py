"""Language models: loading one, cutting it to its first layers, and running it so that no result depends on a batch."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tsporec.progress import progress
from tsporec.ragged import RaggedTokens

_ROWS = 2  # rows of every forward: few, because a length that only one text has is filled up to them


def load_causal_lm(name_or_path: str | Path, layers: int | None = None) -> tuple[Any, Any]:
    """(causal LM in float32 and eval mode, its tokenizer) from a folder or a Hub id, cut to its first ``layers``."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path)
        model = AutoModelForCausalLM.from_pretrained(name_or_path, dtype=torch.float32)
    except OSError as error:
        raise ValueError(f"{name_or_path}: no language model could be loaded from there ({error}).") from error
    return cut_layers(model.eval(), layers), tokenizer


def cut_layers(model: Any, layers: int | None) -> Any:
    """``model`` with its first ``layers`` decoder layers; the weights are shared, the model given is not changed.

    Raises
    ------
    ValueError
        If there are not so many layers, or no list of layers is found.
    """
    if layers is None:
        return model
    name, stack = _layer_stack(model)
    if not 1 <= layers <= len(stack):
        raise ValueError(f"layers must be from 1 to {len(stack)} for this model, found {layers}.")
    cut = copy.copy(model)
    cut._modules = dict(model._modules)
    parent, path = cut, name.split(".")
    for part in path[:-1]:  # copy the way down, so that the original keeps its layers
        child = copy.copy(parent._modules[part])
        child._modules = dict(child._modules)
        parent._modules[part] = child
        parent = child
    parent._modules[path[-1]] = nn.ModuleList(list(stack)[:layers])
    cut.config = copy.deepcopy(model.config)
    cut.config.num_hidden_layers = layers
    if getattr(cut.config, "layer_types", None):
        cut.config.layer_types = cut.config.layer_types[:layers]
    for module in (m for m in cut.modules() if getattr(m, "config", None) is model.config):
        if not any(module is original for original in model.modules()):
            module.config = cut.config
    return cut


def _layer_stack(model: nn.Module) -> tuple[str, nn.ModuleList]:
    depth = int(model.config.num_hidden_layers)  # type: ignore[union-attr,arg-type]
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return name, module
    raise ValueError(f"{type(model).__name__} has no list of {depth} layers to cut; give a decoder-only model.")


def base_model(model: Any) -> Any:
    """The model below the language-model head: ids in, hidden states out."""
    return getattr(model, model.base_model_prefix, model)


def run_equal_lengths(
    tokens: RaggedTokens, run: Callable[[Tensor], Tensor], device: torch.device, description: str = ""
) -> NDArray[np.float32]:
    """Apply ``run`` (int64 ``[2, L]`` -> float ``[2, L, ...]``) to every segment: float32 ``[T, ...]``.

    Segments of one length go together, always two rows a call (an odd one is repeated). So there
    is no padding, and a segment's result never depends on what else is in the batch.
    """
    lengths = tokens.lengths
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    cuts = np.flatnonzero(np.diff(lengths[order])) + 1
    batches = [b for group in np.split(order, cuts) for b in np.split(group, range(_ROWS, len(group), _ROWS)) if len(b)]
    out: NDArray[np.float32] | None = None
    with torch.inference_mode():
        for batch in progress(batches, description=description):
            rows = np.stack([tokens[int(i)] for i in batch])
            full = np.concatenate([rows, np.repeat(rows[:1], _ROWS - len(rows), axis=0)]).astype(np.int64)
            result = run(torch.from_numpy(full).to(device)).float().cpu().numpy()[: len(rows)]
            if out is None:
                out = np.zeros((tokens.num_tokens, *result.shape[2:]), dtype=np.float32)
            where = tokens.cu_seqlens[batch][:, None] + np.arange(rows.shape[1])
            out[where] = result
    return np.zeros(tokens.num_tokens, dtype=np.float32) if out is None else out


def weights_digest(model: nn.Module) -> list[Any]:
    """What tells one model's weights from another's at little cost: shapes and sums of every tensor."""
    return [
        [name, list(w.shape), float(w.float().sum()), float(w.float().abs().sum())]
        for name, w in model.state_dict().items()
    ]
