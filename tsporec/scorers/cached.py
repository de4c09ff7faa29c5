"""Scores remembered by text: an item seen before costs a look-up."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import Any

import numpy as np

from tsporec.ragged import RaggedTokens
from tsporec.scorers.base import Scorer, Scores


class CachedScorer:
    """A scorer that remembers the scores of the segments it has seen, the least recently used forgotten first.

    Parameters
    ----------
    scorer : Scorer
        Asked once a call for all segments not seen yet.
    max_tokens : int
        Tokens to remember scores of; a token costs 8 bytes.
    """

    def __init__(self, scorer: Scorer, max_tokens: int = 4_000_000) -> None:
        self.scorer, self.max_tokens = scorer, max_tokens
        self._scores: OrderedDict[bytes, Scores] = OrderedDict()
        self._tokens = 0

    def score(self, tokens: RaggedTokens) -> Scores:
        """float32 ``[T]``, as the scorer gives them."""
        raw, cu = tokens.ids.tobytes(), (4 * tokens.cu_seqlens).tolist()
        keys = [raw[start:end] for start, end in pairwise(cu)]
        found = [self._scores.get(key) for key in keys]
        new = {key: i for i, (key, scores) in enumerate(zip(keys, found, strict=True)) if scores is None}
        if new:
            unseen = tokens.take(list(new.values()))
            fresh = np.asarray(self.scorer.score(unseen), dtype=np.float32)
            for key, part in zip(new, np.split(fresh, unseen.cu_seqlens[1:-1]), strict=True):
                self._remember(key, part)
            known = dict(zip(new, np.split(fresh, unseen.cu_seqlens[1:-1]), strict=True))
            found = [known[key] if scores is None else scores for key, scores in zip(keys, found, strict=True)]
        for key in keys:
            if key in self._scores:
                self._scores.move_to_end(key)
        return np.concatenate(found) if found else np.zeros(0, dtype=np.float32)  # type: ignore[arg-type]

    def _remember(self, key: bytes, scores: Scores) -> None:
        self._scores[key] = scores
        self._tokens += len(scores)
        while self._tokens > self.max_tokens:
            _, forgotten = self._scores.popitem(last=False)
            self._tokens -= len(forgotten)

    def __getattr__(self, name: str) -> Any:
        """Everything but the memory is the scorer's own."""
        if name in ("scorer", "_scores"):  # not there yet while unpickling
            raise AttributeError(name)
        return getattr(self.scorer, name)

    def __getstate__(self) -> dict[str, Any]:
        return {"scorer": self.scorer, "max_tokens": self.max_tokens, "_scores": OrderedDict(), "_tokens": 0}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
