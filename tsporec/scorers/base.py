"""The scorer protocol, and how a scorer is called and bound to a tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.digest import digest
from tsporec.data.cleaning import clean_text
from tsporec.data.items import Item, item_text, tokenize_texts
from tsporec.tokens.fingerprint import tokenizer_fingerprint
from tsporec.tokens.ragged import RaggedTokens, check_ragged

Scores = NDArray[np.float32]
S = TypeVar("S")
Corpus: TypeAlias = RaggedTokens | Sequence[str | Item] | Sequence[Sequence[int]]
"""The texts of a catalogue that a scorer is fitted to: packed ids, items, texts, or lists of ids."""


@runtime_checkable
class Scorer(Protocol):
    """Anything with a ``score`` method: a higher score means that a token is more worth keeping."""

    def score(self, tokens: RaggedTokens) -> Scores:
        """Return one score for each token of ``tokens.ids``: float32 ``[T]``.

        A segment's scores depend on that segment alone, never on the rest of the batch.
        """


class BaseScorer:
    """Defaults for what only some scorers need: fitting, binding to a tokenizer, a fingerprint.

    A subclass overrides :meth:`score`. It overrides :meth:`config` if it has options, and :meth:`fit` or
    :meth:`for_tokenizer` if it needs them.

    >>> class HighestId(BaseScorer):
    ...     name = "highest id"
    ...     def score(self, tokens):
    ...         return tokens.ids.astype(np.float32)
    >>> HighestId().score(RaggedTokens.from_lists([[5, 7]])).tolist()
    [5.0, 7.0]
    """

    name = ""
    tokenizer_fingerprint: str | None = None
    """Fingerprint of the tokenizer that the scorer is bound to; None if it is unbound."""

    def score(self, tokens: RaggedTokens) -> Scores:
        """Return one score for each token: float32 ``[T]``; see :class:`Scorer`."""
        raise NotImplementedError

    def fit(self, corpus: Corpus) -> BaseScorer:
        """Learn from the texts of a catalogue and return the scorer itself. Most scorers learn nothing."""
        return self

    def for_tokenizer(self, tokenizer: Any) -> BaseScorer:
        """Return a scorer for ids of ``tokenizer``: itself if it never looks up what ids mean."""
        return self

    def config(self) -> dict[str, Any]:
        """Return the options and the fitted state that decide the scores, as JSON values or arrays."""
        return {}

    @property
    def fingerprint(self) -> str:
        """Digest of the name and :meth:`config`. Equal scorers have equal fingerprints."""
        return digest(self.name, *(part for item in sorted(self.config().items()) for part in item))


def read_corpus(corpus: object, tokenizer: Any) -> RaggedTokens:
    """Return a corpus as packed ids. Each line of a text is cleaned as an item's field is, and read with ``tokenizer``.

    >>> from tsporec.data.synthetic import word_tokenizer
    >>> read_corpus(["blue  pen", "pen"], word_tokenizer(["blue", "pen"])).to_lists()
    [[4, 5], [5]]
    """
    if isinstance(corpus, RaggedTokens):
        return corpus
    if isinstance(corpus, str | bytes | Mapping) or hasattr(corpus, "columns") or not isinstance(corpus, Iterable):
        raise TypeError(
            f"corpus must be a list of texts or RaggedTokens, found {type(corpus).__name__}. Of a DataFrame take "
            "the column of texts."
        )
    texts: list[Any] = list(corpus)
    if not all(isinstance(text, str | Item) for text in texts):
        wrong = [text for text in texts if isinstance(text, str | Item) or not isinstance(text, Iterable)]
        if wrong:
            found = type(wrong[0]).__name__
            raise TypeError(f"corpus must hold texts alone or lists of token ids alone; found {found} beside others.")
        return RaggedTokens.from_lists(texts)
    if tokenizer is None:
        raise ValueError(
            "texts are read with a tokenizer, and none is bound; bind one first (scorer.for_tokenizer(tokenizer), "
            "TfidfScorer(tokenizer)), or give token ids."
        )
    lines = [item_text(one) if isinstance(one, Item) else map(clean_text, one.split("\n")) for one in texts]
    return tokenize_texts([one if isinstance(one, str) else "\n".join(one) for one in lines], tokenizer)


def score_tokens(scorer: Scorer, tokens: RaggedTokens) -> Scores:
    """Ask ``scorer`` for the scores of ``tokens``, float32 ``[T]``. Another shape, NaN or infinity is a ValueError.

    >>> from tsporec.scorers import make_scorer
    >>> score_tokens(make_scorer("head"), RaggedTokens.from_lists([[5, 6, 7]]))[1:].tolist()
    [-1.0, -2.0]
    """
    if not callable(getattr(scorer, "score", None)):
        raise TypeError(
            f"expected a scorer, an object with a method score(tokens); found {type(scorer).__name__}. "
            "make_scorer(name) and TokenSelector.from_pretrained(name) make one."
        )
    check_ragged(tokens)
    found = scorer.score(tokens)
    try:
        with np.errstate(over="ignore"):  # refused below
            scores = np.asarray(found, dtype=np.float32)
    except (ValueError, TypeError, RuntimeError) as error:
        raise TypeError(
            f"{type(scorer).__name__}.score returned {type(found).__name__}, which is no array of numbers ({error}); "
            "of a tensor return scores.detach().cpu().numpy()."
        ) from error
    if scores.shape != (tokens.num_tokens,):
        raise ValueError(
            f"{type(scorer).__name__}.score returned shape {scores.shape} for {tokens.num_tokens} tokens; "
            "expected one score a token."
        )
    if not np.isfinite(scores).all():
        bad = np.flatnonzero(~np.isfinite(scores))
        item = int(np.searchsorted(tokens.cu_seqlens, bad[0], side="right")) - 1
        raise ValueError(
            f"{type(scorer).__name__}.score returned {len(bad)} scores of {len(scores)} that are NaN or infinite, the "
            f"first in text {item} of {len(tokens)} (counted from 0), at its token {bad[0] - tokens.cu_seqlens[item]}: "
            f"{scores[bad[0]]}. Expected finite scores; for what must not be kept return a low number."
        )
    return scores


def bind(scorer: S, tokenizer: Any) -> S:
    """Return ``scorer`` bound to ``tokenizer``, by its ``for_tokenizer`` if it has one and is not bound yet.

    A scorer that is bound to another tokenizer is a ValueError: it would look up the wrong tokens.

    >>> from tsporec.data.synthetic import word_tokenizer
    >>> from tsporec.selector.model import TokenSelector
    >>> tokenizer = word_tokenizer("blue gel pen".split())
    >>> selector = bind(TokenSelector(), tokenizer)
    >>> bind(selector, tokenizer) is selector
    True
    """
    known = getattr(scorer, "tokenizer_fingerprint", None)
    if known is None:
        for_tokenizer = getattr(scorer, "for_tokenizer", None)
        return scorer if for_tokenizer is None else for_tokenizer(tokenizer)
    found = tokenizer_fingerprint(tokenizer)
    if found != known:
        raise ValueError(
            f"{type(scorer).__name__} is bound to another tokenizer (fingerprint {known}) than the one given "
            f"({found}). Give an unbound one, or bind it to this tokenizer: selector.for_tokenizer(tokenizer)."
        )
    return scorer
