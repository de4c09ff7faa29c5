"""What is asked of learning: the arguments of the three stages."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tsporec.recommenders.embedding import EmbeddingConfig
from tsporec.selector.config import WEIGHTINGS, SelectorConfig

MEMORY = {"learning_rate": 5e-3, "weight_decay": 0.0, "held_out": 0.0, "num_train_epochs": 6, "beta": 0.3}
"""How offsets learn. They say nothing of other segments, so none is held out."""


@dataclass(frozen=True)
class LearningConfig:
    """What the three stages do.

    Parameters
    ----------
    budgets : ints
        Tokens of each item; the selector learns at all of them, the recommender is adapted to the first.
    rounds, memory_rounds : int
        On-policy rounds of stage 2: of the selector's network, which serves any text, and then of the offsets of the
        catalogue's own texts (:class:`~tsporec.selector.item_weights.CatalogueSelector`; 0: none).
    candidates, pairs : int
        Of an item at each budget, in each round.
    uniform, swapped : float
        Shares of candidates; see :class:`CandidateConfig`.
    rewards : name -> weight
        Of "coconsumption", "recommendation" and "identity"; 0 leaves one out. The last two read items with a
        recommender, so they need stage 1.
    gate : bool
        Drop a round after which a recommender adapted to the selection does worse on held-out users. It costs a fit a
        round and budget, and two fits of one selection may differ by more than two rounds do: on 289 held-out users
        by up to .03 NDCG@10. For catalogues with thousands of them.
    preference, memory : dict
        Arguments of :class:`~tsporec.learning.trainer.PreferenceConfig` for the rounds of either kind, instead of its
        defaults or, for offsets, of :data:`MEMORY`.
    selector : SelectorConfig
    weightings : names
        Of :data:`~tsporec.selector.config.WEIGHTINGS`: learning begins from the one whose selector, learned from what
        came before, is best at the first budget for a recommender that tells the last items of training users; it costs
        a run of the stages for each. At least two; by default none is tried, and ``selector.weighting`` is taken.
    recommender : EmbeddingConfig
        Its seed is replaced by ``seed``.
    seed : int
    """

    budgets: tuple[int, ...] = (8,)
    rounds: int = 0
    memory_rounds: int = 2
    candidates: int = 16
    pairs: int = 8
    uniform: float = 0.3
    swapped: float = 0.4
    rewards: dict[str, float] = field(default_factory=lambda: {"coconsumption": 1.0})
    gate: bool = False
    preference: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    selector: SelectorConfig = field(default_factory=SelectorConfig)
    weightings: tuple[str, ...] = ()
    recommender: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "recommender", replace(self.recommender, seed=self.seed))
        if not self.budgets or min(self.budgets) < 1:
            raise ValueError(f"budgets are one or more numbers of tokens, each at least 1; found {self.budgets}.")
        unknown = sorted(set(self.rewards) - {"coconsumption", "recommendation", "identity"})
        if unknown or not any(self.rewards.values()):
            raise ValueError(
                f"rewards are weights, not all 0, of coconsumption, recommendation and identity; found {self.rewards}."
            )
        if not set(self.weightings) <= set(WEIGHTINGS) or len(self.weightings) == 1:
            raise ValueError(
                f"weightings to try are two or more of {', '.join(WEIGHTINGS)}; found {', '.join(self.weightings)}. "
                "One alone is SelectorConfig.weighting."
            )
        if min(self.rounds, self.memory_rounds) < 0 or self.rounds + self.memory_rounds < 1:
            raise ValueError(
                f"at least one round is needed and none less than 0; found rounds={self.rounds} and "
                f"memory_rounds={self.memory_rounds}."
            )

    def plain(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values
