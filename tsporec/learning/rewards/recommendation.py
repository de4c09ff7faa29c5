"""Reward subsets with which the next items of users become more likely."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - as the torch documentation writes it

from tsporec._internal.digest import digest
from tsporec.learning.candidates import Candidates
from tsporec.learning.rewards.base import CandidateEncoder, Floats, weights_of
from tsporec.recommenders.embedding import EmbeddingRecommender, cut_windows, pad_histories
from tsporec.tokens.ragged import RaggedTokens


class RecommendationReward:
    """Return the exact change of the log-likelihood of all next items when one item's vector is replaced.

    With the candidate's vector ``v``, item ``i`` scores ``s(c) = context_c · v / temperature`` in context ``c``. It is
    the target of its own contexts and a negative in all others. Up to a constant of the item, the sum of all
    log-likelihoods is ::

        sum over its contexts of s(c)  -  sum over all contexts of log(1 + exp(s(c)) / Z_without_i(c))

    where ``Z_without_i(c)`` is the sum of the other items' exponentials. Histories are read with the reference vectors.
    The sum is divided by the number of the item's own contexts plus one, so that popular items do not rule the scale.

    Parameters
    ----------
    encode : CandidateEncoder
        Encodes the candidates.
    recommender : EmbeddingRecommender
        It stays as it is. Fit it on other users than those of ``sequences``: on its own users it knows the answers.
    features : float32 ``[N, W]``
        The encoded reference texts of all items. The mean over several views is a good reference.
    sequences : sequences of item indices
        The items that users touched.

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
    >>> reward = RecommendationReward(encode, make_recommender(1), np.float32([[2], [1], [3]]), [[0, 1, 2]])
    >>> reward(tokens, sampled).shape
    (6,)
    """

    def __init__(
        self,
        encode: CandidateEncoder,
        recommender: EmbeddingRecommender,
        features: NDArray[np.float32],
        sequences: Sequence[Sequence[int]],
    ) -> None:
        self.encode, self.recommender = encode, recommender.eval()
        weights = weights_of(recommender)
        users = [list(sequence) for sequence in sequences]
        self.fingerprint = digest("recommendation", features, users, encode.encoder.fingerprint, *weights)
        length = recommender.config.max_history
        with torch.inference_mode():
            self._vectors = recommender.item_vectors(torch.from_numpy(features))
            contexts, targets = [], []
            for batch in torch.split(pad_histories(cut_windows(sequences, length + 1), length + 1), 512):
                given, following = batch[:, :-1], batch[:, 1:]
                contexts.append(recommender.contexts(self._vectors, given)[following >= 0])
                targets.append(following[following >= 0])
            # Sorted by target, an item's own contexts are contexts[own[i]:own[i + 1]].
            target, order = torch.sort(torch.cat(targets), stable=True)
            self._contexts = torch.cat(contexts)[order] / recommender.temperature
            self._log_z = torch.cat([(part @ self._vectors.T).logsumexp(1) for part in self._contexts.split(2048)])  # type: ignore[no-untyped-call]
            self._own = torch.searchsorted(target, torch.arange(len(features) + 1))

    @torch.inference_mode()
    def __call__(self, tokens: RaggedTokens, candidates: Candidates) -> Floats:
        """Return float32 ``[C]`` in nats a context; see :class:`~tsporec.learning.rewards.base.ProxyReward`."""
        vectors = self.recommender.item_vectors(torch.from_numpy(self.encode(tokens, candidates)))
        segment = torch.from_numpy(candidates.segment)
        rewards = torch.empty(len(candidates))
        for item in torch.unique(segment).tolist():
            rows = torch.nonzero(segment == item).flatten()
            rewards[rows] = self._change(item, vectors[rows])
        return rewards.numpy()

    def _change(self, item: int, vectors: Tensor) -> Tensor:
        """Return the change ``[B]`` for B vectors of one item."""
        first, last = int(self._own[item]), int(self._own[item + 1])
        share = (self._contexts @ self._vectors[item] - self._log_z).exp().clamp(max=1 - 1e-6)
        without = self._log_z + torch.log1p(-share)
        scores = self._contexts @ vectors.T
        return (scores[first:last].sum(0) - F.softplus(scores - without[:, None]).sum(0)) / (last - first + 1)
