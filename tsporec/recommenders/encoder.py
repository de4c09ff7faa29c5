"""Turn item texts into vectors with a frozen causal LM. This is the costly step that short texts make cheap."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tsporec._internal.digest import digest
from tsporec._internal.progress import progress
from tsporec.language_model import base_model, equal_length_batches, weights_digest
from tsporec.tokens.ragged import RaggedTokens


class ItemEncoder:
    """Pool the last hidden states of an item's tokens under a frozen causal LM.

    Parameters
    ----------
    model : Hugging Face causal LM
        It is put into eval mode. Cut it with :func:`tsporec.language_model.cut_layers` for speed.
    pooling : "mean" or "last"
        Take the mean over the tokens, or the last token's state. Default: "mean".
    batch_tokens : int
        Tokens of one forward. Default: 2,048.

    Examples
    --------
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=2))
    >>> ItemEncoder(model).encode(RaggedTokens.from_lists([[1, 2, 3], [4]])).shape
    (2, 8)
    """

    def __init__(self, model: Any, pooling: str = "mean", batch_tokens: int = 2048) -> None:
        if pooling not in ("mean", "last"):
            raise ValueError(f"pooling must be 'mean' or 'last', found {pooling!r}.")
        self.model, self.pooling, self.batch_tokens = base_model(model).eval(), pooling, batch_tokens
        self.width = int(self.model.config.hidden_size)
        self._digest: str | None = None

    @property
    def fingerprint(self) -> str:
        """Digest of the model and the pooling."""
        if self._digest is None:
            self._digest = digest("encoder", self.pooling, weights_digest(self.model))
        return self._digest

    @torch.inference_mode()
    def encode(self, tokens: RaggedTokens) -> NDArray[np.float32]:
        """Encode every segment: float32 ``[N, width]``. An empty text gives the zero vector."""
        vectors = np.zeros((len(tokens), self.width), dtype=np.float32)
        device = next(self.model.parameters()).device
        for batch in progress(equal_length_batches(tokens, self.batch_tokens), "encode"):
            rows = np.stack([tokens[int(i)] for i in batch]).astype(np.int64)
            states = self.model(input_ids=torch.from_numpy(rows).to(device), use_cache=False)[0].float()
            pooled = states.mean(dim=1) if self.pooling == "mean" else states[:, -1]
            vectors[batch] = pooled.cpu().numpy()
        return vectors
