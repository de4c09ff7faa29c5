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
    from tsporec.budget import Budget
    from tsporec.catalog.catalog import ItemCatalog
    from tsporec.collators.mixed import MixedCollator
    from tsporec.collators.selector import SelectorCollator
    from tsporec.learning.trainer import PreferenceConfig, PreferenceTrainer
    from tsporec.scorers import make_scorer
    from tsporec.selection import Selection, select
    from tsporec.selector.model import TokenSelector
    from tsporec.tokenizer import wrap_tokenizer
    from tsporec.tokens.ragged import RaggedTokens


__all__ = [
    "Budget",
    "ItemCatalog",
    "MixedCollator",
    "PreferenceConfig",
    "PreferenceTrainer",
    "RaggedTokens",
    "Selection",
    "SelectorCollator",
    "TokenSelector",
    "make_scorer",
    "select",
    "wrap_tokenizer",
]

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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tsporec' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
