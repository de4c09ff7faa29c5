"""The protocol of proxy rewards, and the encoder that rewards over item vectors share."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tsporec._internal.digest import digest
from tsporec.learning.candidates import Candidates
from tsporec.tokens.ragged import RaggedTokens

Floats = NDArray[np.float32]


class ProxyReward(Protocol):
    """Rate token subsets: higher is better. Only differences within a segment and budget matter.

    Examples
    --------
    >>> class Digits:
    ...     fingerprint = "ids below 10"
    ...     def __call__(self, tokens, candidates):
    ...         small = tokens.ids[candidates.kept] < 10
    ...         return np.bincount(candidates.owner, small, minlength=len(candidates))
    """

    @property
    def fingerprint(self) -> str:
        """Digest of everything that the rewards depend on. Work made from another one is not resumed."""
        ...

    def __call__(self, tokens: RaggedTokens, candidates: Candidates) -> Floats:
        """Return the reward of every candidate.

        Parameters
        ----------
        tokens : RaggedTokens
            The whole corpus: N segments of T tokens in all. For an embedding recommender a segment is an item, by its
            index in the catalogue. For whole features a segment is one span of one feature; the spans of the first
            feature come before those of the second.
        candidates : Candidates
            C subsets.

        Returns
        -------
        float ``[C]``
            Finite numbers.
        """
        ...


class TextEncoder(Protocol):
    """Turn texts into vectors, as :class:`tsporec.recommenders.encoder.ItemEncoder` does."""

    @property
    def fingerprint(self) -> str:
        """Digest of the encoder."""
        ...

    def encode(self, tokens: RaggedTokens) -> Floats:
        """Return float32 ``[N, W]`` for N segments."""
        ...


def weights_of(recommender: nn.Module) -> list[Floats]:
    """Return all weights and buffers of a recommender, for the fingerprint of a reward that uses it."""
    return [value.cpu().numpy() for value in recommender.state_dict().values()]


class CandidateEncoder:
    """Encode candidates, each different text once. Rewards that share an encoder share its work.

    Parameters
    ----------
    encoder : TextEncoder
    """

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder
        self._last: tuple[str, Floats] | None = None

    def __call__(self, tokens: RaggedTokens, candidates: Candidates) -> Floats:
        """Return float32 ``[C, W]``."""
        texts = candidates.apply(tokens)
        key = digest(texts.ids, texts.cu_seqlens)
        if self._last is None or self._last[0] != key:
            seen: dict[bytes, int] = {}
            # Texts -> numbers of the different ones: [[5, 6], [7], [5, 6]] -> [0, 1, 0]
            which = np.array([seen.setdefault(text.tobytes(), len(seen)) for text in texts], dtype=np.int64)
            _, first = np.unique(which, return_index=True)
            self._last = key, self.encoder.encode(texts.take(first))[which]
        return self._last[1]


def checked_rewards(rewards: object, candidates: Candidates, name: str) -> Floats:
    """Convert ``rewards``, an array or a tensor, to float32 ``[C]``.

    Raises
    ------
    ValueError
        If there is not one finite number for each candidate.
    """
    values = rewards.detach().float().cpu().numpy() if isinstance(rewards, torch.Tensor) else np.asarray(rewards)
    if values.shape != (len(candidates),) or not np.issubdtype(values.dtype, np.number):
        raise ValueError(
            f"the reward {name} returned {values.dtype} {values.shape} for {len(candidates)} candidates; "
            "expected one number a candidate."
        )
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise ValueError(
            f"the reward {name} is {values[bad[0]]} for candidate {bad[0]} (segment {candidates.segment[bad[0]]}) and "
            f"not finite for {len(bad)} of {len(candidates)}; check the recommender for NaN weights, overflow in half "
            "precision, or features without labels."
        )
    return values.astype(np.float32)
