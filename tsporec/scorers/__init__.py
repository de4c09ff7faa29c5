"""Scorers give every token of a text a number: higher means more worth keeping.

:func:`make_scorer` finds a scorer by its name: ``head``, ``random``, ``tfidf``, ``self_information``, ``attention``,
``centroid`` or ``llmlingua2``, each in a file of its name. ``cached``, ``patterns`` and ``without_repeats`` wrap a
scorer. ``base`` holds the protocol, and ``language`` the base class of scorers that read with a model.
"""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from typing import Any

from tsporec.scorers.base import BaseScorer, Scorer, Scores

SCORERS = {
    "head": "HeadScorer",
    "random": "RandomScorer",
    "tfidf": "TfidfScorer",
    "self_information": "SelfInformationScorer",
    "attention": "AttentionScorer",
    "centroid": "CentroidScorer",
    "llmlingua2": "LLMLingua2Scorer",
}
"""Scorer name, which is also its module's name -> class name."""


def make_scorer(name: str, **options: Any) -> BaseScorer:
    """Make the scorer called ``name`` with ``options``. An unknown name is a ValueError that lists all names.

    >>> make_scorer("random", seed=3).seed
    3
    """
    if name not in [*SCORERS]:
        raise ValueError(f"there is no scorer {name!r}; expected one of {', '.join(SCORERS)}.")
    kind = getattr(import_module(f"{__name__}.{name}"), SCORERS[name])
    taken = signature(kind)
    try:
        taken.bind(**options)
    except TypeError as error:
        known = ", ".join(taken.parameters) or "no options"
        raise TypeError(f"the scorer {name!r} takes {known}; {error}.") from None
    scorer: BaseScorer = kind(**options)
    return scorer


__all__ = ["SCORERS", "BaseScorer", "Scorer", "Scores", "make_scorer"]
