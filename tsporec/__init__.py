"""Keep the tokens of an item's text that an LLM recommender recommends best with.

The names below are loaded when they are first used, so that ``import tsporec`` costs torch and numpy and no more.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy  # noqa: F401 - what is promised to be loaded
import torch  # noqa: F401

if TYPE_CHECKING:
    from tsporec.budget import Budget
    from tsporec.catalog import ItemCatalog
    from tsporec.collator import SelectorCollator
    from tsporec.mixed import MixedCollator
    from tsporec.preference.trainer import PreferenceConfig, PreferenceTrainer
    from tsporec.ragged import RaggedTokens
    from tsporec.scorers import make_scorer
    from tsporec.selection import Selection, select
    from tsporec.selector import TokenSelector
    from tsporec.tokenizer import wrap_tokenizer

__version__ = "0.1.0"

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
    "ItemCatalog": "tsporec.catalog",
    "MixedCollator": "tsporec.mixed",
    "PreferenceConfig": "tsporec.preference.trainer",
    "PreferenceTrainer": "tsporec.preference.trainer",
    "RaggedTokens": "tsporec.ragged",
    "Selection": "tsporec.selection",
    "SelectorCollator": "tsporec.collator",
    "TokenSelector": "tsporec.selector",
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
