"""Keep the tokens of an item's text that an LLM recommender recommends best with.

The names below are loaded when they are first used, so that ``import tsporec`` costs torch and numpy and no more.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy  # noqa: F401 - what is promised to be loaded
import torch  # noqa: F401

from tsporec._version import __version__  # noqa: F401

if TYPE_CHECKING:
    from tsporec.budget import Budget as Budget
    from tsporec.catalog.catalog import ItemCatalog as ItemCatalog
    from tsporec.collators.mixed import MixedCollator as MixedCollator
    from tsporec.collators.selector import SelectorCollator as SelectorCollator
    from tsporec.learning.trainer import PreferenceConfig as PreferenceConfig
    from tsporec.learning.trainer import PreferenceTrainer as PreferenceTrainer
    from tsporec.scorers import make_scorer as make_scorer
    from tsporec.selection import Selection as Selection
    from tsporec.selection import select as select
    from tsporec.selector.model import TokenSelector as TokenSelector
    from tsporec.tokenizer import wrap_tokenizer as wrap_tokenizer
    from tsporec.tokens.ragged import RaggedTokens as RaggedTokens

_HOMES = {
    "Budget": "tsporec.budget",
    "ItemCatalog": "tsporec.catalog.catalog",
    "MixedCollator": "tsporec.collators.mixed",
    "PreferenceConfig": "tsporec.learning.trainer",
    "PreferenceTrainer": "tsporec.learning.trainer",
    "RaggedTokens": "tsporec.tokens.ragged",
    "Selection": "tsporec.selection",
    "SelectorCollator": "tsporec.collators.selector",
    "TokenSelector": "tsporec.selector.model",
    "make_scorer": "tsporec.scorers",
    "select": "tsporec.selection",
    "wrap_tokenizer": "tsporec.tokenizer",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tsporec' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
