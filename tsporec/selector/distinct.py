"""Choose tokens that tell the items of a catalogue apart, from the texts alone.

At few tokens a rule gives many items the same selection: "Pilot pen" stands for every pen of Pilot. A recommender
cannot tell such items apart. Here each further token is chosen for its score and for how far it narrows down the items
that share the tokens chosen before it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec.scorers.base import Scores
from tsporec.scorers.repeats import repeated
from tsporec.tokens.ragged import RaggedTokens, ranges, segment_digests

Ints = NDArray[np.int64]

STRENGTH = 1.2
"""Score points for each nat by which a token narrows down the items, for the scale of the bundled rule."""
_SPARE = 32  # tokens of an item that are considered beyond the largest budget
_SAMPLE = 1000  # items that an item is compared with at most

_log = logging.getLogger("tsporec")


def make_distinct(selector: Any, corpus: RaggedTokens, budgets: Sequence[int], strength: float, first: int) -> Any:
    """Let the items of a catalogue keep tokens that tell them apart.

    Texts alone decide, so no user data is needed. :func:`distinct_scores` says how the tokens are chosen. If an item
    still keeps what an item of another text keeps, a warning counts such items.

    Parameters
    ----------
    selector : TokenSelector
        Bound to the tokenizer of ``corpus``. It stays as it is.
    corpus : RaggedTokens
        The whole catalogue, one item a segment. Known items that are not in it are forgotten.
    budgets : sequence of int
        Numbers of tokens at which selections are to differ.
    strength : float
        Score points for each nat by which a token narrows down the items that share the tokens before it.
    first : int
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
    if not len(budgets) or min(budgets) < 1 or not 0 <= first <= len(corpus):
        raise ValueError(
            f"expected budgets of at least 1 token, and first from 0 to {len(corpus)} items; found {list(budgets)} and "
            f"{first}."
        )
    known = selector.with_item_weights(corpus)
    terms = known.vocabulary.pieces.terms
    scores, same = distinct_scores(selector.score(corpus), corpus, terms, budgets, strength, first)
    if same:
        _log.warning(
            "%d of %d items keep the same tokens as an item of another text at a budget of %s: their texts differ in "
            "too few words.", same, len(corpus), " or ".join(map(str, budgets)),
        )  # fmt: skip
    return known.set_item_scores(corpus, scores)


def distinct_share(kept: RaggedTokens, corpus: RaggedTokens) -> float:
    """Return the share of items that keep other tokens than every item of another text.

    >>> texts, kept = RaggedTokens.from_lists([[1, 2], [1, 3], [1, 2]]), RaggedTokens.from_lists([[1], [1], [1]])
    >>> distinct_share(kept, texts), distinct_share(texts, texts)
    (0.0, 1.0)
    """
    # Digests of (kept, whole text) -> texts that keep the same, for each item
    pairs = np.unique(np.stack([segment_digests(kept), segment_digests(corpus)], axis=1), axis=0)
    selections, texts = np.unique(pairs[:, 0], return_counts=True)
    shared = texts[np.searchsorted(selections, segment_digests(kept))] > 1
    return 1.0 - float(shared.mean()) if len(corpus) else 1.0


def distinct_scores(
    scores: Scores, tokens: RaggedTokens, terms: Ints, budgets: Sequence[int], strength: float, first: int = 0
) -> tuple[Scores, int]:
    """Change scores so that the kept tokens tell the items of a catalogue apart.

    The tokens of an item are chosen one by one:

    1. A token's value is its score plus ``strength * log(a / b)``. Here ``a`` items of the catalogue have all tokens
       that were chosen before, and ``b`` of these have this one too. The first token has its score alone.
    2. The token of the highest value is chosen; the earlier one among equals. Repeats are not considered.
    3. Where a budget is reached, the token of the highest value is chosen with which no other item's selection at this
       budget is the same. Items of equal texts are not told apart.

    The chosen tokens are then scored above all others of their item, in the order in which they were chosen.

    Parameters
    ----------
    scores : float32 ``[T]``
    tokens : RaggedTokens
        The catalogue, one item a segment.
    terms : int64 ``[V]``
        Number of each vocabulary id; ids that differ in case or space share one. See
        :attr:`tsporec.tokens.pieces.Pieces.terms`.
    budgets : sequence of int
        Numbers of tokens at which selections are to differ.
    strength : float
        Score points for each nat by which a token narrows down the items.
    first : int
        The first so many items keep the tokens that they have. Default: 0.

    Returns
    -------
    float32 ``[T]``, int
        The scores, and how many items at some budget still keep what an item of another text keeps.

    Examples
    --------
    The second item would keep "pilot pen" as the first does:

    >>> tokens, scores = RaggedTokens.from_lists([[1, 2], [1, 2, 3]]), np.float32([2, 1, 2, 1, 0])
    >>> distinct_scores(scores, tokens, np.arange(4), budgets=[2], strength=0.0)
    (array([4., 3., 4., 1., 3.], dtype=float32), 0)
    """
    catalogue = _Catalogue(tokens, terms)
    texts = segment_digests(tokens)
    taken: list[dict[tuple[int, ...], int]] = [{} for _ in range(max(budgets) + 1)]
    changed, same = scores.copy(), 0
    for item in range(len(tokens)):
        start, end = int(tokens.cu_seqlens[item]), int(tokens.cu_seqlens[item + 1])
        pool = catalogue.best(scores[start:end], start, max(budgets) + _SPARE)
        chosen, clash = _choose(catalogue, scores, pool, budgets, strength, taken, int(texts[item]), item >= first)
        same += clash
        if item >= first and chosen:
            changed[chosen] = scores[start:end].max() + np.arange(len(chosen), 0, -1)
    return changed, same


def _choose(
    catalogue: _Catalogue,
    scores: Scores,
    pool: Ints,
    budgets: Sequence[int],
    strength: float,
    taken: list[dict[tuple[int, ...], int]],
    text: int,
    free: bool,
) -> tuple[list[int], bool]:
    """Choose tokens of one item from ``pool``, and note its selection at each budget in ``taken``.

    ``taken[k]`` maps a selection of k terms to the digest of the text that has it. ``free`` is False for an item that
    keeps the tokens that it has. Returns the chosen positions and whether a selection is that of another text.
    """
    rest, clash = list(pool), False
    chosen: list[int] = []
    items: Ints | None = None  # those that have all chosen tokens
    kept: list[int] = []
    while rest and len(chosen) < max(budgets):
        values = scores[rest].astype(np.float64)
        if items is not None and len(items) > 1:
            values += strength * np.log(len(items) / catalogue.count(items, catalogue.terms[rest]))
        order = np.argsort(-values, kind="stable")
        owners = taken[len(chosen) + 1] if len(chosen) + 1 in budgets else {}
        place = int(order[0])
        if free:
            unused = (i for i in order if owners.get(_selection(kept, int(catalogue.terms[rest[i]])), text) == text)
            place = int(next(unused, place))
        chosen.append(int(rest.pop(place)))
        kept.append(int(catalogue.terms[chosen[-1]]))
        if len(chosen) in budgets:
            clash |= owners.setdefault(_selection(kept), text) != text
        if strength and free:
            items = catalogue.having(kept[-1], items)
    return chosen, clash


def _selection(kept: list[int], *more: int) -> tuple[int, ...]:
    """Make the key of a selection: its terms in order, whatever order they were chosen in."""
    return tuple(sorted([*kept, *more]))


class _Catalogue:
    """The terms of each item and the items of each term."""

    def __init__(self, tokens: RaggedTokens, terms: Ints) -> None:
        self.terms = terms[tokens.ids]
        self.repeats = repeated(tokens, self.terms)
        ones = np.flatnonzero(~self.repeats)
        # Items [[1, 2, 1], [2]] -> terms of each item [1, 2 | 2] and items of each term 1: [0], 2: [0, 1]
        self.item_terms, owner = self.terms[ones], tokens.segment_ids()[ones]
        self.item_starts = np.append(0, np.cumsum(np.bincount(owner, minlength=len(tokens))))
        order = np.argsort(self.item_terms, kind="stable")
        self.term_items = owner[order]
        self.term_starts = np.append(
            0, np.cumsum(np.bincount(self.item_terms, minlength=int(terms.max(initial=0)) + 1))
        )
        self.mark = np.full(len(self.term_starts), -1)

    def best(self, scores: Scores, start: int, count: int) -> Ints:
        """Return the positions of an item's ``count`` best tokens without repeats; ``scores`` are the item's."""
        order = start + np.argsort(-scores, kind="stable")
        return order[~self.repeats[order]][:count]

    def count(self, items: Ints, terms: Ints) -> Ints:
        """Count the ``items`` that have each of M different ``terms``; at least 1: int64 ``[M]``."""
        found, _ = self._marks(items, terms)
        counts: Ints = np.maximum(np.bincount(found[found >= 0], minlength=len(terms)), 1)
        return counts

    def having(self, term: int, items: Ints | None) -> Ints:
        """Return those of ``items`` that have ``term``, or a sample of all items that have it."""
        if items is None:
            all_of = self.term_items[self.term_starts[term] : self.term_starts[term + 1]]
            return all_of[:: -(-len(all_of) // _SAMPLE)]
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
