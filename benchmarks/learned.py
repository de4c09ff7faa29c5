"""The selector that the quality suite measures."""

from __future__ import annotations

import tempfile
from typing import Any

from tsporec._internal.seeds import seeded
from tsporec.evaluation.task import Task
from tsporec.learning.config import LearningConfig
from tsporec.learning.rewards.coconsumption import CoConsumptionReward
from tsporec.learning.rounds import learn_selector
from tsporec.scorers import Scorer
from tsporec.selector.model import TokenSelector

RECIPE = "co-consumption, two rounds of item weights"
"""Stands in the settings of a selector's cells. Change it with :func:`learned`: older cells are then refused."""


def learned(task: Task, tokenizer: Any, budget: int, seed: int) -> Scorer:
    """Learn a selector for one budget from the training users of ``task``, with the defaults of ``tsporec train``."""
    config = LearningConfig(
        budgets=(budget,), network_training={"use_cpu": True}, item_training={"use_cpu": True}, seed=seed
    )
    with seeded(seed):
        start = TokenSelector(config.selector).for_tokenizer(tokenizer).fit(task.tokens)
    with tempfile.TemporaryDirectory() as folder:
        return learn_selector(task.tokens, start, CoConsumptionReward(task.tokens, task.train), folder, config)[0]
