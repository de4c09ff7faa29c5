"""What a proxy reward is, and what the ones over item vectors share."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from tsporec._internal.digest import digest
from tsporec.learning.candidates import Candidates
from tsporec.tokens.ragged import RaggedTokens

Floats = NDArray[np.float32]


class ProxyReward(Protocol):
    """Anything that rates token subsets: higher is better. Only differences within a segment and budget count."""

    @property
    def fingerprint(self) -> str:
        """Digest of what the rewards follow from: a dataset collected with another is not gone on with."""
        ...

    def __call__(self, tokens: RaggedTokens, candidates: Candidates) -> Floats:
        """The reward of every candidate.

        Parameters
        ----------
        tokens : RaggedTokens
            N segments, T tokens: the whole corpus, so that ``candidates.segment`` says whose tokens a candidate
            holds. For an embedding recommender a segment is an item, by its index in the catalogue. For whole
            features a segment is one span of one feature, the spans of the first feature before those of the second.
        candidates : Candidates
            C subsets.

        Returns
        -------
        float ``[C]``
            Finite.
        """
        ...


class TextEncoder(Protocol):
    """What turns texts into features: :class:`tsporec.recommenders.encoder.ItemEncoder`, or one's own."""

    @property
    def fingerprint(self) -> str:
        """Digest of the encoder."""
        ...

    def encode(self, tokens: RaggedTokens) -> Floats:
        """float32 ``[N, W]`` of N segments."""
        ...


class CandidateEncoder:
    """Features of candidates, each different text encoded once; rewards that share one share its work.

    Parameters
    ----------
    encoder : TextEncoder
    """

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder
        self._last: tuple[str, Floats] | None = None

    def __call__(self, tokens: RaggedTokens, candidates: Candidates) -> Floats:
        """float32 ``[C, W]``."""
        texts = candidates.apply(tokens)
        key = digest(texts.ids, texts.cu_seqlens)
        if self._last is None or self._last[0] != key:
            seen: dict[bytes, int] = {}
            which = np.array([seen.setdefault(text.tobytes(), len(seen)) for text in texts], dtype=np.int64)
            _, first = np.unique(which, return_index=True)
            self._last = key, self.encoder.encode(texts.take(first))[which]
        return self._last[1]


def reward_fingerprint(reward: ProxyReward) -> str:
    """The reward's, refused where it has none: a folder of its rewards would be taken for another's."""
    found = getattr(reward, "fingerprint", None)
    if not isinstance(found, str) or not found:
        raise ValueError(
            f"the reward {type(reward).__name__} has no fingerprint, so what it was paid for could not be told from "
            "another's; give it an attribute `fingerprint`, a str that changes with what its rewards follow from."
        )
    return found


def checked_rewards(rewards: object, candidates: Candidates, name: str) -> Floats:
    """``rewards``, an array or a tensor, as float32 ``[C]``.

    Raises
    ------
    ValueError
        If there is not one finite number a candidate.
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
