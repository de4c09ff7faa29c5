"""Reward subsets from which the item can be told apart from all others."""

from __future__ import annotations

import torch

from tsporec._internal.digest import digest
from tsporec.learning.candidates import Candidates
from tsporec.learning.rewards.base import CandidateEncoder, Floats, weights_of
from tsporec.recommenders.embedding import EmbeddingRecommender
from tsporec.tokens.ragged import RaggedTokens

TEMPERATURE = 0.1
"""Divides cosine similarities before the softmax."""


class IdentityReward:
    """Return the log-likelihood of guessing the item from the tokens kept (InfoNCE; van den Oord et al., 2018).

    With the candidate's vector ``v`` and all items' vectors ``e``, the reward of item ``i`` is ::

        log( exp(v · e_i / TEMPERATURE) / sum over j of exp(v · e_j / TEMPERATURE) )

    Recommenders that are adapted to a selection need it: items that are read alike cannot be told apart.

    Parameters
    ----------
    encode : CandidateEncoder
        Encodes the candidates.
    recommender : EmbeddingRecommender
        Its projection turns encoded texts into the vectors that are compared.
    features : float32 ``[N, W]``
        The encoded reference texts of all items.

    Examples
    --------
    >>> class Lengths:  # in place of an ItemEncoder
    ...     fingerprint = "lengths"
    ...     def encode(self, tokens):
    ...         return tokens.lengths[:, None].astype(np.float32)
    >>> from tsporec.learning.candidates import CandidateConfig, sample_candidates
    >>> from tsporec.recommenders.embedding import make_recommender
    >>> tokens, encode = RaggedTokens.from_lists([[5, 6], [7], [8, 9, 5]]), CandidateEncoder(Lengths())
    >>> sampled = sample_candidates(np.zeros(6, np.float32), tokens, CandidateConfig((1,), 2), seed=0)
    >>> reward = IdentityReward(encode, make_recommender(1), np.float32([[2], [1], [3]]))
    >>> reward(tokens, sampled).shape
    (6,)
    """

    def __init__(self, encode: CandidateEncoder, recommender: EmbeddingRecommender, features: Floats) -> None:
        self.encode, self.recommender = encode, recommender.eval()
        weights = weights_of(recommender)
        self.fingerprint = digest("identity", features, TEMPERATURE, encode.encoder.fingerprint, *weights)
        self._vectors = self._read(features)

    @torch.inference_mode()
    def _read(self, features: Floats) -> torch.Tensor:
        return self.recommender.item_vectors(torch.from_numpy(features))

    @torch.inference_mode()
    def __call__(self, tokens: RaggedTokens, candidates: Candidates) -> Floats:
        """Return float32 ``[C]`` in nats; see :class:`~tsporec.learning.rewards.base.ProxyReward`."""
        vectors = self._read(self.encode(tokens, candidates))
        item = torch.from_numpy(candidates.segment)
        rewards = torch.empty(len(candidates))
        for rows in torch.split(torch.arange(len(candidates)), 2048):
            logits = vectors[rows] @ self._vectors.T / TEMPERATURE
            rewards[rows] = logits.log_softmax(1).gather(1, item[rows][:, None])[:, 0]
        return rewards.numpy()
