"""Language models: loading one, cutting it to its first layers, and running it so that no result depends on a batch."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tsporec._internal.progress import progress
from tsporec.tokens.ragged import RaggedTokens

_BATCH_TOKENS = 4096  # tokens of one forward on an accelerator
_BITS = 12  # of a score's significand that are kept: see round_scores
_SAMPLES = 64  # values of each tensor in a digest, so that it sees where weights are and not only which
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_NOT_MEANING = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "use_cache")


def load_causal_lm(name_or_path: str | Path, layers: int | None = None) -> tuple[Any, Any]:
    """(causal LM in float32 and eval mode, its tokenizer) from a folder or a Hub id, cut to its first ``layers``."""
    model, tokenizer = load_pretrained("AutoModelForCausalLM", name_or_path)
    return cut_layers(model, layers), tokenizer


def load_pretrained(auto_class: str, name_or_path: str | Path) -> tuple[Any, Any]:
    """(model in float32 and eval mode, its tokenizer) by one of transformers' Auto classes, from safetensors only.

    Raises
    ------
    ValueError
        If there is no such folder or Hub id, or it has no safetensors.
    """
    import transformers

    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()
    tokenizer = load_tokenizer(name_or_path)
    try:
        model = getattr(transformers, auto_class).from_pretrained(
            name_or_path, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
    except OSError as error:
        raise ValueError(
            f"{name_or_path}: no model could be loaded from there ({error}). Give a folder or Hub id with config.json, "
            "a tokenizer and weights as safetensors."
        ) from error
    return model.eval(), tokenizer


def load_tokenizer(name_or_path: str | Path) -> Any:
    """The tokenizer in a folder or of a Hub id. Code that comes with it is never run.

    Raises
    ------
    ValueError
        If there is none, or it needs code of its own.
    """
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{name_or_path}: no tokenizer could be loaded from there ({error}). Give a folder or Hub id with "
            "tokenizer.json; one that needs code of its own is refused."
        ) from error


def cut_layers(model: Any, layers: int | None) -> Any:
    """``model`` with its first ``layers`` decoder layers; the weights are shared, the model given is not changed.

    Raises
    ------
    ValueError
        If there are not so many layers, or no list of layers is found.
    """
    if layers is None:
        return model
    name, stack = layer_stack(model)
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


def layer_stack(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Name and modules of the decoder layers: the list as long as the config says."""
    depth = int(model.config.num_hidden_layers)  # type: ignore[union-attr,arg-type]
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return name, module
    raise ValueError(f"{type(model).__name__} has no list of {depth} layers to cut; give a decoder-only model.")


def base_model(model: Any) -> Any:
    """The model below the language-model head: ids in, hidden states out."""
    return getattr(model, model.base_model_prefix, model)


def max_positions(model: Any) -> int | None:
    """Tokens that a model can read at once, special tokens counted; None where its config has no limit."""
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is None or limit <= 0:
        return None
    for name, module in model.named_modules():
        # RoBERTa and its kin count positions from the one after padding.
        if isinstance(module, nn.Embedding) and name.endswith("position_embeddings") and module.padding_idx is not None:
            return int(limit) - module.padding_idx - 1
    return int(limit)


def split_windows(tokens: RaggedTokens, window: int | None) -> RaggedTokens:
    """The same packed ids with segments longer than ``window`` cut into pieces of it; all stay where they are.

    >>> split_windows(RaggedTokens.from_lists([[1, 2, 3], [], [4]]), 2).to_lists()
    [[1, 2], [3], [4]]
    """
    if window is None or int(tokens.lengths.max(initial=0)) <= window:
        return tokens
    starts = [np.arange(a, b, window) for a, b in zip(tokens.cu_seqlens[:-1], tokens.cu_seqlens[1:], strict=True)]
    return RaggedTokens(tokens.ids, np.append(np.concatenate(starts), tokens.num_tokens))


def run_equal_lengths(
    tokens: RaggedTokens,
    run: Callable[[Tensor], Tensor],
    device: torch.device,
    description: str = "",
    batch_tokens: int | None = None,
) -> NDArray[np.float32]:
    """Apply ``run`` (int64 ``[B, L]`` -> float ``[B, L, ...]``) to every segment: float32 ``[T, ...]``.

    On a CPU every segment is a batch of its own: with two threads or more a matrix product gives a row other bits at
    another place of the matrix, so a segment's result would depend on its neighbours. Elsewhere segments of one length
    go together, ``batch_tokens // L`` (at least 1) at once, and missing rows repeat the first: there is no padding, and
    the shape that a segment is computed in never depends on what else is in the batch.
    """
    lengths = tokens.lengths
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    cuts = np.flatnonzero(np.diff(lengths[order])) + 1
    batches: list[tuple[NDArray[np.intp], int]] = []
    for group in np.split(order, cuts):
        if len(group):
            size = 1 if device.type == "cpu" else max(1, (batch_tokens or _BATCH_TOKENS) // int(lengths[group[0]]))
            batches += [(batch, size) for batch in np.split(group, range(size, len(group), size))]
    out: NDArray[np.float32] | None = None
    with torch.inference_mode():
        for batch, size in progress(batches, description=description):
            rows = np.stack([tokens[int(i)] for i in batch])
            full = np.concatenate([rows, np.repeat(rows[:1], size - len(rows), axis=0)]).astype(np.int64)
            result = run(torch.from_numpy(full).to(device)).float().cpu().numpy()[: len(rows)]
            if out is None:
                out = np.zeros((tokens.num_tokens, *result.shape[2:]), dtype=np.float32)
            where = tokens.cu_seqlens[batch][:, None] + np.arange(rows.shape[1])
            out[where] = result
    return np.zeros(tokens.num_tokens, dtype=np.float32) if out is None else out


def round_scores(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """``scores`` rounded to 12 significant bits, to the nearest: another number of threads or another CPU seldom shows.

    >>> round_scores(np.float32([1.0001, 1.001, -3.14159])).tolist()
    [1.0, 1.0009765625, -3.1416015625]
    """
    significand, exponent = np.frexp(scores)
    rounded: NDArray[np.float32] = np.ldexp(np.rint(significand * 2**_BITS), exponent - _BITS).astype(np.float32)
    return rounded


def weights_digest(model: nn.Module) -> list[Any]:
    """What tells one model from another at little cost: its config, and of every tensor the shape, a checksum, samples.

    The checksum adds bit patterns as integers: exact, so that it is the same on every device and number of threads
    (a sum of floats is not).
    """
    digests: list[Any] = [_meaning(getattr(model, "config", None))]
    for name, weights in model.state_dict().items():
        bits = weights.detach().reshape(-1).view(_INTEGERS[weights.element_size()])
        places = torch.arange(_SAMPLES, device=bits.device) * (len(bits) - 1) // (_SAMPLES - 1)
        samples = bits[places].tolist() if len(bits) else []
        digests.append([name, list(weights.shape), str(weights.dtype), int(bits.sum(dtype=torch.int64)), samples])
    return digests


def _meaning(config: Any) -> dict[str, Any]:
    """What a config says about the numbers a model computes: not where it came from or how it is run."""
    if not hasattr(config, "to_json_string"):
        return {}
    entries: dict[str, Any] = json.loads(config.to_json_string())
    return {k: v for k, v in entries.items() if k not in _NOT_MEANING and "attn_implementation" not in k}
