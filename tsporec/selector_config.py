"""What shape a selector has: the part of it that is saved as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from tsporec.features import TABLES, embeddings_fingerprint


@dataclass(frozen=True)
class SelectorConfig:
    """The shape of a :class:`tsporec.selector.TokenSelector` and where it comes from.

    Parameters
    ----------
    dim : int
        Width of a token's features.
    hidden : int
        Width of the hidden states.
    gram_buckets, surface_buckets : int
        Hash buckets of character n-grams (each a row of ``dim`` weights) and of document frequencies.
    dropout : float
        While training.
    table : "surface" or "embeddings"
        What a token's features are made of: its spelling, which serves any tokenizer, or the input embeddings of one
        language model, which are not stored here but given to :meth:`TokenSelector.for_tokenizer`.
    embedding_width, embedding_fingerprint : int, str
        Of those embeddings; :meth:`of_embeddings` fills them in.
    training : dict
        For the model card; its keys are those of :data:`tsporec.card.TRAINING`.
    """

    dim: int = 32
    hidden: int = 32
    gram_buckets: int = 16384
    surface_buckets: int = 32768
    dropout: float = 0.1
    table: str = "surface"
    embedding_width: int = 0
    embedding_fingerprint: str = ""
    training: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.table not in TABLES or (self.table == "embeddings") != bool(self.embedding_width):
            raise ValueError(
                f"table is one of {', '.join(TABLES)}, with an embedding_width where it is 'embeddings'; found "
                f"{self.table!r} and {self.embedding_width}. Use SelectorConfig.of_embeddings(weight)."
            )

    @classmethod
    def of_embeddings(cls, embeddings: Tensor, **options: Any) -> SelectorConfig:
        """A config for a table made of ``embeddings [V, W]``, a language model's input embeddings."""
        width, fingerprint = embeddings.shape[1], embeddings_fingerprint(embeddings)
        return cls(table="embeddings", embedding_width=width, embedding_fingerprint=fingerprint, **options)
