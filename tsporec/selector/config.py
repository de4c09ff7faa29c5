"""The config of a selector, saved as JSON: its shape, the rule it starts from, and the checksums of its weights."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tsporec._version import __version__
from tsporec.selector.layout import WINDOW
from tsporec.selector.network import SIGNALS
from tsporec.selector.vocabulary import CLASSES

SPREAD = 4.0
"""Scale for log-frequency signals, so their range matches idf (about 1 to 10)."""
_LAST = {"first_occurrence": 50.0, "special": -150.0}
RULES = {
    # A token's first occurrence scores above every repeat, and special tokens score below everything.
    "idf": {"idf": 1.0, "first_occurrence": 10.0, "special": -20.0},
    # Logarithms of the products named in SelectorConfig.weighting; they order tokens as the products do.
    "tfidf": {"idf": 1.0, "log_count": SPREAD, **_LAST},
    "placed": {"idf": 1.0, "log_count": SPREAD / 2, "log_place": -0.4 * SPREAD, **_LAST},
}
"""Weighting -> the rule weights of an untrained selector, by signal. A signal that is not named has weight 0."""
WEIGHTINGS = tuple(RULES)
NETWORK = "network."
"""How the names of the network's tensors start. The others decide the scores while the network gives 0."""

FORMAT_VERSION = 1
"""The format of a saved selector: its files, their names and the keys of config.json."""

_DEPTH = 16  # levels of `training` that are accepted: deeper values are an attack on recursion


@dataclass(frozen=True)
class SelectorConfig:
    """The shape of a :class:`tsporec.TokenSelector` and the rule it starts from.

    Parameters
    ----------
    dim : int
        Width of a token's features. Default: 32.
    hidden : int
        Width of the network's hidden states. Default: 32. The cost of a token grows with its square.
    gram_buckets : int
        Hash buckets for character n-grams, each with ``dim`` weights. Default: 16384. Fewer buckets collide more.
    surface_buckets : int
        Hash buckets for document frequencies, one number each. Default: 32768. Use more for many tokenizers.
    weighting : "idf", "tfidf" or "placed"
        The rule that scores start from: ``idf``, ``tf * idf`` or ``sqrt(tf) * idf / (1 + place) ** 0.4``. Default:
        "idf". A repeated token counts at its first place. "placed" is the best rule where nothing is learned; its
        exponents were chosen on product texts whose title comes first. A network learns best from "idf".
    dropout : float
        Share of hidden states dropped while the network is trained. Default: 0.1.
    training : dict
        Facts about the training for the model card; its keys are in :data:`tsporec.selector.card.TRAINING`. Default:
        empty. Values are plain and finite, as JSON has them.

    Raises
    ------
    ValueError
        If a value has another type or is out of range.

    Examples
    --------
    >>> SelectorConfig(dim=16, weighting="placed").hidden
    32
    """

    dim: int = 32
    hidden: int = 32
    gram_buckets: int = 16384
    surface_buckets: int = 32768
    weighting: str = "idf"
    dropout: float = 0.1
    training: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("dim", "hidden", "gram_buckets", "surface_buckets"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} is a whole number of at least 1; found {_short(value)}.")
        if self.weighting not in WEIGHTINGS:
            raise ValueError(f"weighting is one of {', '.join(WEIGHTINGS)}; found {_short(self.weighting)}.")
        if type(self.dropout) not in (int, float) or not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is a number from 0 to below 1; found {_short(self.dropout)}.")
        for fault in _faults(self.training) if isinstance(self.training, dict) else [self.training]:
            raise ValueError(
                "training is a mapping of plain values as JSON has them (text, finite numbers, None, lists, mappings "
                f"with text as keys; at most {_DEPTH} levels deep); found {_short(fault)}."
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SelectorConfig:
        """Make a config from its fields; a missing field gets its default, an unknown key is a ValueError."""
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            raise ValueError(f"unknown config keys {_short(unknown)}; written by a newer tsporec? Upgrade.")
        return cls(**values)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every tensor of such a selector, item weights left out."""
        dim, hidden = self.dim, self.hidden
        network = {
            "grams.weight": (self.gram_buckets, dim),
            "classes.weight": (dim, len(CLASSES)),
            "first.weight": (hidden, WINDOW * dim + len(SIGNALS)),
            "first.bias": (hidden,),
            "context.weight": (hidden, hidden),
            "second.weight": (hidden, 3 * hidden),
            "second.bias": (hidden,),
            "out.weight": (1, hidden),
        }
        rule = {"blend": (len(SIGNALS),), "idf": (self.surface_buckets,)}
        return {**{NETWORK + name: shape for name, shape in network.items()}, **rule}


@dataclass(frozen=True)
class SavedSelector:
    """All that config.json says of a saved selector.

    Parameters
    ----------
    config : SelectorConfig
    weights_sha256 : str
        Checksum of the weights.
    has_network : bool
        Whether the weights include the network. False for a rule, whose network gives 0.
    item_weights : dict, optional
        The ``sha256`` of the item weights, and how many ``items`` have some. Default: there are none.
    """

    config: SelectorConfig
    weights_sha256: str
    has_network: bool
    item_weights: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        items, kinds = self.item_weights, {"sha256": str, "items": int}
        if not isinstance(self.weights_sha256, str) or not isinstance(self.has_network, bool):
            raise ValueError("weights_sha256 must be text and has_network true or false; fetch it again.")
        if items is not None and not (
            isinstance(items, dict) and items.keys() == kinds.keys()
            and all(isinstance(items[key], kind) for key, kind in kinds.items())
        ):  # fmt: skip
            raise ValueError(f"item_weights must be null or have {', '.join(kinds)}; found {_short(items)}.")

    def to_json(self) -> bytes:
        """Return the bytes of config.json."""
        header = {"format_version": FORMAT_VERSION, "library_version": __version__}
        header |= {key: value for key, value in vars(self).items() if key != "config"}
        return (json.dumps({**header, **vars(self.config)}, indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> SavedSelector:
        """Read config.json; a ValueError says what is wrong with it."""
        try:
            values = json.loads(data.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"it is not JSON ({error}); fetch it again.") from error
        version = values.pop("format_version", None) if isinstance(values, dict) else None
        if type(version) is not int or version < 1:
            raise ValueError("it has no format_version, so it is not the config of a tsporec selector.")
        if version > FORMAT_VERSION:
            raise ValueError(
                f"it has format version {version}, this library reads up to {FORMAT_VERSION}; "
                "upgrade it: pip install -U tsporec."
            )
        values.pop("library_version", None)
        header = [values.pop(key, None) for key in ("weights_sha256", "has_network", "item_weights")]
        return cls(SelectorConfig.from_dict(values), *header)


def _faults(value: Any, depth: int = _DEPTH) -> Iterator[Any]:
    """List the parts of ``value`` that JSON cannot hold, or that lie too deep."""
    if isinstance(value, dict | list | tuple):
        if depth == 0:
            yield value
            return
        if isinstance(value, dict):
            yield from (key for key in value if not isinstance(key, str))
            value = value.values()
        for part in value:
            yield from _faults(part, depth - 1)
    elif not (value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))):
        yield value


def _short(value: Any) -> str:
    """Cut ``value`` short for a message. A numpy number is named as one, because it prints as a plain number."""
    found = reprlib.repr(value)
    return f"{found} of numpy: give a plain int or float" if isinstance(value, np.generic) else found
