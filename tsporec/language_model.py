"""Load a causal language model, cut it to its first layers, and run texts through it.

A text's results do not depend on the batch: texts are never padded, and on a CPU each text is a forward of its own.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tsporec._internal.progress import progress
from tsporec._internal.types import expect
from tsporec.tokens.ragged import RaggedTokens

_BATCH_TOKENS = 4096  # tokens of one forward on an accelerator
_BITS = 12  # significant bits that `round_scores` keeps
_SAMPLES = 64  # values of each tensor that `weights_digest` reads: a checksum alone misses a change of order
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_NOT_MEANING = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "use_cache")


def load_causal_lm(name_or_path: str | Path, layers: int | None = None) -> tuple[Any, Any]:
    """Load (causal LM in float32 and eval mode, its tokenizer) from a folder or the Hub.

    Weights must be safetensors; code that comes with them is never run. ``layers`` keeps the first layers only; see
    :func:`cut_layers`. Default: all.
    """
    model, tokenizer = load_pretrained("AutoModelForCausalLM", name_or_path)
    return cut_layers(model, layers), tokenizer


def load_pretrained(auto_class: str, name_or_path: str | Path) -> tuple[Any, Any]:
    """Load (model in float32 and eval mode, tokenizer) with one of transformers' Auto classes.

    If there is no such folder or Hub id, or its weights are not safetensors: a ValueError.
    """
    import transformers

    expect("the model", name_or_path, str | Path, "a causal LM, or the folder or Hub id of one")
    tokenizer = load_tokenizer(name_or_path)
    try:
        with _no_bar_without_terminal():
            model = getattr(transformers, auto_class).from_pretrained(
                name_or_path, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
            )
    except OSError as error:
        raise _not_loaded(name_or_path, "config.json, a tokenizer and weights as safetensors", error) from error
    return model.eval(), tokenizer


@contextmanager
def _no_bar_without_terminal() -> Iterator[None]:
    """Hide transformers' progress bars where stderr is not a terminal; the setting is put back at the end."""
    from transformers.utils import logging

    hide = not sys.stderr.isatty() and logging.is_progress_bar_enabled()
    if hide:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if hide:
            logging.enable_progress_bar()


def load_tokenizer(name_or_path: str | Path) -> Any:
    """Load the tokenizer of a folder or Hub id. One that needs code of its own is a ValueError: none is ever run."""
    import transformers

    expect("the tokenizer", name_or_path, str | Path, "a folder or a Hub id")
    try:
        return transformers.AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _not_loaded(name_or_path, "tokenizer.json", error) from error


def _not_loaded(name: str | Path, needed: str, error: Exception) -> ValueError:
    """Return a short error in place of transformers' pages of advice, which stay as its cause."""
    if isinstance(error, OSError) and error.errno is not None:
        found = f"{error.strerror} ({error.filename})"
    elif any(sign in str(error) for sign in ("gated", "401 Client", "403 Client")):
        found = (
            "the Hub gives it only to accounts with access to it; ask for access on its page, then run hf auth login"
        )
    elif "trust_remote_code" in str(error):
        found = "it needs code of its own, which is never run"
    elif Path(name).is_dir():
        found = f"the folder does not have {needed}, or not in a form that transformers reads"
    else:
        found = "there is no such folder, and no such name on the Hub (or in its cache, if the Hub cannot be asked)"
    return ValueError(f"no model or tokenizer {str(name)!r}: {found}. Give a folder or a Hub id with {needed}.")


def cut_layers(model: Any, layers: int | None) -> Any:
    """Copy ``model`` with its first ``layers`` decoder layers. The copy shares all weights; ``model`` stays whole.

    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=3, n_head=2))
    >>> len(cut_layers(model, 1).transformer.h), len(model.transformer.h)
    (1, 3)
    """
    if layers is None:
        return model
    expect("layers", layers, int, "a whole number, or None")
    stack = layer_stack(model)
    if not 1 <= layers <= len(stack):
        raise ValueError(f"layers must be from 1 to {len(stack)} for this model, found {layers}.")
    kept: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    kept[id(stack)] = nn.ModuleList(list(stack)[:layers])
    cut = copy.deepcopy(model, kept)  # modules are copied; what `kept` names is taken as it is
    cut.config.num_hidden_layers = layers
    if getattr(cut.config, "layer_types", None):
        cut.config.layer_types = cut.config.layer_types[:layers]
    return cut


def layer_stack(model: nn.Module) -> nn.ModuleList:
    """Find the decoder layers: the ``ModuleList`` with ``config.num_hidden_layers`` modules."""
    depth = int(model.config.num_hidden_layers)  # type: ignore[union-attr,arg-type]
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise ValueError(f"{type(model).__name__} has no list of {depth} layers to cut; give a decoder-only model.")


def base_model(model: Any) -> Any:
    """Get the model below the language-model head: it maps ids to hidden states."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a causal LM, found {type(model).__name__}; load_causal_lm(name) loads one by name.")
    return getattr(model, str(model.base_model_prefix), model)


def max_positions(model: Any) -> int | None:
    """Find how many tokens a model can read at once, special tokens included; None if its config has no limit."""
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is None or limit <= 0:
        return None
    for name, module in model.named_modules():
        # RoBERTa's first position is the one after its padding index.
        if isinstance(module, nn.Embedding) and name.endswith("position_embeddings") and module.padding_idx is not None:
            return int(limit) - module.padding_idx - 1
    return int(limit)


def split_windows(tokens: RaggedTokens, window: int | None) -> RaggedTokens:
    """Split segments longer than ``window`` tokens into segments of at most ``window``. The ids stay the same.

    >>> split_windows(RaggedTokens.from_lists([[1, 2, 3], [], [4]]), 2).to_lists()
    [[1, 2], [3], [4]]
    """
    if window is None or int(tokens.lengths.max(initial=0)) <= window:
        return tokens
    starts = [np.arange(a, b, window) for a, b in zip(tokens.cu_seqlens[:-1], tokens.cu_seqlens[1:], strict=True)]
    return RaggedTokens(tokens.ids, np.append(np.concatenate(starts), tokens.num_tokens))


def equal_length_batches(tokens: RaggedTokens, batch_tokens: int) -> list[NDArray[np.int64]]:
    """Group segments of equal length into batches int64 ``[B]``, shortest first, so that no batch needs padding.

    A batch holds at most ``batch_tokens // length`` segments, and at least one. Empty segments are left out.

    >>> tokens = RaggedTokens.from_lists([[1, 2], [3], [], [4, 5], [6, 7]])
    >>> [batch.tolist() for batch in equal_length_batches(tokens, batch_tokens=4)]
    [[1], [0, 3], [4]]
    """
    lengths = tokens.lengths
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    batches: list[NDArray[np.int64]] = []
    for group in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1) if len(order) else []:
        size = max(1, batch_tokens // int(lengths[group[0]]))
        batches += np.split(group, range(size, len(group), size))
    return batches


def run_equal_lengths(
    tokens: RaggedTokens,
    run: Callable[[Tensor], Tensor],
    device: torch.device,
    description: str = "",
) -> NDArray[np.float32]:
    """Apply ``run``, int64 ``[B, L]`` on ``device`` to float ``[B, L, ...]``, to every segment: float32 ``[T, ...]``.

    A segment's result never depends on other segments. A matrix product gives a row other bits at another place of
    the matrix, and at another shape. So on a CPU each segment is a batch of its own. On an accelerator a batch always
    has ``4096 // L`` rows (at least 1); missing rows repeat the first. ``description`` labels the progress bar.
    """
    most = 1 if device.type == "cpu" else _BATCH_TOKENS
    out: NDArray[np.float32] | None = None
    with torch.inference_mode():
        for batch in progress(equal_length_batches(tokens, most), description):
            rows = np.stack([tokens[int(i)] for i in batch])
            missing = max(1, most // rows.shape[1]) - len(rows)
            full = np.concatenate([rows, np.repeat(rows[:1], missing, axis=0)]).astype(np.int64)
            result = run(torch.from_numpy(full).to(device)).float().cpu().numpy()[: len(rows)]
            if out is None:
                out = np.zeros((tokens.num_tokens, *result.shape[2:]), dtype=np.float32)
            out[tokens.cu_seqlens[batch][:, None] + np.arange(rows.shape[1])] = result
    return np.zeros(tokens.num_tokens, dtype=np.float32) if out is None else out


def round_scores(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round to 12 significant bits, so that other threads or another CPU seldom change a score.

    >>> round_scores(np.float32([1.0001, 1.001, -3.14159])).tolist()
    [1.0, 1.0009765625, -3.1416015625]
    """
    significand, exponent = np.frexp(scores)
    rounded: NDArray[np.float32] = np.ldexp(np.rint(significand * 2**_BITS), exponent - _BITS).astype(np.float32)
    return rounded


def weights_digest(model: nn.Module) -> list[Any]:
    """Describe a model so that a digest of it identifies the model, at little cost.

    The parts are its config, and the shape, a checksum and 64 samples of every tensor. The checksum adds bit patterns
    as integers, which is exact: it is the same on every device and with any number of threads.
    """
    digests: list[Any] = [_meaning(getattr(model, "config", None))]
    for name, weights in model.state_dict().items():
        bits = weights.detach().reshape(-1).view(_INTEGERS[weights.element_size()])
        places = torch.arange(_SAMPLES, device=bits.device) * (len(bits) - 1) // (_SAMPLES - 1)
        samples = bits[places].tolist() if len(bits) else []
        digests.append([name, list(weights.shape), str(weights.dtype), int(bits.sum(dtype=torch.int64)), samples])
    return digests


def _meaning(config: Any) -> dict[str, Any]:
    """Keep the config values that decide what the model computes."""
    if not hasattr(config, "to_json_string"):
        return {}
    values: dict[str, Any] = json.loads(config.to_json_string())
    return {k: v for k, v in values.items() if k not in _NOT_MEANING and "attn_implementation" not in k}
