"""The selectors that the quality suite measures: learned from a catalogue, from a part of it, and from others."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import of_items
from tsporec.evaluation.task import Task
from tsporec.learning.config import LearningConfig
from tsporec.learning.pipeline import Start, choose_start, made_distinct
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.selector.model import SelectorConfig, TokenSelector

RECIPE = (
    "distinct selections from the rule and with the strength that best predict last items, "
    "by a ridge recommender of full width"
)
"""Stands in the settings of a selector's cells. Change it with :class:`Learner`: older cells are then refused."""


def untrained(weighting: str, task: Task, tokenizer: Any) -> TokenSelector:
    """Make a rule with the word frequencies of the task's texts."""
    return TokenSelector(SelectorConfig(weighting=weighting)).for_tokenizer(tokenizer).fit(task.tokens)


def added_later(count: int) -> NDArray[np.bool_]:
    """Say which of ``count`` items a selector has not learned from: every fifth.

    >>> added_later(6).tolist()
    [False, False, False, False, True, False]
    """
    return np.arange(count) % 5 == 4


class Learner:
    """Learn selectors with the defaults of ``tsporec train``.

    Parameters
    ----------
    encoder : ItemEncoder
    tokenizer : Hugging Face tokenizer
    folder : Path
        Keeps the figures of the starts that were tried.
    """

    def __init__(self, encoder: ItemEncoder, tokenizer: Any, folder: Path) -> None:
        self.encoder, self.tokenizer, self.folder = encoder, tokenizer, folder

    def learn(self, task: Task, budget: int) -> TokenSelector:
        """Learn from the training users of ``task`` for one budget."""
        return self._distinct(task, budget, self.starts(task, budget)[0])

    def learn_before_items(self, task: Task, budget: int) -> TokenSelector:
        """Learn before a fifth of the items was there: neither their texts nor what users did with them are known.

        Then they are added: they keep tokens that set them apart, and the other items keep theirs.
        """
        later = added_later(len(task.tokens))
        before, after = np.flatnonzero(~later), np.flatnonzero(later)
        known = of_items(task, before)
        start = self.starts(known, budget)[0]
        selector, grown = self._distinct(known, budget, start), task.tokens.take(np.concatenate([before, after]))
        if start.distinct is None:
            return selector
        return selector.make_distinct(grown, [budget], start.distinct, unchanged=len(before))

    def learn_elsewhere(self, task: Task, others: Mapping[str, Task], budget: int) -> TokenSelector:
        """Learn from other catalogues: the start that is best there on average. Of ``task`` only texts are known."""
        tried = [self.starts(other, budget)[1] for other in others.values()]
        shares = {start: np.mean([one[str(start)] / max(one.values()) for one in tried]) for start in STARTS}
        return self._distinct(task, budget, max(STARTS, key=lambda start: shares[start]))

    def starts(self, task: Task, budget: int) -> tuple[Start, dict[str, float]]:
        """Try the starts on the last items of training users; return the best one and the figures of all."""
        rule = partial(untrained, task=task, tokenizer=self.tokenizer)
        config = LearningConfig(budgets=(budget,))
        found = choose_start(task, self.encoder, rule, config, self.folder / f"{task.fingerprint}-{budget}")
        print(*found, flush=True)
        return found

    def _distinct(self, task: Task, budget: int, start: Start) -> TokenSelector:
        return made_distinct(untrained(start.weighting, task, self.tokenizer), task.tokens, [budget], start)


_DEFAULTS = LearningConfig()
STARTS = [Start(name, strength) for name in _DEFAULTS.weightings for strength in _DEFAULTS.distinct or (None,)]
"""The starts that the defaults try."""
