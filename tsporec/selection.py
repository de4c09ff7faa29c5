"""From scores to kept tokens: the step that every way in shares.

:func:`score_tokens` asks a scorer. :func:`select_scored` applies a budget to its scores and keeps exactly the best
tokens, or whole words. :func:`select` does both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tsporec.budget import Budget, as_budget
from tsporec.scorers.base import Scorer, Scores, score_tokens
from tsporec.tokens.pieces import Pieces, read_pieces
from tsporec.tokens.ragged import RaggedTokens, lengths_to_offsets
from tsporec.tokens.words import words_of
from tsporec.topk import cpu

__all__ = ["Selection", "pieces_of_words", "rank", "score_tokens", "select", "select_scored", "select_words"]

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Selection:
    """The kept positions of N segments: K positions into the packed ``[T]`` tokens, ascending, and their offsets."""

    kept: NDArray[np.int64]  # [K]
    cu_seqlens: NDArray[np.int32]  # [N + 1]

    def apply(self, tokens: RaggedTokens) -> RaggedTokens:
        """Return the kept tokens, in text order."""
        return tokens.keep(self.kept, self.cu_seqlens)


def pieces_of_words(granularity: str, tokenizer: Any = None, scorer: Any = None) -> Pieces | None:
    """Return ``whole_words`` for :func:`select_scored`: the tokenizer's pieces for "word", None for "token".

    Without a tokenizer, they are those of the tokenizer that ``scorer`` is bound to. Another ``granularity``, or no
    tokenizer at all, is a ``ValueError``.

    >>> pieces_of_words("token") is None
    True
    """
    if granularity not in ("word", "token"):
        raise ValueError(f"granularity must be 'word' or 'token'; found {granularity!r}.")
    if granularity == "token":
        return None
    if tokenizer is not None:
        return read_pieces(tokenizer)
    vocabulary = getattr(scorer, "vocabulary", None)
    if vocabulary is None:
        raise ValueError("granularity='word' needs the tokenizer, which shows where words begin; give tokenizer=….")
    pieces: Pieces = vocabulary.pieces
    return pieces


def select(
    scorer: Scorer,
    tokens: RaggedTokens,
    budget: Budget | int,
    *,
    granularity: str = "token",
    tokenizer: Any = None,
    sample_offsets: ArrayLike | None = None,
    protected: Bools | None = None,
) -> Selection:
    """Score all segments in one call and keep the best tokens or words of each, in text order.

    Parameters
    ----------
    scorer : Scorer
        A selector or any other scorer for the ids of ``tokens``.
    tokens : RaggedTokens
        N segments of T tokens in all.
    budget : Budget or int
        The budget of each segment. A whole number is a number of tokens.
    granularity : "token" or "word"
        Keep exactly the best tokens (default), or whole words.
    tokenizer : a Hugging Face tokenizer, optional
        It shows where words begin. Default: the one that ``scorer`` is bound to.
    sample_offsets : int ``[S + 1]``, optional
        The segments of each sample, for a ``total``; see :meth:`Budget.resolve`. By default all are one sample.
    protected : bool ``[T]``, optional
        Tokens that are always kept.

    Returns
    -------
    Selection
        Ties go to the earlier token or word.

    Raises
    ------
    ValueError
        If the scorer does not return one finite score a token, or ``budget`` is neither a Budget nor a whole number.

    Notes
    -----
    Whole words are never more than the budget's tokens. Words with a protected token come first, in text order, then
    the words with the highest mean score. A word that does not fit into what is left of the budget is skipped. Only a
    segment in which no word fits keeps parts of words, so that no item vanishes: its best characters (with their
    marks), or its best tokens if no character fits.

    Examples
    --------
    >>> from tsporec.scorers import make_scorer
    >>> tokens = RaggedTokens.from_lists([[5, 6, 7], [8]])
    >>> select(make_scorer("head"), tokens, 2).apply(tokens).to_lists()
    [[5, 6], [8]]
    """
    whole_words = pieces_of_words(granularity, tokenizer, scorer)
    scores = score_tokens(scorer, tokens)
    return select_scored(
        scores, tokens, budget, whole_words=whole_words, sample_offsets=sample_offsets, protected=protected
    )


def select_scored(
    scores: Scores,
    tokens: RaggedTokens,
    budget: Budget | int | NDArray[np.int32],
    *,
    whole_words: Pieces | None = None,
    sample_offsets: ArrayLike | None = None,
    protected: Bools | None = None,
) -> Selection:
    """Keep the tokens or words with the highest scores of each segment, in text order.

    ``scores`` are float32 or float16 ``[T]``. ``budget`` may also be int32 ``[N]``, the tokens of each segment. Whole
    words are kept if their pieces are given (:func:`pieces_of_words`). All else is as in :func:`select`.

    >>> tokens = RaggedTokens.from_lists([[7, 7, 7], [8, 8]])
    >>> select_scored(np.float32([3, 1, 2, 5, 4]), tokens, np.int32([2, 1])).kept.tolist()
    [0, 2, 3]
    """
    cu_seqlens = tokens.cu_seqlens
    if protected is not None and not (
        isinstance(protected, np.ndarray) and protected.dtype == bool and protected.shape == (tokens.num_tokens,)
    ):
        raise ValueError(
            f"protected must be a numpy array of bool with one flag for each of {tokens.num_tokens} tokens; found "
            f"{protected!r:.60}. What a pattern matches is kept by tsporec.scorers.patterns.Keeping(scorer, …)."
        )
    if not isinstance(budget, np.ndarray):
        budget = as_budget(budget).resolve(scores, cu_seqlens, sample_offsets, protected)
    if whole_words is None:
        return Selection(*cpu.select(scores, cu_seqlens, budget, protected))
    clusters = partial(words_of, tokens, whole_words, clusters=True)
    return select_words(scores, words_of(tokens, whole_words), cu_seqlens, budget, protected, clusters)


def select_words(
    scores: Scores,
    words: Ints,
    cu_seqlens: NDArray[np.int32],
    k: NDArray[np.int32],
    protected: Bools | None = None,
    clusters: Callable[[], Ints] | None = None,
) -> Selection:
    """Keep whole words of each segment, ``k [N]`` tokens at most; see the notes of :func:`select`.

    ``words`` int64 ``[T]`` is the number of each token's word: the same for neighbours of one word and for no others.
    ``clusters`` returns the same of characters, for segments in which no word fits.

    >>> scores, words = np.float32([1, 2, 9, 5, 0]), np.array([0, 0, 1, 1, 2])  # means 1.5, 7 and 0
    >>> select_words(scores, words, np.int32([0, 5]), np.int32([3])).kept.tolist()
    [2, 3, 4]
    """
    fixed = np.zeros(len(scores), dtype=bool) if protected is None else protected
    token_segment = np.repeat(np.arange(len(k)), np.diff(cu_seqlens))
    chosen = _whole_words(scores, words, token_segment, k, fixed)
    for smaller in (clusters, lambda: np.arange(len(scores))):
        nothing = (_sums(chosen, token_segment, len(k)) == 0) & (k > 0) & (np.diff(cu_seqlens) > 0)
        if smaller is not None and nothing.any():
            chosen |= _whole_words(scores, smaller(), token_segment, np.where(nothing, k, 0), fixed)
    return Selection(np.flatnonzero(chosen), lengths_to_offsets(_sums(chosen, token_segment, len(k))))


def _whole_words(scores: Scores, words: Ints, token_segment: Ints, k: NDArray[Any], fixed: Bools) -> Bools:
    """Return the ``fixed`` tokens and the best words that fit beside them into ``k [N]`` tokens: bool ``[T]``."""
    # Number the words, and describe each: words [5, 5, 7] -> word [0, 0, 1], size [2, 1].
    first = np.diff(words, prepend=-1) != 0
    word = np.cumsum(first) - 1
    size, segment = _sums(~fixed, word, int(first.sum())), token_segment[first]
    value = np.nan_to_num(scores.astype(np.float64), nan=-np.inf, neginf=-np.inf)
    mean = np.bincount(word, weights=value) / np.bincount(word)
    mean[np.isnan(mean)] = -np.inf  # infinite scores of both signs
    mean[word[fixed]] = np.inf
    kept: Bools = fixed | _best_that_fit(size, segment, mean, k - _sums(fixed, token_segment, len(k)))[word]
    return kept


def _best_that_fit(size: Ints, segment: Ints, mean: NDArray[np.float64], room: Ints) -> Bools:
    """Return the words ``[W]`` that are kept, best first; one that does not fit into ``room [N]`` tokens is skipped."""
    kept, order = np.zeros(len(size), dtype=bool), np.lexsort((-mean, segment))
    # Drop the words that do not fit, take the longest run of the best words that fits in each segment, repeat.
    while len(order := order[size[order] <= room[segment[order]]]):
        spent = np.cumsum(size[order])
        start = np.searchsorted(segment[order], np.arange(len(room)))
        spent -= np.append(0, spent)[start][segment[order]]
        fits = spent <= room[segment[order]]
        kept[order[fits]] = True
        room -= _sums(size[order[fits]], segment[order[fits]], len(room))
        order = order[~fits]
    return kept


def _sums(values: NDArray[Any], segment: Ints, count: int) -> Ints:
    """Return the sum of the values of each segment: int64 ``[N]``."""
    return np.bincount(segment, weights=values, minlength=count).astype(np.int64)


def rank(scores: NDArray[Any], selection: Selection, protected: Bools | None = None) -> NDArray[np.int32]:
    """Return the rank of each kept token among those of its segment, best first, from 0: int32 ``[K]``.

    Tokens with ranks below k are those that a budget of k tokens keeps. So ``protected [T]`` tokens have rank 0.

    >>> rank(np.float32([1, 3, 3, 2]), Selection(np.array([0, 1, 2]), np.int32([0, 3]))).tolist()
    [2, 0, 1]
    """
    lengths = np.diff(selection.cu_seqlens)
    segment = np.repeat(np.arange(len(lengths)), lengths)
    # The bitwise complement reverses the order of the keys and cannot overflow.
    best_first = ~cpu.order_keys(scores[selection.kept])
    fixed = np.zeros(len(segment), dtype=bool) if protected is None else protected[selection.kept]
    order = np.lexsort((best_first, ~fixed, segment))
    ranks = np.empty(len(order), dtype=np.int32)
    ranks[order] = np.arange(len(order)) - np.repeat(selection.cu_seqlens[:-1], lengths)
    ranks[fixed] = 0
    return ranks
