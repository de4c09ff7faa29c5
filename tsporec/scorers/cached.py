"""Scores remembered by text: an item seen before costs a look-up."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import Any

import numpy as np

from tsporec.scorers.base import Scorer, Scores
from tsporec.tokens.ragged import RaggedTokens


class CachedScorer:
    """A scorer that remembers the scores of the segments it has seen, the least recently used forgotten first.

    Parameters
    ----------
    scorer : Scorer
        Asked once a call for all segments not seen yet. Where its weights change, call :meth:`clear`.
    max_tokens : int
        Tokens to remember scores of; a token costs 8 bytes, and each segment some 200 more.

    Notes
    -----
    A copy or a pickle starts with an empty memory; a forked process goes on with its own. Not for use by several
    threads at once.
    """

    def __init__(self, scorer: Scorer, max_tokens: int = 4_000_000) -> None:
        self.scorer, self.max_tokens = scorer, max_tokens
        self._scores: OrderedDict[bytes, bytes] = OrderedDict()  # a text's ids (int32) -> its scores (float32)
        self._tokens = 0

    def score(self, tokens: RaggedTokens) -> Scores:
        """float32 ``[T]``, as the scorer gives them.

        Raises
        ------
        ValueError
            If the scorer does not return one score a token; nothing is remembered then.
        """
        # A segment's bytes are its key: hashed in C, and equal keys are equal texts. Scores are bytes as well, for
        # joining bytes takes half the time of concatenating arrays.
        raw, cu = tokens.ids.tobytes(), (4 * tokens.cu_seqlens.astype(np.int64)).tolist()
        keys = [raw[start:end] for start, end in pairwise(cu)]
        found = list(map(self._scores.get, keys))
        new = {keys[i]: i for i, scores in enumerate(found) if scores is None} if None in found else {}
        fresh = self._ask(tokens, new) if new else {}
        touch = self._scores.move_to_end
        for key in keys:
            if key not in fresh:
                touch(key)
        for key, scores in fresh.items():
            self._remember(key, scores)
        every = [fresh[key] if scores is None else scores for key, scores in zip(keys, found, strict=True)]
        return np.frombuffer(bytearray().join(every), dtype=np.float32)

    def fit(self, corpus: RaggedTokens) -> CachedScorer:
        """Fit the scorer, if it can be, and forget its old scores; returns itself."""
        fit = getattr(self.scorer, "fit", None)
        if fit is not None:
            self.scorer = fit(corpus)
        self.clear()
        return self

    def for_tokenizer(self, tokenizer: Any) -> CachedScorer:
        """A cached scorer for ids of ``tokenizer``, with a memory of its own; itself where ids need no reading."""
        bind = getattr(self.scorer, "for_tokenizer", None)
        bound = self.scorer if bind is None else bind(tokenizer)
        return self if bound is self.scorer else CachedScorer(bound, self.max_tokens)

    def clear(self) -> None:
        """Forget all scores."""
        self._scores, self._tokens = OrderedDict(), 0

    def _ask(self, tokens: RaggedTokens, new: dict[bytes, int]) -> dict[bytes, bytes]:
        unseen = tokens.take(list(new.values()))
        scores = np.asarray(self.scorer.score(unseen), dtype=np.float32)
        if scores.shape != (unseen.num_tokens,):
            raise ValueError(
                f"{type(self.scorer).__name__}.score returned shape {scores.shape} for {unseen.num_tokens} tokens; "
                "expected one score a token."
            )
        parts = [part.tobytes() for part in np.split(scores, unseen.cu_seqlens[1:-1])]
        return dict(zip(new, parts, strict=True))

    def _remember(self, key: bytes, scores: bytes) -> None:
        self._scores[key] = scores
        self._tokens += len(scores) // 4
        while self._tokens > self.max_tokens:
            _, forgotten = self._scores.popitem(last=False)
            self._tokens -= len(forgotten) // 4

    def __getattr__(self, name: str) -> Any:
        """Everything but the memory is the scorer's own."""
        if name in ("scorer", "_scores"):  # not there yet while unpickling
            raise AttributeError(name)
        return getattr(self.scorer, name)

    def __getstate__(self) -> dict[str, Any]:
        return {"scorer": self.scorer, "max_tokens": self.max_tokens, "_scores": OrderedDict(), "_tokens": 0}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
