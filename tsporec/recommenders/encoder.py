"""Item texts to vectors by a causal LM: the costly half of an embedding recommender, the one short texts make cheap."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tsporec._internal.digest import digest
from tsporec._internal.progress import progress
from tsporec.language_model import base_model, weights_digest
from tsporec.tokens.ragged import RaggedTokens


class ItemEncoder:
    """The mean (or last) hidden state of an item's tokens under a frozen causal LM.

    Parameters
    ----------
    model : a Hugging Face causal LM (cut it with :func:`tsporec.language_model.cut_layers` for speed)
    pooling : "mean" or "last"
    batch_tokens : int
        Tokens in one forward.
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
        """float32 ``[N, width]``; an empty text is the zero vector."""
        vectors = np.zeros((len(tokens), self.width), dtype=np.float32)
        device = next(self.model.parameters()).device
        for batch in progress(self._batches(tokens.lengths), description="encode"):
            rows = np.stack([tokens[int(i)] for i in batch]).astype(np.int64)
            states = self.model(input_ids=torch.from_numpy(rows).to(device), use_cache=False)[0].float()
            pooled = states.mean(dim=1) if self.pooling == "mean" else states[:, -1]
            vectors[batch] = pooled.cpu().numpy()
        return vectors

    def _batches(self, lengths: NDArray[np.int32]) -> list[NDArray[np.int64]]:
        """Segments of one length together, so that nothing is padded."""
        order = np.argsort(lengths, kind="stable")
        order = order[lengths[order] > 0]
        batches = []
        for group in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
            if len(group):
                rows = max(1, self.batch_tokens // int(lengths[group[0]]))
                batches += np.split(group, range(rows, len(group), rows))
        return batches
