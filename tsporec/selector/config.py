"""What shape a selector has: the part of it that is saved as JSON."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from tsporec.selector.layout import WINDOW
from tsporec.selector.network import SIGNALS
from tsporec.selector.vocabulary import CLASSES, TABLES, embeddings_fingerprint

SPREAD = 4.0
"""Of logarithms of frequencies, so that these are as wide as what they are of: some 1 to 10."""
_LAST = {"first_occurrence": 50.0, "special": -150.0}
RULES = {
    # First occurrences are above any other, special tokens below all.
    "idf": {"idf": 1.0, "first_occurrence": 10.0, "special": -20.0},
    # Logarithms, which rank as what they are of.
    "tfidf": {"idf": 1.0, "log_count": SPREAD, **_LAST},
    "placed": {"idf": 1.0, "log_count": SPREAD / 2, "log_place": -0.4 * SPREAD, **_LAST},
}
"""Weighting -> the weights of the signals in an untrained selector; those that are not named have 0."""
WEIGHTINGS = tuple(RULES)

_DEPTH = 16  # levels of `training`: what is deeper is no record but an attack on recursion


@dataclass(frozen=True)
class SelectorConfig:
    """The shape of a :class:`tsporec.selector.model.TokenSelector` and where it comes from.

    Parameters
    ----------
    dim : int
        Width of a token's features.
    hidden : int
        Width of the hidden states.
    gram_buckets, surface_buckets : int
        Hash buckets of character n-grams (each a row of ``dim`` weights) and of document frequencies.
    weighting : "idf", "tfidf" or "placed"
        The term weighting that scores begin from: ``idf``, ``tf * idf`` or ``sqrt(tf) * idf / (1 + place) ** 0.4``,
        whose exponents were chosen on product texts with the title first. A repeated token counts at its first place.
        The last is the best rule where nothing is learned; a network learns from the first, for what the others say of
        repeated tokens is hard to unlearn.
    dropout : float
        While training.
    table : "surface" or "embeddings"
        What a token's features are made of: its spelling, which serves any tokenizer, or the input embeddings of one
        language model, which are not stored here but given to :meth:`TokenSelector.for_tokenizer`.
    embedding_width, embedding_fingerprint : int, str
        Of those embeddings; :meth:`of_embeddings` fills them in.
    training : dict
        For the model card; its keys are those of :data:`tsporec.selector.card.TRAINING`. Plain finite values, as
        JSON has them.

    Raises
    ------
    ValueError
        If a value is of another type or out of range.
    """

    dim: int = 32
    hidden: int = 32
    gram_buckets: int = 16384
    surface_buckets: int = 32768
    weighting: str = "idf"
    dropout: float = 0.1
    table: str = "surface"
    embedding_width: int = 0
    embedding_fingerprint: str = ""
    training: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in {
            "dim": 1,
            "hidden": 1,
            "gram_buckets": 1,
            "surface_buckets": 1,
            "embedding_width": 0,
        }.items():
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"{name} is a whole number of at least {least}; found {_short(value)}.")
        if self.weighting not in WEIGHTINGS:
            raise ValueError(f"weighting is one of {', '.join(WEIGHTINGS)}; found {_short(self.weighting)}.")
        if type(self.dropout) not in (int, float) or not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is a number from 0 to below 1; found {_short(self.dropout)}.")
        if not isinstance(self.embedding_fingerprint, str):
            raise ValueError(f"embedding_fingerprint is a string; found {_short(self.embedding_fingerprint)}.")
        faults = _faults(self.training, _DEPTH) if isinstance(self.training, dict) else iter([self.training])
        for fault in faults:
            raise ValueError(
                "training is a mapping of plain values as JSON has them (text, finite numbers, None, lists, mappings "
                f"with text as keys; at most {_DEPTH} levels deep); found {_short(fault)}."
            )
        if self.table not in TABLES or (self.table == "embeddings") != bool(self.embedding_width):
            raise ValueError(
                f"table is one of {', '.join(TABLES)}, with an embedding_width where it is 'embeddings'; found "
                f"{_short(self.table)} and {_short(self.embedding_width)}. Use SelectorConfig.of_embeddings(weight)."
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SelectorConfig:
        """The config with these fields, the others as by default; a key that is no field is a ValueError."""
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            raise ValueError(f"unknown config keys {_short(unknown)}; written by a newer tsporec? Upgrade.")
        return cls(**values)

    @classmethod
    def of_embeddings(cls, embeddings: Tensor, **options: Any) -> SelectorConfig:
        """A config for a table made of ``embeddings [V, W]``, a language model's input embeddings."""
        width, fingerprint = embeddings.shape[1], embeddings_fingerprint(embeddings)
        return cls(table="embeddings", embedding_width=width, embedding_fingerprint=fingerprint, **options)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each learned tensor of such a selector, by name; a lexicon, which has any length, left out."""
        dim, hidden = self.dim, self.hidden
        spelling = (
            {"grams.weight": (self.gram_buckets, dim)}
            if self.table == "surface"
            else {"projection.weight": (dim, self.embedding_width)}
        )
        return {
            **spelling,
            "classes.weight": (dim, len(CLASSES)),
            "network.first.weight": (hidden, WINDOW * dim + len(SIGNALS)),
            "network.first.bias": (hidden,),
            "network.context.weight": (hidden, hidden),
            "network.second.weight": (hidden, 3 * hidden),
            "network.second.bias": (hidden,),
            "network.out.weight": (1, hidden),
            "blend": (len(SIGNALS),),
            "idf": (self.surface_buckets,),
        }


def _faults(value: Any, depth: int) -> Iterator[Any]:
    """What of ``value`` is not plain."""
    if isinstance(value, dict | list | tuple):
        if depth == 0:
            yield value
            return
        parts = value.values() if isinstance(value, dict) else value
        yield from (key for key in (value if isinstance(value, dict) else ()) if not isinstance(key, str))
        for part in parts:
            yield from _faults(part, depth - 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield value
    elif value is not None and not isinstance(value, str | int):
        yield value


def _short(value: Any) -> str:
    """``value`` for a message: it may be deep, or long; or look like a plain number, and not be one."""
    found = reprlib.repr(value)
    return f"{found} of numpy: give a plain int or float" if isinstance(value, np.generic) else found
