"""Stage 3, adapt: a recommender learns to read what a policy keeps, from samples of the policy first.

Fitted on one subset of each item, a recommender knows these by heart and stops early. Subsets near the best say the
same in other words: it is warmed up on some of them and then tuned on the best, which alone is read when it serves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tsporec.preference.candidates import CandidateConfig, sample_candidates
from tsporec.ragged import RaggedTokens
from tsporec.recommenders.embedding import EmbeddingRecommender, History

Vectors = NDArray[np.float32]
DRAWS = 4
"""Samples of the policy for each item."""


def policy_views(
    scores: NDArray[np.float32],
    tokens: RaggedTokens,
    encode: Callable[[RaggedTokens], Vectors],
    budget: int,
    draws: int = DRAWS,
    seed: int = 0,
) -> Vectors:
    """Features of what a policy keeps, and of samples of it.

    Parameters
    ----------
    scores : float32 ``[T]``
        Log-probabilities but for a constant: subsets are drawn by Gumbel top-k.
    tokens : RaggedTokens
        N segments.
    encode : texts -> float32 ``[N, W]``
    budget : int
        Tokens of each item.
    draws, seed : int

    Returns
    -------
    float32 ``[1 + draws, N, W]``, the best subsets first
    """
    config = CandidateConfig((budget,), max(2, 1 + draws), uniform=0.0, swapped=0.0)
    drawn = sample_candidates(scores, tokens, config, seed).apply(tokens)
    numbers = np.arange(len(drawn)).reshape(len(tokens), config.count)[:, : 1 + draws].T
    return encode(drawn.take(numbers.ravel())).reshape(1 + draws, len(tokens), -1)


def fit_in_stages(
    recommender: EmbeddingRecommender,
    views: Vectors,
    train: Sequence[History],
    held_out: Sequence[History],
    description: str = "adapt",
) -> EmbeddingRecommender:
    """Fit on all of ``views`` ``[V, N, W]``, then tune on the first, which is what will be read; one: fit on it."""
    recommender.fit(views, train, held_out, description, read=views[0])
    return recommender if len(views) == 1 else recommender.tune(views[0], train, held_out, f"{description}, tune")
