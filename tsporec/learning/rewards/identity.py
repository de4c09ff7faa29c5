"""Whether the item can still be told from all others."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from tsporec._internal.digest import digest
from tsporec.learning.candidates import Candidates
from tsporec.learning.rewards.base import CandidateEncoder, Floats
from tsporec.recommenders.embedding import EmbeddingRecommender
from tsporec.tokens.ragged import RaggedTokens


class IdentityReward:
    """The log-softmax, at the item itself, of the candidate's vector against every item's.

    ``log exp(v · e_i / temperature) / (sum over j of exp(v · e_j / temperature))``: the log-likelihood of guessing the
    item from the tokens kept (InfoNCE; van den Oord et al., 2018). Recommenders adapted to a selection need it: items
    read alike cannot be told apart.

    Parameters
    ----------
    encode : CandidateEncoder
    recommender : EmbeddingRecommender, optional
        Its projection makes the vectors; without one, features are standardised and compared as they are.
    features : float32 ``[N, W]``
        The reference features of all items.
    temperature : float
        Of the softmax over cosine similarities.
    """

    def __init__(
        self,
        encode: CandidateEncoder,
        features: NDArray[np.float32],
        recommender: EmbeddingRecommender | None = None,
        temperature: float = 0.1,
    ) -> None:
        self.encode, self.temperature = encode, temperature
        self._recommender = None if recommender is None else recommender.eval()
        self._mean, self._scale = features.mean(0), features.std(0) + 1e-6
        weights = {} if recommender is None else recommender.state_dict()
        self.fingerprint = digest(
            "identity",
            features,
            temperature,
            encode.encoder.fingerprint,
            *(part for key, value in weights.items() for part in (key, value.cpu().numpy())),
        )
        self._vectors = self._read(features)

    def _read(self, features: NDArray[np.float32]) -> torch.Tensor:
        with torch.inference_mode():
            if self._recommender is not None:
                return self._recommender.item_vectors(torch.from_numpy(features))
            return torch.nn.functional.normalize(torch.from_numpy((features - self._mean) / self._scale), dim=-1)

    @torch.inference_mode()
    def __call__(self, tokens: RaggedTokens, candidates: Candidates) -> Floats:
        """float32 ``[C]``, in nats; see :class:`ProxyReward`."""
        vectors = self._read(self.encode(tokens, candidates))
        item = torch.from_numpy(candidates.segment)
        rewards = torch.empty(len(candidates))
        for rows in torch.split(torch.arange(len(candidates)), 2048):
            logits = vectors[rows] @ self._vectors.T / self.temperature
            rewards[rows] = logits.log_softmax(1).gather(1, item[rows][:, None])[:, 0]
        return rewards.numpy()
