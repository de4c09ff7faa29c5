"""Item texts to vectors by a causal LM: the expensive half of an embedding recommender, and what short texts make cheap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tsporec.fingerprint import digest
from tsporec.language_model import base_model, weights_digest
from tsporec.progress import progress
from tsporec.ragged import RaggedTokens


class ItemEncoder:
    """The mean (or last) hidden state of an item's tokens under a frozen causal LM.

    Parameters
    ----------
    model : a Hugging Face causal LM (cut it with :func:`tsporec.language_model.cut_layers` for speed)
    pooling : "mean" or "last"
    batch_tokens : int
        Tokens in one forward.
    cache : folder, optional
        Remember the vectors of every set of texts here, by a digest of the ids and the model.
    """

    def __init__(
        self, model: Any, pooling: str = "mean", batch_tokens: int = 2048, cache: str | Path | None = None
    ) -> None:
        if pooling not in ("mean", "last"):
            raise ValueError(f"pooling must be 'mean' or 'last', found {pooling!r}.")
        self.model, self.pooling, self.batch_tokens = base_model(model).eval(), pooling, batch_tokens
        self.cache = None if cache is None else Path(cache)
        self.width = int(self.model.config.hidden_size)
        self._digest: list[Any] | None = None

    def encode(self, tokens: RaggedTokens) -> NDArray[np.float32]:
        """float32 ``[N, width]``; an empty text is the zero vector."""
        if self.cache is None:
            return self._encode(tokens)
        if self._digest is None:
            self._digest = weights_digest(self.model)
        path = self.cache / f"{digest(tokens.ids, tokens.cu_seqlens, self.pooling, self._digest)}.npy"
        if path.exists():
            cached: NDArray[np.float32] = np.load(path, allow_pickle=False)
            return cached
        vectors = self._encode(tokens)
        self.cache.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("wb") as stream:
            np.save(stream, vectors, allow_pickle=False)
        part.replace(path)
        return vectors

    @torch.inference_mode()
    def _encode(self, tokens: RaggedTokens) -> NDArray[np.float32]:
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
