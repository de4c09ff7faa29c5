"""A collator that is another one in each feature: what a recommender is warmed up with, to read any of several cuts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tsporec.collators.selector import CollatorAround, SelectorCollator


class MixedCollator(CollatorAround):
    """Cut every feature by one of several collators, drawn anew each time, then call their base collator.

    A recommender trained on it reads whatever each of them keeps: warm one up on the first tokens, random ones, tf-idf
    and the untrained selector at the budgets in use, and its losses can tell good subsets from bad ones.

    Parameters
    ----------
    collators : SelectorCollator, one or more
        With one base collator. Each is as likely as any other.

    Notes
    -----
    The draw is from torch's global generator: a Trainer's ``seed`` fixes it, in a DataLoader's workers too.

    Examples
    --------
    >>> rules = [make_scorer("head"), make_scorer("random"), selector]                          # doctest: +SKIP
    >>> MixedCollator([SelectorCollator(base, rule, Budget(tokens=8)) for rule in rules])       # doctest: +SKIP
    """

    def __init__(self, collators: Sequence[SelectorCollator]) -> None:
        self.collators = list(collators)
        if not self.collators or not all(isinstance(one, SelectorCollator) for one in self.collators):
            raise ValueError(
                f"give one SelectorCollator or more; found {[type(one).__name__ for one in self.collators]}."
            )
        self.base_collator = self.collators[0].base_collator
        if any(one.base_collator != self.base_collator for one in self.collators):
            raise ValueError("the collators wrap different base collators; a batch can be made by one alone.")

    def cut(self, features: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The features in their order, each cut by the collator drawn for it."""
        drawn = torch.randint(len(self.collators), (len(features),)).tolist()
        cut: list[Mapping[str, Any]] = list(features)
        for number, collator in enumerate(self.collators):
            mine = [i for i, one in enumerate(drawn) if one == number]
            for i, feature in zip(mine, collator.cut([features[i] for i in mine], mine), strict=True):
                cut[i] = feature
        return cut
