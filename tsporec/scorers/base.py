"""What a scorer is: the one protocol that selection asks for."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.digest import digest
from tsporec.tokens.ragged import RaggedTokens

Scores = NDArray[np.float32]


@runtime_checkable
class Scorer(Protocol):
    """Anything with ``score``: higher is more worth keeping."""

    def score(self, tokens: RaggedTokens) -> Scores:
        """float32 ``[T]``, one score a token of ``tokens.ids``.

        A segment's scores depend on that segment alone, never on what else is in the batch.
        """


class BaseScorer:
    """Defaults for what only some scorers need: fitting, binding to a tokenizer, a fingerprint.

    Subclasses override :meth:`score`, :meth:`config` where they have options, and :meth:`fit` or
    :meth:`for_tokenizer` where they need them.
    """

    name = ""

    def score(self, tokens: RaggedTokens) -> Scores:
        """float32 ``[T]``; see :class:`Scorer`."""
        raise NotImplementedError

    def fit(self, corpus: RaggedTokens) -> BaseScorer:
        """Learn what the scorer needs from the texts of a catalogue; returns itself. Most need nothing."""
        return self

    def for_tokenizer(self, tokenizer: Any) -> BaseScorer:
        """A scorer for ids of ``tokenizer``; itself where ids need no reading."""
        return self

    def config(self) -> dict[str, Any]:
        """The options and fitted state that decide the scores (JSON values or arrays)."""
        return {}

    @property
    def fingerprint(self) -> str:
        """Digest of the name and :meth:`config`: equal scorers have equal fingerprints."""
        parts = [self.name]
        for key, value in sorted(self.config().items()):
            parts += [key, value]
        return digest(*parts)
