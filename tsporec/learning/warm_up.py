"""Stage 1, warm up: recommenders that read any token subset sensibly, and the rewards that they give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tsporec._internal.digest import digest
from tsporec._internal.tensors import read_tensors, write_tensors
from tsporec.budget import Budget
from tsporec.evaluation.measures import require_better_than_popularity
from tsporec.evaluation.task import Task, warm_up_rules
from tsporec.learning.config import LearningConfig
from tsporec.learning.resume import describe_texts, step
from tsporec.learning.rewards.base import CandidateEncoder, ProxyReward
from tsporec.learning.rewards.coconsumption import CoConsumptionReward
from tsporec.learning.rewards.identity import IdentityReward
from tsporec.learning.rewards.recommendation import RecommendationReward
from tsporec.learning.rewards.weighted import WeightedReward, cross_fitted
from tsporec.recommenders.embedding import EmbeddingRecommender
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.scorers import Scorer
from tsporec.selection import score_tokens, select
from tsporec.tokens.ragged import RaggedTokens

Vectors = NDArray[np.float32]
REFERENCE = "reference.safetensors"


def warm_up(
    task: Task, encoder: ItemEncoder, policy: Scorer, config: LearningConfig, folder: Path
) -> tuple[Vectors, list[tuple[EmbeddingRecommender, list[list[int]]]]]:
    """Fit two recommenders on token subsets of the budgets in use, each on half of the training users.

    ``folder`` keeps the result. A folder made from other arguments is refused.

    Returns
    -------
    reference : float32 ``[N, W]``
        The mean vector of every item over its views.
    folds : list of two (recommender, sequences)
        Each recommender has *not* seen the training sequences beside it.
    """

    def make(part: Path) -> None:
        views = warm_up_views(task.tokens, encoder, policy, config.budgets)
        write_tensors(part / REFERENCE, {"mean": torch.from_numpy(views.mean(axis=0))})
        for fold in range(2):
            half = Task(task.tokens, task.train[fold::2], task.held_out, [], [])
            half.fit(views, config.recommender, f"warm-up {fold + 1}/2").save(part / f"fold-{fold}")

    step(folder, make, made_from(task, encoder, config, policy))
    reference: Vectors = read_tensors(folder / REFERENCE)["mean"].numpy()
    return reference, [
        (EmbeddingRecommender.load(folder / f"fold-{fold}"), task.train[1 - fold :: 2]) for fold in range(2)
    ]


def warm_up_views(
    tokens: RaggedTokens, encoder: ItemEncoder, policy: Scorer, budgets: Sequence[Budget | int]
) -> Vectors:
    """Encode all items as the warm-up rules and the policy keep them at each budget: float32 ``[V, N, W]``."""
    rules = [*warm_up_rules(tokens), policy]
    return np.stack([encoder.encode(select(rule, tokens, b).apply(tokens)) for b in budgets for rule in rules])


def make_reward(
    task: Task, encoder: ItemEncoder, policy: Scorer, config: LearningConfig, folder: Path
) -> WeightedReward:
    """Make the rewards that ``config.rewards`` names. Stage 1 runs in ``folder`` if one of them needs a recommender.

    Raises
    ------
    ValueError
        If a warmed-up recommender is not clearly better than popularity: its reward would be noise.
    """
    weights = {name: weight for name, weight in config.rewards.items() if weight}
    made: dict[str, ProxyReward] = {}
    if "coconsumption" in weights:
        made["coconsumption"] = CoConsumptionReward(task.tokens, task.train)
    if weights.keys() & {"recommendation", "identity"}:
        reference, folds = warm_up(task, encoder, policy, config, folder)
        for fold, (model, unseen) in enumerate(folds):
            half = Task(task.tokens, task.train[fold::2], task.held_out, [], [])
            users = [*task.held_out, *unseen]
            require_better_than_popularity(half, model, reference, users, f"warm-up recommender {fold + 1} of 2")
        encode = CandidateEncoder(encoder)
        if "recommendation" in weights:
            made["recommendation"] = cross_fitted(
                [RecommendationReward(encode, model, reference, unseen) for model, unseen in folds]
            )
        if "identity" in weights:
            made["identity"] = cross_fitted([IdentityReward(encode, model, reference) for model, _ in folds])
    return WeightedReward(made, weights)


def made_from(task: Task, encoder: ItemEncoder, config: LearningConfig, scorer: Scorer | None = None) -> dict[str, Any]:
    """Name the arguments that a stage's result depends on, as :func:`tsporec.learning.resume.working_in` takes them."""
    users = len(task.train) + len(task.held_out)
    return {
        "texts": describe_texts(task.tokens),
        "interactions": f"those of {users:,} users ({digest(task.train, task.held_out, task.test)[:12]})",
        "model": f"{type(encoder.model).__name__} ({encoder.fingerprint[:12]})",
        "scores": None if scorer is None else digest(score_tokens(scorer, task.tokens))[:12],
        **config.plain(),
    }
