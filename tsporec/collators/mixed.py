"""Apply a randomly chosen collator to each feature: how a recommender is warmed up, to read any of several cuts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tsporec.collators.selector import CollatorAround, SelectorCollator


class MixedCollator(CollatorAround):
    """Cut each feature by one of several collators, sampled anew each time, then call their base collator.

    A recommender that is trained on it learns to read whatever each of them keeps. Warm one up on the first tokens,
    random tokens, tf-idf and the untrained selector, at the budgets in use. Its losses then rank subsets.

    The collators wrap one base collator and are equally likely. They are sampled with torch's global generator, so a
    Trainer's ``seed`` fixes them, in workers too.

    >>> from tsporec import make_scorer
    >>> rules = make_scorer("head"), make_scorer("random")
    >>> mixed = MixedCollator([SelectorCollator(list, rule, budget=2) for rule in rules])
    >>> len(mixed([{"input_ids": [5, 6, 7, 8], "item_spans": [(0, 4)]}])[0]["input_ids"])
    2
    """

    def __init__(self, collators: Sequence[SelectorCollator]) -> None:
        self.collators = list(collators)
        if not self.collators or not all(isinstance(one, SelectorCollator) for one in self.collators):
            raise ValueError(
                f"give one SelectorCollator or more; found {[type(one).__name__ for one in self.collators]}."
            )
        self.base_collator = self.collators[0].base_collator
        if any(one.base_collator != self.base_collator for one in self.collators):
            raise ValueError("the collators wrap different base collators; one batch is made by one base collator.")

    def __call__(self, features: Sequence[Mapping[str, Any]], *args: Any, **kwargs: Any) -> Any:
        """Return the base collator's batch of the cut features. Further arguments go to the base collator."""
        return self.base_collator(self.cut(features), *args, **kwargs)

    def cut(self, features: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Return the features in their order, each cut by the collator sampled for it."""
        sampled = torch.randint(len(self.collators), (len(features),)).tolist()
        cut: list[Mapping[str, Any]] = list(features)
        for number, collator in enumerate(self.collators):
            mine = [i for i, one in enumerate(sampled) if one == number]
            for i, feature in zip(mine, collator.cut([features[i] for i in mine], mine), strict=True):
                cut[i] = feature
        return cut
