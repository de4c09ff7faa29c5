"""The config of a selector, saved as JSON: its shape, the rule it starts from, and the checksums of its weights."""

from __future__ import annotations

import json
import reprlib
from dataclasses import dataclass, field
from typing import Any

from tsporec._version import __version__
from tsporec.selector.text_rows import WINDOW

SPREAD = 4.0
"""Scale for log-frequency signals, so their range matches idf (about 1 to 10)."""
_LAST = {"first_occurrence": 50.0, "special": -150.0}
RULES = {
    # A token's first occurrence scores above every repeat, and special tokens score below everything.
    "idf": {"idf": 1.0, "first_occurrence": 10.0, "special": -20.0},
    # Logarithms of the products named in SelectorConfig.weighting; they order tokens as the products do.
    "tfidf": {"idf": 1.0, "log_count": SPREAD, **_LAST},
    "placed": {"idf": 1.0, "log_count": SPREAD / 2, "log_place": -0.4 * SPREAD, "punctuation": -SPREAD, **_LAST},
}
"""Weighting -> the rule weights of an untrained selector, by signal. A signal that is not named has weight 0."""
WEIGHTINGS = tuple(RULES)
NETWORK = "network."
"""How the names of the network's tensors start. The others decide the scores while the network gives 0."""

FORMAT_VERSION = 1
"""The format of a saved selector: its files, their names and the keys of config.json."""

_LEVELS = 16  # levels of `training` that are accepted: deeper values are an attack on recursion
_MOST_WEIGHTS = 2**27  # a config alone must not fill the memory


@dataclass(frozen=True)
class SelectorConfig:
    """The shape of a :class:`tsporec.TokenSelector` and the rule it starts from.

    Parameters
    ----------
    dim : int
        Width of a token's features.
    hidden : int
        Width of the network's hidden states. The cost of a token grows with its square.
    gram_buckets : int
        Hash buckets for character n-grams, each with ``dim`` weights. Fewer buckets collide more.
    surface_buckets : int
        Hash buckets for document frequencies, one number each. With few, rare words share a bucket with common ones.
    weighting : "idf", "tfidf" or "placed"
        The rule that scores start from: ``idf``, ``tf * idf`` or ``sqrt(tf) * idf / (1 + place) ** 0.4``. A repeated
        token counts at its first place. "placed" is the best rule where nothing is learned; its exponents were chosen
        on product texts whose title comes first. A network learns best from "idf".
    dropout : float
        Share of hidden states dropped while the network is trained.
    training : dict
        Facts about the training for the model card; its keys are in :data:`tsporec.selector.card.TRAINING`. Values are
        plain and finite, as JSON has them.

    Raises
    ------
    ValueError
        If a value has another type or is out of range, or there would be more than 2**27 weights.

    Examples
    --------
    >>> SelectorConfig(dim=16, weighting="placed").hidden
    32
    """

    dim: int = 32
    hidden: int = 32
    gram_buckets: int = 16384
    surface_buckets: int = 2**18
    weighting: str = "idf"
    dropout: float = 0.1
    training: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("dim", "hidden", "gram_buckets", "surface_buckets"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} is a whole number of at least 1; found {reprlib.repr(value)}.")
        weights = self.dim * (self.gram_buckets + WINDOW * self.hidden) + 4 * self.hidden**2 + self.surface_buckets
        if weights > _MOST_WEIGHTS:
            raise ValueError(f"a selector has at most {_MOST_WEIGHTS} weights; this config asks for more.")
        if self.weighting not in WEIGHTINGS:
            raise ValueError(f"weighting is one of {', '.join(WEIGHTINGS)}; found {reprlib.repr(self.weighting)}.")
        if type(self.dropout) not in (int, float) or not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is a number from 0 to below 1; found {reprlib.repr(self.dropout)}.")
        try:
            if not isinstance(self.training, dict) or _too_deep(self.training):
                raise TypeError(reprlib.repr(self.training))
            json.dumps(self.training, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(
                "training is a mapping of plain, finite values as JSON has them, at most "
                f"{_LEVELS} levels deep; found: {error}."
            ) from error


@dataclass(frozen=True)
class SavedSelector:
    """All that config.json says of a saved selector."""

    config: SelectorConfig
    weights_sha256: str
    has_network: bool  # False for a rule, which is saved without the network
    item_weights: dict[str, Any] | None = None  # their "sha256", and how many "items" have some
    fitted_texts: int = 0  # that `fit` counted words in; 0 if the word frequencies are of other texts than the user's

    def __post_init__(self) -> None:
        items, kinds = self.item_weights, {"sha256": str, "items": int}
        if not isinstance(self.weights_sha256, str) or not isinstance(self.has_network, bool):
            raise ValueError("weights_sha256 must be text and has_network true or false; fetch it again.")
        if type(self.fitted_texts) is not int or not 0 <= self.fitted_texts < 2**63:
            raise ValueError(f"fitted_texts is a number of texts; found {reprlib.repr(self.fitted_texts)}.")
        if items is not None and not (
            isinstance(items, dict) and items.keys() == kinds.keys()
            and all(isinstance(items[key], kind) for key, kind in kinds.items())
        ):  # fmt: skip
            raise ValueError(f"item_weights must be null or have {', '.join(kinds)}; found {reprlib.repr(items)}.")

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
                f"it has format version {version}, this library reads up to {FORMAT_VERSION}; upgrade tsporec."
            )
        values.pop("library_version", None)
        header = [values.pop(key, None) for key in ("weights_sha256", "has_network", "item_weights")]
        header.append(values.pop("fitted_texts", 0))
        if unknown := sorted(values.keys() - SelectorConfig.__dataclass_fields__.keys()):
            raise ValueError(f"unknown config keys {reprlib.repr(unknown)}; written by a newer tsporec? Upgrade.")
        return cls(SelectorConfig(**values), *header)


def _too_deep(value: Any, levels: int = _LEVELS) -> bool:
    if not isinstance(value, dict | list | tuple):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_too_deep(part, levels - 1) for part in parts)
