"""Keep the scores of texts in memory: an item that was scored before costs a look-up."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from threading import Lock
from typing import Any

import numpy as np
from torch import nn

from tsporec.scorers.base import Scorer, Scores, score_tokens
from tsporec.tokens.ragged import RaggedTokens


class CachedScorer:
    """Remember the scores of the segments that a scorer has seen, and forget the least recently used first.

    The scorer is asked once a call, for all segments that are not in memory. All scores are forgotten when it changes:
    when its weights are trained or loaded, or an attribute is set, as ``fit`` does. Call :meth:`clear` after you change
    an array of a scorer in place. At most ``max_tokens`` are remembered; a token costs 8 bytes and a segment some 200
    more.

    Several threads may share it; they score one after the other. A copy or a pickle starts with an empty memory, a
    forked process with a copy of the memory.

    >>> from tsporec.scorers import make_scorer
    >>> tokens = RaggedTokens.from_lists([[5, 6], [5, 6]])
    >>> CachedScorer(make_scorer("tfidf").fit(tokens)).score(tokens).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """

    _state: list[Any]

    def __init__(self, scorer: Scorer, max_tokens: int = 4_000_000) -> None:
        self.scorer, self.max_tokens = scorer, max_tokens
        self._lock = Lock()
        self.clear()

    def score(self, tokens: RaggedTokens) -> Scores:
        """Return the scores of ``tokens``, as the scorer gives them: float32 ``[T]``."""
        if not self.max_tokens:
            with self._lock:  # a scorer need not serve several threads at once
                return score_tokens(self.scorer, tokens)
        # A segment's bytes are its key, for they are hashed in C. Scores are bytes too: joining them is twice as fast
        # as concatenating arrays.
        raw, cu = tokens.ids.tobytes(), (4 * tokens.cu_seqlens.astype(np.int64)).tolist()
        keys: list[Any] = [raw[start:end] for start, end in pairwise(cu)]
        if tokens.items is not None:
            keys = list(zip(keys, tokens.items.tolist(), strict=True))
        with self._lock:
            if not _same(self._state, _state(self.scorer)):
                self.clear()
            found = list(map(self._scores.get, keys))
            new = {keys[i]: i for i, scores in enumerate(found) if scores is None} if None in found else {}
            fresh: dict[Any, bytes] = {}
            if new:
                unseen = tokens.take(list(new.values()))
                parts = np.split(score_tokens(self.scorer, unseen), unseen.cu_seqlens[1:-1])
                self._state = _state(self.scorer)  # what a scorer sets while it scores changes no score
                fresh = {key: part.tobytes() for key, part in zip(new, parts, strict=True)}
            for key in keys:
                if key not in fresh:
                    self._scores.move_to_end(key)
            self._scores.update(fresh)
            self._tokens += sum(map(len, fresh.values())) // 4
            while self._tokens > self.max_tokens:
                self._tokens -= len(self._scores.popitem(last=False)[1]) // 4
        every = [fresh[key] if scores is None else scores for key, scores in zip(keys, found, strict=True)]
        return np.frombuffer(bytearray().join(every), dtype=np.float32)

    def clear(self) -> None:
        """Forget all scores."""
        # A text's ids, int32, with the item's id if it has one -> its scores, float32.
        self._scores: OrderedDict[Any, bytes] = OrderedDict()
        self._tokens = 0
        self._state = _state(self.scorer)

    def __getattr__(self, name: str) -> Any:
        """Look up other attributes on the scorer."""
        if name in ("scorer", "_scores"):  # not there yet while unpickling
            raise AttributeError(name)
        return getattr(self.scorer, name)

    def __getstate__(self) -> dict[str, Any]:
        return {"scorer": self.scorer, "max_tokens": self.max_tokens}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc] # an empty memory and a lock of its own


def _state(scorer: Any) -> list[Any]:
    """Return what changes when a scorer learns: its attributes, and the version and address of each weight."""
    held = list(getattr(scorer, "__dict__", {}).values())
    modules = [scorer] if isinstance(scorer, nn.Module) else [value for value in held if isinstance(value, nn.Module)]
    weights = [weight for module in modules for weight in (*module.parameters(), *module.buffers())]
    return [[(0 if weight.is_inference() else weight._version, weight.data_ptr()) for weight in weights], *held]


def _same(before: list[Any], after: list[Any]) -> bool:
    """Return whether two states are the same: equal versions, identical attributes."""
    pairs = zip(before[1:], after[1:], strict=False)
    return len(before) == len(after) and before[0] == after[0] and all(a is b for a, b in pairs)
