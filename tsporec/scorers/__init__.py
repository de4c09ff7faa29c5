"""Scorers: each gives every token of a text a number, higher for what is more worth keeping.

One scorer a file. :func:`make_scorer` finds one by its name and imports its module only then.
"""

from __future__ import annotations

from importlib import import_module
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
"""Scorer name (also its module's) -> class name."""


def make_scorer(name: str, **options: Any) -> BaseScorer:
    """The scorer called ``name``, made with ``options``.

    Raises
    ------
    ValueError
        If there is no such scorer; the message lists those there are.
    """
    if name not in SCORERS:
        raise ValueError(f"there is no scorer {name!r}; expected one of {', '.join(SCORERS)}.")
    module = import_module(f"{__name__}.{name}")
    scorer: BaseScorer = getattr(module, SCORERS[name])(**options)
    return scorer


__all__ = ["SCORERS", "BaseScorer", "Scorer", "Scores", "make_scorer"]
