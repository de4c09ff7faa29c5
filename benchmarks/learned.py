"""The selector that the quality suite measures."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from tsporec.evaluation.task import Task
from tsporec.learning.config import LearningConfig
from tsporec.learning.pipeline import choose_start, made_distinct
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.scorers import Scorer
from tsporec.selector.model import SelectorConfig, TokenSelector

RECIPE = "distinct selections from the rule and with the strength that best predict last items, by a ridge recommender"
"""Stands in the settings of a selector's cells. Change it with :func:`learned`: older cells are then refused."""


def untrained(weighting: str, task: Task, tokenizer: Any) -> TokenSelector:
    """Make a rule with the word frequencies of the task's texts."""
    return TokenSelector(SelectorConfig(weighting=weighting)).for_tokenizer(tokenizer).fit(task.tokens)


def learned(task: Task, encoder: ItemEncoder, tokenizer: Any, budget: int) -> Scorer:
    """Learn a selector for one budget from the training users of ``task``, with the defaults of ``tsporec train``."""
    rule = partial(untrained, task=task, tokenizer=tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        start, trials = choose_start(task, encoder, rule, LearningConfig(budgets=(budget,)), Path(folder))
    print(start, trials, flush=True)
    return made_distinct(rule(start.weighting), task.tokens, [budget], start)
