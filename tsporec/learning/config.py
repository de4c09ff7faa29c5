"""The arguments of the three stages of learning."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tsporec._internal.types import check_types
from tsporec.budget import Budget
from tsporec.evaluation.measures import size_label, size_of
from tsporec.learning.candidates import PAIRS, CandidateConfig
from tsporec.recommenders.embedding import EmbeddingConfig
from tsporec.scorers.patterns import join_patterns
from tsporec.selector.config import WEIGHTINGS, SelectorConfig
from tsporec.selector.distinct_items import STRENGTH

REWARDS = ("coconsumption", "recommendation", "identity")
"""The rewards that ``LearningConfig.rewards`` may name."""
ITEM_TRAINING = {"learning_rate": 5e-3, "weight_decay": 0.0, "held_out": 0.0, "num_train_epochs": 6, "beta": 0.3}
"""Arguments of training for item weights. No item is held out: the weights of one item predict nothing of another."""


@dataclass(frozen=True)
class LearningConfig:
    """Configure warming up, preference learning and adapting.

    Parameters
    ----------
    budgets : tuple of int or Budget
        Tokens that an item may keep, or shares of its tokens. The selector learns at all of these budgets; the
        recommender is adapted to the first. Default: ``(8,)``.
    weightings : tuple of str
        Rules to start from (:data:`~tsporec.selector.config.WEIGHTINGS`). Default: "tfidf" and "placed".
    distinct : tuple of float
        Strengths with which selections are made distinct; see :meth:`tsporec.TokenSelector.make_distinct`. Empty:
        they are left as they are. Of several weightings or strengths, the pair is used that best predicts training
        users' last items (:func:`tsporec.learning.pipeline.choose_start`). Default: 0 and 1.2.
    network_rounds : int
        On-policy rounds of preferences that train the selector's network, which serves any text. Default: 0.
    item_rounds : int
        Rounds after them that train item weights, one for each word piece of each item. Default: 0. Before you ask for
        rounds, see how well the reward agrees with recommendations on your data: ``docs/research/testbed.md``.
    candidates : int
        Token subsets that are sampled of each item, at each budget and in each round. Default: 16.
    pairs : int
        Preference pairs made of these candidates, at most. Default: 8.
    uniform : float
        Share of the candidates that is sampled uniformly. See :class:`CandidateConfig`. Default: 0.3.
    swapped : float
        Share of the candidates that differs by a few tokens from the policy's best subset. Default: 0.4.
    rewards : dict of str to float
        Weight of each proxy reward of :data:`REWARDS`; weight 0 leaves one out. "recommendation" and "identity" read
        items with a recommender, so they need stage 1. Default: co-consumption alone.
    keep : tuple of str
        What the recommender's texts keep first: names or patterns of :class:`~tsporec.scorers.patterns.Keeping`.
        Default: nothing.
    gate : bool
        Drop a round if a ridge recommender does worse on held-out users with its selection. Default: True.
    network_training : dict
        Arguments of :class:`~tsporec.learning.trainer.PreferenceConfig` for the network rounds. Default: none.
    item_training : dict
        Arguments for the item rounds; they replace those of :data:`ITEM_TRAINING`. Default: none.
    selector : SelectorConfig
        Shape of the selector. Its weighting is replaced by the one that is chosen.
    recommender : EmbeddingConfig
        Shape and training of the recommender. Its seed is replaced by ``seed``.
    seed : int
        Random seed. Default: 0.

    Examples
    --------
    >>> LearningConfig(budgets=(8, 16), item_rounds=3, seed=1).recommender.seed
    1
    """

    budgets: tuple[Budget | int, ...] = (8,)
    weightings: tuple[str, ...] = ("tfidf", "placed")
    distinct: tuple[float, ...] = (0.0, STRENGTH)
    network_rounds: int = 0
    item_rounds: int = 0
    candidates: int = CandidateConfig.count
    pairs: int = PAIRS
    uniform: float = CandidateConfig.uniform
    swapped: float = CandidateConfig.swapped
    rewards: dict[str, float] = field(default_factory=lambda: {"coconsumption": 1.0})
    keep: tuple[str, ...] = ()
    gate: bool = True
    network_training: dict[str, Any] = field(default_factory=dict)
    item_training: dict[str, Any] = field(default_factory=dict)
    selector: SelectorConfig = field(default_factory=SelectorConfig)
    recommender: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.budgets, list | tuple) or not self.budgets:
            raise ValueError(f"budgets must be a tuple of one or more, such as (8,); found {self.budgets!r}.")
        for budget in self.budgets:
            size_of(budget)
        check_types(self)
        object.__setattr__(self, "recommender", replace(self.recommender, seed=self.seed))
        join_patterns(self.keep)
        if not set(self.rewards) <= set(REWARDS) or not any(self.rewards.values()):
            raise ValueError(f"rewards must give weights, not all 0, to {', '.join(REWARDS)}; found {self.rewards}.")
        if not self.weightings or not set(self.weightings) <= set(WEIGHTINGS):
            found = ", ".join(self.weightings) or "none"
            raise ValueError(f"weightings must be one or more of {', '.join(WEIGHTINGS)}; found {found}.")
        if any(not 0 <= strength < math.inf for strength in self.distinct):
            raise ValueError(f"distinct must be finite strengths of at least 0; found {self.distinct}.")
        if min(self.network_rounds, self.item_rounds) < 0:
            raise ValueError(
                f"rounds cannot be below 0; found network_rounds={self.network_rounds}, item_rounds={self.item_rounds}."
            )

    def plain(self) -> dict[str, Any]:
        """Return the fields as JSON values, budgets as a table shows them; the recommender's seed is ``seed``."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        values["budgets"] = [size_label(size_of(budget)) for budget in self.budgets]
        del values["recommender"]["seed"]
        return values
