"""The three stages in a row: warm up a recommender, learn a selector from preferences, adapt the recommender to it.

Every step leaves its result in a folder that appears whole or not at all (made beside its place, then renamed), and a
step whose result is there is not run again. So a run that was killed, at any point, goes on where it was, to the same
weights. Each stage can be called alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tsporec._internal.digest import digest
from tsporec._internal.extras import require
from tsporec.budget import Budget
from tsporec.data.items import FIELDS, Interactions, Item
from tsporec.evaluation.evaluator import warm_up_rules
from tsporec.evaluation.task import Task, prepare
from tsporec.learning.config import MEMORY, LearningConfig
from tsporec.learning.rewards.base import CandidateEncoder, ProxyReward, reward_fingerprint
from tsporec.learning.rewards.coconsumption import CoConsumptionReward
from tsporec.learning.rewards.identity import IdentityReward
from tsporec.learning.rewards.recommendation import RecommendationReward
from tsporec.learning.rewards.weighted import WeightedReward, cross_fitted
from tsporec.learning.rounds import Policy, learn_selector
from tsporec.learning.steps import claim, measured, step
from tsporec.metrics import ndcg
from tsporec.recommenders.embedding import EmbeddingRecommender, make_recommender
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.scorers import Scorer
from tsporec.selection import select
from tsporec.selector.item_weights import CatalogueSelector
from tsporec.selector.model import TokenSelector
from tsporec.tokens.fingerprint import tokenizer_fingerprint
from tsporec.tokens.ragged import RaggedTokens

__all__ = [
    "MEMORY",
    "LearningConfig",
    "Trained",
    "adapt",
    "adapted_quality",
    "learn_selector",
    "make_reward",
    "train",
    "try_weightings",
    "warm_up",
    "warm_up_views",
]

Vectors = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Trained:
    """What :func:`train` leaves.

    Parameters
    ----------
    selector : TokenSelector, or CatalogueSelector if a memory round was kept
    recommender : EmbeddingRecommender
        Adapted to the selector's selection at the first budget.
    rounds : list of dict
        Of each round: held-out ``quality``, whether it was ``kept``, pairs, held-out preference accuracy (None where
        nothing was held out), and whether it was one ``memory`` learned in.
    trials : dict
        Weighting -> NDCG@10 of last items, where several were tried; see :func:`try_weightings`.
    """

    selector: Policy
    recommender: EmbeddingRecommender
    rounds: list[dict[str, Any]]
    trials: dict[str, float]


def train(
    items: Sequence[Item],
    sequences: Sequence[Interactions],
    model: Any,
    tokenizer: Any,
    output: str | Path,
    config: LearningConfig | None = None,
    *,
    fields: Sequence[str] = FIELDS,
    max_tokens: int | None = 256,
    unknown: str = "error",
    reward: ProxyReward | None = None,
) -> Trained:
    """Run the three stages; run again with the same arguments, it goes on where it was stopped.

    Stage 1 is run where a reward needs its recommenders: the default one does not.

    Parameters
    ----------
    items, sequences : the catalogue and what users did (training data only)
        A tenth of the users is held out to choose by.
    model : a Hugging Face causal LM
        Reads the items; stays as it is. Cut it with :func:`tsporec.language_model.cut_layers` for speed.
    tokenizer : the model's
    output : folder
        Gets ``rounds/``, ``selector/``, ``recommender/`` and, from stage 1, ``warm-up/``; ``trials/`` where several
        weightings are tried.
    config : LearningConfig, optional
    fields, max_tokens, unknown : as in :func:`tsporec.evaluation.task.prepare`
    reward : ProxyReward, optional
        Instead of those that ``config.rewards`` names.

    Raises
    ------
    ValueError
        If ``output`` holds a run with other arguments, or the input is not what it should be.
    """
    config, output = config or LearningConfig(), Path(output)
    require("accelerate", extra="train")
    require("datasets", extra="train")
    given = "" if reward is None else reward_fingerprint(reward)
    if config.weightings and reward is not None:
        raise ValueError(
            "weightings are tried on what came before the last items, which the reward given may know; leave "
            "config.weightings empty, or name rewards by config.rewards."
        )
    if not any(len(row.item_ids) > 1 for row in sequences):
        raise ValueError(f"none of {len(sequences)} training sequences has two items; there is nothing to learn from.")
    # The last item of a row is a target to prepare; here it is only learned from.
    task = prepare(items, sequences, list(sequences), tokenizer, fields, max_tokens, unknown, config.seed)
    encoder = ItemEncoder(model)
    claim(
        output,
        digest(
            task.tokens.ids, task.tokens.cu_seqlens, task.train, task.held_out, encoder.fingerprint, config.plain(),
            given, tokenizer_fingerprint(tokenizer),
        ),
    )  # fmt: skip
    embeddings = model.get_input_embeddings().weight if config.selector.table == "embeddings" else None

    def untrained(weighting: str) -> TokenSelector:
        torch.manual_seed(config.seed)
        selector = TokenSelector(replace(config.selector, weighting=weighting))
        return selector.for_tokenizer(tokenizer, embeddings=embeddings).fit(task.tokens)

    trials = try_weightings(task, encoder, untrained, config, output / "trials") if config.weightings else {}
    start = untrained(max(trials, key=lambda name: trials[name]) if trials else config.selector.weighting)
    if reward is None:
        reward = make_reward(task, encoder, start, config, output / "warm-up")

    def quality(policy: Policy) -> float:
        return adapted_quality(task, encoder, policy, config)

    gate = quality if config.gate else None
    selector, rounds = learn_selector(task.tokens, start, reward, output / "rounds", config, gate)
    if isinstance(selector, CatalogueSelector):
        selector.max_tokens = max_tokens
    step(output / "selector", lambda folder: selector.save_pretrained(folder))
    recommender = adapt(task, encoder, selector, config, output / "recommender")
    return Trained(selector, recommender, rounds, trials)


# -- stage 1


def warm_up(
    task: Task, encoder: ItemEncoder, policy: Scorer, config: LearningConfig, folder: Path
) -> tuple[Vectors, list[tuple[EmbeddingRecommender, list[list[int]]]]]:
    """Fit two recommenders on token subsets of the budgets in use, each on half of the users.

    ``folder`` keeps them, and is refused where it has those of other arguments.

    Returns
    -------
    reference : float32 ``[N, W]``
        The mean over views of every item.
    folds : two pairs of a recommender and the training sequences it has *not* seen
    """

    def make(part: Path) -> None:
        views = warm_up_views(task.tokens, encoder, policy, config.budgets)
        np.save(part / "reference.npy", views.mean(axis=0))
        for fold in range(2):
            recommender = make_recommender(views.shape[2], config.recommender)
            recommender.fit(views, task.train[fold::2], task.held_out, f"warm-up {fold + 1}/2")
            recommender.save(part / f"fold-{fold}")

    step(folder, make, _made_from(task, encoder, policy.score(task.tokens), config))
    reference: Vectors = np.load(folder / "reference.npy", allow_pickle=False)
    return reference, [
        (EmbeddingRecommender.load(folder / f"fold-{fold}"), task.train[1 - fold :: 2]) for fold in range(2)
    ]


def warm_up_views(tokens: RaggedTokens, encoder: ItemEncoder, policy: Scorer, budgets: Sequence[int]) -> Vectors:
    """float32 ``[V, N, W]``: all items as the rules of a warm-up and the policy keep them at each budget."""
    rules = [*warm_up_rules(tokens), policy]
    return np.stack(
        [encoder.encode(select(rule, tokens, Budget(tokens=b)).apply(tokens)) for b in budgets for rule in rules]
    )


def make_reward(
    task: Task, encoder: ItemEncoder, policy: Scorer, config: LearningConfig, folder: Path
) -> WeightedReward:
    """The rewards that ``config.rewards`` names; stage 1 runs where one of them needs a recommender."""
    weights = {name: weight for name, weight in config.rewards.items() if weight}
    made: dict[str, ProxyReward] = {}
    if "coconsumption" in weights:
        made["coconsumption"] = CoConsumptionReward(task.tokens, task.train)
    if weights.keys() & {"recommendation", "identity"}:
        reference, folds = warm_up(task, encoder, policy, config, folder)
        encode = CandidateEncoder(encoder)
        if "recommendation" in weights:
            made["recommendation"] = cross_fitted(
                [RecommendationReward(encode, model, reference, unseen) for model, unseen in folds]
            )
        if "identity" in weights:
            made["identity"] = cross_fitted([IdentityReward(encode, reference, model) for model, _ in folds])
    return WeightedReward(made, weights)


def try_weightings(
    task: Task, encoder: ItemEncoder, untrained: Callable[[str], TokenSelector], config: LearningConfig, folder: Path
) -> dict[str, float]:
    """Weighting of ``config.weightings`` -> NDCG@10 of training users' last items at the first budget.

    The selector learns from what came before them, begun from ``untrained(weighting)``, and a recommender is adapted to
    it, as in the stages; ``folder`` keeps what is done, and is refused where it has that of other arguments.

    Raises
    ------
    ValueError
        If no training user has three items.
    """
    part, starts = task.last_items(), {name: untrained(name) for name in config.weightings}
    if not part.test:
        raise ValueError(
            "weightings are tried on the last of three items or more, and no training user has so many; name one by "
            "SelectorConfig.weighting."
        )
    given = (part.tokens.ids, part.tokens.cu_seqlens, part.train, part.held_out, part.test, encoder.fingerprint)
    claim(folder, digest(*given, [start.fingerprint for start in starts.values()], config.plain()))

    def trial(name: str) -> dict[str, Any]:
        start, place = starts[name], folder / name
        reward = make_reward(part, encoder, start, config, place / "warm-up")
        selector, _ = learn_selector(part.tokens, start, reward, place / "rounds", config)
        recommender, vectors = _fit(part, encoder, selector, config.budgets[0], config)
        return {"ndcg@10": float(ndcg(part.ranks(recommender, vectors), 10).mean())}

    return {
        name: measured(folder / f"{name}.json", lambda name=name: trial(name))["ndcg@10"]  # type: ignore[misc]
        for name in config.weightings
    }


# -- stage 3


def adapt(
    task: Task, encoder: ItemEncoder, selector: Scorer, config: LearningConfig, folder: Path
) -> EmbeddingRecommender:
    """Fit a recommender on what the selector keeps at the first budget.

    ``folder`` keeps it, and is refused where it has that of other arguments.
    """

    def make(part: Path) -> None:
        _fit(task, encoder, selector, config.budgets[0], config)[0].save(part)

    step(folder, make, _made_from(task, encoder, selector.score(task.tokens), config))
    return EmbeddingRecommender.load(folder)


def adapted_quality(task: Task, encoder: ItemEncoder, selector: Scorer, config: LearningConfig) -> float:
    """Mean over budgets of NDCG@10 on held-out users, at every place, of a recommender adapted to the selection.

    Not their log-likelihood: that ranks selections by how sure the recommender is, and often the other way round.
    """
    values = []
    for budget in config.budgets:
        recommender, vectors = _fit(task, encoder, selector, budget, config)
        values.append(recommender.held_out_ndcg(vectors, task.held_out))
    return float(np.mean(values))


def _fit(
    task: Task, encoder: ItemEncoder, selector: Scorer, budget: int, config: LearningConfig
) -> tuple[EmbeddingRecommender, Vectors]:
    vectors = encoder.encode(select(selector, task.tokens, Budget(tokens=budget)).apply(task.tokens))
    recommender = make_recommender(vectors.shape[1], config.recommender)
    return recommender.fit(vectors, task.train, task.held_out, f"adapt to {budget} tokens"), vectors


def _made_from(task: Task, encoder: ItemEncoder, scores: NDArray[np.float32], config: LearningConfig) -> str:
    return digest(
        task.tokens.ids, task.tokens.cu_seqlens, task.train, task.held_out, encoder.fingerprint, scores, config.plain()
    )
