"""Stage 3, adapt: a recommender learns to read what a policy keeps, from samples of the policy first.

Fitted on one subset of each item, a recommender knows these by heart and stops early. Subsets near the best say the
same in other words: it is warmed up on some of them and then tuned on the best, which alone is read when it serves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tsporec.budget import Budget
from tsporec.preference.candidates import CandidateConfig, sample_candidates
from tsporec.ragged import RaggedTokens
from tsporec.recommenders.embedding import EmbeddingRecommender, History
from tsporec.scorers import Scorer
from tsporec.selection import select

Vectors = NDArray[np.float32]
DRAWS = 4
"""Samples of the policy for each item."""
_SEGMENTS = 4096  # sampled at once: noise takes some 200 bytes a token


def policy_views(
    scorer: Scorer,
    tokens: RaggedTokens,
    encode: Callable[[RaggedTokens], Vectors],
    budget: int,
    draws: int = DRAWS,
    seed: int = 0,
) -> Vectors:
    """Features of what a policy keeps, and of samples of it.

    Parameters
    ----------
    scorer : Scorer
        Where samples are drawn (by Gumbel top-k), its scores are finite and log-probabilities but for a constant, as
        a selector's are: the scores of other scorers have another scale.
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
    if not draws:
        return encode(select(scorer, tokens, Budget(tokens=budget)).apply(tokens))[None]
    config = CandidateConfig((budget,), 1 + draws, uniform=0.0, swapped=0.0)
    scores = scorer.score(tokens)
    drawn: list[NDArray[np.int32]] = []
    for begin in range(0, len(tokens), _SEGMENTS):
        part = np.arange(begin, min(begin + _SEGMENTS, len(tokens)))
        drawn += sample_candidates(scores, tokens, config, seed, part).apply(tokens)
    views = [text for view in range(1 + draws) for text in drawn[view :: 1 + draws]]
    return encode(RaggedTokens.from_lists(views)).reshape(1 + draws, len(tokens), -1)


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
