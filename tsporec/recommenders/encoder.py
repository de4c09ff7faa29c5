"""Turn item texts into vectors with a frozen causal LM. This is the costly step that short texts make cheap."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tsporec._internal.digest import digest
from tsporec._internal.progress import progress
from tsporec.language_model import base_model, equal_length_batches, max_positions, weights_digest
from tsporec.tokens.ragged import RaggedTokens

_BATCH_TOKENS = 2048  # tokens of one forward


class ItemEncoder:
    """Take the mean of the last hidden states of an item's tokens under a frozen causal LM.

    Parameters
    ----------
    model : Hugging Face causal LM
        It is put into eval mode. Cut it with :func:`tsporec.language_model.cut_layers` for speed.

    Examples
    --------
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=2))
    >>> ItemEncoder(model).encode(RaggedTokens.from_lists([[1, 2, 3], [4]])).shape
    (2, 8)
    """

    def __init__(self, model: Any) -> None:
        self.model = base_model(model).eval()
        self.width = int(self.model.config.hidden_size)
        self._digest: str | None = None

    @property
    def fingerprint(self) -> str:
        """Digest of the model."""
        if self._digest is None:
            self._digest = digest("encoder", "mean", weights_digest(self.model))
        return self._digest

    @torch.inference_mode()
    def encode(self, tokens: RaggedTokens) -> NDArray[np.float32]:
        """Encode every segment: float32 ``[N, width]``. An empty text gives the zero vector.

        Of a text that is longer than the model's limit, the first tokens are read, and a warning counts such texts.
        """
        limit = max_positions(self.model)
        long = 0 if limit is None else int((tokens.lengths > limit).sum())
        if long:
            warnings.warn(
                f"{long:,} of {len(tokens):,} texts are longer than the {limit:,} tokens that this language model can "
                "read at once; the rest of them is left out.",
                stacklevel=2,
            )
            tokens = RaggedTokens.from_lists([ids[:limit] for ids in tokens])
        vectors = np.zeros((len(tokens), self.width), dtype=np.float32)
        device = next(self.model.parameters()).device
        for batch in progress(equal_length_batches(tokens, _BATCH_TOKENS), "encode"):
            rows = np.stack([tokens[int(i)] for i in batch]).astype(np.int64)
            states = self.model(input_ids=torch.from_numpy(rows).to(device), use_cache=False)[0].float()
            vectors[batch] = states.mean(dim=1).cpu().numpy()
        return vectors
