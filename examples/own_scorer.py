"""A scorer of your own: one class with ``score(tokens)``. It then works at every way in, and beside the others.

This one keeps names first: tokens with capitals or digits, such as brands, models and sizes. Among them, and among the
others, earlier tokens come first.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np
import tiny

from tsporec import SelectorCollator, make_scorer, select
from tsporec.data.items import tokenize_items
from tsporec.scorers import BaseScorer, Scores
from tsporec.selector.compress_text import compress_text
from tsporec.tokens.fingerprint import tokenizer_fingerprint
from tsporec.tokens.pieces import read_pieces
from tsporec.tokens.ragged import RaggedTokens


class NamesFirst(BaseScorer):
    """Score a name by 1, any other token by 0, less a little for each place in the text."""

    name = "names first"

    def for_tokenizer(self, tokenizer: Any) -> NamesFirst:
        """Return a scorer that knows which ids of ``tokenizer`` spell names."""
        bound = copy.copy(self)
        spelled = read_pieces(tokenizer).texts
        bound.names = np.array([any(c.isupper() or c.isdigit() for c in text) for text in spelled])
        bound.tokenizer_fingerprint = tokenizer_fingerprint(tokenizer)
        return bound

    def config(self) -> dict[str, Any]:
        """Return what decides the scores: caches and catalogues know the scorer by it."""
        return {"names": self.names}

    def score(self, tokens: RaggedTokens) -> Scores:
        """Return one score a token, float32 ``[T]``. A text's scores depend on that text alone."""
        return (self.names[tokens.ids] - 1e-4 * tokens.offsets()).astype(np.float32)


def main(budget: int = 8) -> dict[str, float]:
    """Return the share of the numbers in the texts that is kept, by scorer."""
    items, _, tokenizer = tiny.catalogue()
    tokens = tokenize_items(items, tokenizer)
    scorer = NamesFirst().for_tokenizer(tokenizer)

    for item in items[:3]:  # as text
        print(f"{item.fields['title']} -> {compress_text(scorer, tokenizer, item, budget)}")
    collator = SelectorCollator(list, scorer, budget, tokenizer=tokenizer)  # in a collator
    ids = tokens[0].tolist()
    print(collator([{"input_ids": ids, "item_spans": [(0, len(ids))]}]))

    scorers = {"head": make_scorer("head"), "tfidf": make_scorer("tfidf").fit(tokens), scorer.name: scorer}
    found = {}
    for name, one in scorers.items():
        kept = select(one, tokens, budget, granularity="word", tokenizer=tokenizer).apply(tokens)
        before, after = (sum(len(re.findall(r"\d+", tokenizer.decode(ids))) for ids in part) for part in (tokens, kept))
        found[name] = after / before
        print(f"{name}: keeps {found[name]:.0%} of the numbers")
    return found


if __name__ == "__main__":
    main()
