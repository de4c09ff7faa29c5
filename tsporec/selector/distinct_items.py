"""Choose tokens that tell the items of a catalogue apart, from the texts alone.

At few tokens a rule gives many items the same selection: "Pilot pen" stands for every pen of Pilot. A recommender
cannot tell such items apart. Here each further token is chosen for its score and for how far it narrows down the items
that share the tokens chosen before it.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec.budget import Budget, as_budget
from tsporec.scorers.base import Scores
from tsporec.scorers.without_repeats import repeated
from tsporec.selection import select_scored
from tsporec.tokens.letter_hashes import Letters
from tsporec.tokens.ragged import RaggedTokens, ranges, segment_digests

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Used = dict[tuple[int, ...], int]

STRENGTH = 1.2
"""Score points for each nat by which a token narrows down the items, for the scale of the bundled rule."""
_SPARE = 32  # tokens of an item that are considered beyond the largest budget
_SAMPLE = 1000  # items with a first token that the others are compared on, at most

_log = logging.getLogger("tsporec")


def make_distinct(
    selector: Any, corpus: RaggedTokens, budgets: Sequence[Budget | int], strength: float, unchanged: int
) -> Any:
    """Let the items of a catalogue keep tokens that tell them apart.

    Texts alone decide, so no user data is needed. :func:`distinct_scores` says how the tokens are chosen. A warning
    counts the items that still keep the terms of another text.

    Parameters
    ----------
    selector : TokenSelector
        Bound to the tokenizer of ``corpus``. It stays as it is.
    corpus : RaggedTokens
        The whole catalogue, one item a segment. Known items that are not in it are forgotten. Items whose texts have
        the same letters are not told apart.
    budgets : sequence of int or Budget
        Numbers of tokens, or shares of each text's tokens, at which selections are to differ.
    strength : float
        Score points for each nat by which a token narrows down the items that share the tokens before it.
    unchanged : int
        The first so many items keep the tokens that they have. When items are added, give those that were there, then
        the new ones.

    Returns
    -------
    TokenSelector
        A copy with item weights for ``corpus``. It shares all other weights.

    Examples
    --------
    >>> from tsporec import TokenSelector
    >>> from tsporec.data.synthetic import word_tokenizer
    >>> tokenizer = word_tokenizer("pilot gel pen red blue".split())
    >>> texts = ["pilot gel pen", "pilot gel pen red", "pilot gel pen blue"]
    >>> tokens = RaggedTokens.from_lists(tokenizer(texts, add_special_tokens=False)["input_ids"])
    >>> selector = TokenSelector().for_tokenizer(tokenizer).fit(tokens).make_distinct(tokens, budgets=[2])
    >>> [tokenizer.decode(kept).strip() for kept in selector.select(tokens, 2).apply(tokens)]
    ['pilot gel', 'pilot red', 'pilot blue']
    """
    if not isinstance(budgets, Sequence) or not budgets or any(as_budget(budget).total for budget in budgets):
        raise ValueError(f"expected a list of one or more budgets, of tokens or keep_ratio; found {budgets!r}.")
    if not 0 <= strength < math.inf:
        raise ValueError(f"expected a finite strength of at least 0; found {strength}.")
    if not 0 <= unchanged <= len(corpus):
        raise ValueError(f"unchanged is a number of items from 0 to {len(corpus)}; found {unchanged}.")
    known, scores = selector.with_item_weights(corpus), selector.score(corpus)
    pieces = known.vocabulary.pieces
    texts = Letters(corpus, pieces).hash_segments().view(np.int64)
    if selector.item_weights is not None:  # a new text that resembles a known one is not scored as that one
        new = ~np.isin(texts, selector.item_weights.wholes.cpu().numpy())[corpus.segment_ids()]
        scores[new] = selector.without_item_weights().score(corpus)[new]
    # Tokens that share an item weight are raised together, so only the first of them may be chosen.
    positions, places = known.item_weights.find(corpus, pieces)
    first = np.zeros(corpus.num_tokens, dtype=bool)
    first[positions[np.unique(places, return_index=True)[1]]] = True
    terms = pieces.terms
    known.set_item_scores(corpus, distinct_scores(scores, corpus, terms, budgets, strength, first, texts, unchanged))
    found = known.score(corpus)
    for budget in budgets:
        kept = select_scored(found, corpus, budget).apply(corpus)
        alike = len(corpus) - round(len(corpus) * distinct_share(kept, texts, terms))
        if alike:
            _log.warning(
                "%s leave %d of %d items with the same words as another item, whose whole text differs: by these "
                "alone nobody can tell them apart. Keep more tokens, or add a text field in which they differ.",
                f"{budget} tokens" if as_budget(budget).tokens else budget,
                alike,
                len(corpus),
            )
    known.item_weights.seen = known.item_weights.known = 0  # only what others look up is counted
    return known


def distinct_share(kept: RaggedTokens, texts: NDArray[np.int64], terms: Ints | None = None) -> float:
    """Return the share of items that keep other tokens than every item of another text.

    Parameters
    ----------
    kept : RaggedTokens
        What each of N items keeps.
    texts : int64 ``[N]``
        A digest of each text, such as :func:`tsporec.tokens.ragged.segment_digests`.
    terms : int64 ``[V]``, optional
        Compare terms, in any order. Default: token ids in their order.

    Examples
    --------
    >>> kept, texts = RaggedTokens.from_lists([[1, 2], [2, 1], [1, 2]]), np.array([7, 8, 7])
    >>> distinct_share(kept, texts), distinct_share(kept, texts, np.arange(3))
    (1.0, 0.0)
    """
    if terms is not None:
        kept = RaggedTokens.from_lists([np.unique(terms[ids]) for ids in kept])
    # Digests of (kept, whole text) -> texts that keep the same, for each item
    digests = segment_digests(kept)
    pairs = np.unique(np.stack([digests, texts], axis=1), axis=0)
    selections, counts = np.unique(pairs[:, 0], return_counts=True)
    return float((counts[np.searchsorted(selections, digests)] == 1).mean()) if len(kept) else 1.0


def distinct_scores(
    scores: Scores,
    tokens: RaggedTokens,
    terms: Ints,
    budgets: Sequence[Budget | int],
    strength: float,
    eligible: Bools,
    texts: Ints,
    unchanged: int,
) -> Scores:
    """Change scores so that the kept tokens tell the items of a catalogue apart.

    Items with few terms are served first, because they have the least choice. The tokens of an item are chosen one by
    one:

    1. A token's value is its score plus ``strength * log(a / b)``. Here ``a`` items of the catalogue have all tokens
       that were chosen before, and ``b`` of these have this one too. The first token has its score alone. If more than
       1,000 items have the first token, they are sampled.
    2. The token of the highest value is chosen; the earlier one among equals. Repeats are not considered.
    3. Where a budget is reached, the token of the highest value is chosen with which no other text has this selection.
       If there is none, the selection stays that of another text.

    Then the chosen tokens that do not rank above all others of their item are raised above them.

    Parameters
    ----------
    scores : float32 ``[T]``
    tokens : RaggedTokens
        N items.
    terms : int64 ``[V]``
        The term of each vocabulary id: :attr:`tsporec.tokens.pieces.Pieces.terms`.
    budgets : sequence of int or Budget
    strength : float
    eligible : bool ``[T]``
        Tokens that may be chosen.
    texts : int64 ``[N]``
        A digest of each text. Items of equal digests are not told apart.
    unchanged : int
        The first so many items keep the tokens that they have.

    Returns
    -------
    float32 ``[T]``

    Examples
    --------
    The second item would keep terms 1 and 2 as the first does:

    >>> tokens, scores = RaggedTokens.from_lists([[1, 2], [1, 2, 3]]), np.float32([2, 1, 2, 1, 0])
    >>> every, texts = np.ones(5, dtype=bool), np.array([7, 8])
    >>> distinct_scores(scores, tokens, np.arange(4), [2], 0.0, every, texts, unchanged=0)
    array([2., 1., 2., 1., 2.], dtype=float32)
    """
    catalogue = _Catalogue(tokens, terms, eligible)
    used: dict[int, Used] = defaultdict(dict)
    counts = np.stack([as_budget(budget).resolve(scores, tokens.cu_seqlens) for budget in budgets])
    for count in counts:
        kept = select_scored(scores, tokens, count).apply(tokens)
        for item in range(unchanged):
            used[int(count[item])].setdefault(_selection(terms[kept[item]].tolist()), int(texts[item]))
    changed = scores.copy()
    order = np.argsort(np.diff(catalogue.item_starts), kind="stable")
    for item in order[order >= unchanged].tolist():
        start, end = int(tokens.cu_seqlens[item]), int(tokens.cu_seqlens[item + 1])
        sizes = np.unique(counts[:, item]).tolist()
        best = catalogue.best(scores[start:end], start, sizes[-1] + _SPARE)
        chosen = _choose(catalogue, scores, best, sizes, strength, used, int(texts[item]))
        for size in reversed(sizes):
            others = np.setdiff1d(np.arange(start, end), chosen[:size])
            if len(others) and len(chosen) >= size:
                bar = changed[others].max()
                low = [token for token in chosen[:size] if changed[token] <= bar]
                changed[low] = bar + np.arange(len(low), 0, -1)
    return changed


def _choose(
    catalogue: _Catalogue,
    scores: Scores,
    best: Ints,
    sizes: Sequence[int],
    strength: float,
    used: dict[int, Used],
    text: int,
) -> list[int]:
    """Choose tokens of one item among its ``best``, in order, and note its selection at each of ``sizes`` in ``used``.

    ``used[k]`` maps a selection of k terms to the digest of the text that has it. Returns the chosen positions.
    """
    rest, items = list(best), None  # items: those that have all chosen tokens
    chosen: list[int] = []
    kept: list[int] = []
    while rest and len(chosen) < sizes[-1]:
        values = scores[rest].astype(np.float64)
        if items is not None and len(items) > 1:
            values += strength * np.log(len(items) / catalogue.count(items, catalogue.terms[rest]))
        order, taken = np.argsort(-values, kind="stable"), used[len(chosen) + 1] if len(chosen) + 1 in sizes else {}
        free = (i for i in order if taken.get(_selection([*kept, int(catalogue.terms[rest[i]])]), text) == text)
        chosen.append(int(rest.pop(int(next(free, order[0])))))
        kept.append(int(catalogue.terms[chosen[-1]]))
        if len(chosen) in sizes:
            taken.setdefault(_selection(kept), text)
        if strength:
            items = catalogue.having(kept[-1], items)
    return chosen


def _selection(kept: list[int]) -> tuple[int, ...]:
    """Make the key of a selection: its terms in order, whatever order they were chosen in."""
    return tuple(sorted(kept))


class _Catalogue:
    """The terms of each item and the items of each term."""

    def __init__(self, tokens: RaggedTokens, terms: Ints, eligible: Bools) -> None:
        self.terms = terms[tokens.ids]
        first = ~repeated(tokens, self.terms)
        self.eligible = first & eligible
        # Items [[1, 2, 1], [2]] -> terms of each item [1, 2 | 2] and items of each term 1: [0], 2: [0, 1]
        self.item_terms, owner = self.terms[first], tokens.segment_ids()[first]
        self.item_starts = np.append(0, np.cumsum(np.bincount(owner, minlength=len(tokens))))
        self.term_items = owner[np.argsort(self.item_terms, kind="stable")]
        counts = np.bincount(self.item_terms, minlength=int(terms.max(initial=0)) + 1)
        self.term_starts = np.append(0, np.cumsum(counts))
        self.mark = np.full(len(self.term_starts), -1)

    def best(self, scores: Scores, start: int, count: int) -> Ints:
        """Return the positions of an item's ``count`` best tokens that may be chosen; ``scores`` are the item's."""
        order = start + np.argsort(-scores, kind="stable")
        return order[self.eligible[order]][:count]

    def count(self, items: Ints, terms: Ints) -> Ints:
        """Count the ``items`` that have each of M different ``terms``; at least 1: int64 ``[M]``."""
        found, _ = self._marks(items, terms)
        counts: Ints = np.maximum(np.bincount(found[found >= 0], minlength=len(terms)), 1)
        return counts

    def having(self, term: int, items: Ints | None) -> Ints:
        """Return those of ``items`` that have ``term``, or a sample of all items that have it."""
        if items is None:
            every = self.term_items[self.term_starts[term] : self.term_starts[term + 1]]
            return every[np.linspace(0, len(every) - 1, min(len(every), _SAMPLE)).astype(np.int64)]
        found, lengths = self._marks(items, np.array([term]))
        having: Ints = np.repeat(items, lengths)[found == 0]
        return having

    def _marks(self, items: Ints, terms: Ints) -> tuple[Ints, Ints]:
        """Return the place in ``terms`` of each term of ``items``, -1 for others, and the number of terms of each."""
        starts = self.item_starts[items]
        lengths = self.item_starts[items + 1] - starts
        self.mark[terms] = np.arange(len(terms))
        found = self.mark[self.item_terms[ranges(starts, lengths)]]
        self.mark[terms] = -1
        return found, lengths
