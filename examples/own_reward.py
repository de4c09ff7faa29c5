"""A reward of your own: rate token subsets, and the selector learns to keep what the reward likes.

A reward is any object with a ``fingerprint`` and a call that returns a number for each candidate. This one likes
subsets that keep numbers. Yours would ask a recommender, or count clicks.
"""

from __future__ import annotations

import tempfile

import numpy as np
import tiny
from numpy.typing import NDArray

from tsporec import RaggedTokens, TokenSelector, select
from tsporec.data.items import tokenize_items
from tsporec.learning.candidates import Candidates
from tsporec.learning.config import LearningConfig
from tsporec.learning.rounds import learn_selector
from tsporec.tokens.pieces import read_pieces


class KeepsNumbers:
    """Count the tokens with digits that a subset keeps. ``digits`` bool ``[V]`` says which ids have some."""

    fingerprint = "numbers 1"  # it changes with the rewards: cached ones are told apart by it

    def __init__(self, digits: NDArray[np.bool_]) -> None:
        self.digits = digits

    def __call__(self, tokens: RaggedTokens, candidates: Candidates) -> NDArray[np.float64]:
        """Return one number a candidate. ``candidates.kept`` are places in ``tokens``, ``owner`` their candidates."""
        return np.bincount(candidates.owner, self.digits[tokens.ids[candidates.kept]], minlength=len(candidates))


def main(budget: int = 8, rounds: int = 3) -> dict[str, float]:
    """Return the share of tokens with digits that is kept, before and after."""
    items, _, tokenizer = tiny.catalogue()
    tokens = tokenize_items(items, tokenizer)
    digits = np.array([any(map(str.isdigit, text)) for text in read_pieces(tokenizer).texts])
    start = TokenSelector().for_tokenizer(tokenizer).fit(tokens)
    config = LearningConfig(budgets=(budget,), item_rounds=rounds, item_training={"use_cpu": True})
    with tempfile.TemporaryDirectory() as folder:
        learned, _ = learn_selector(tokens, start, KeepsNumbers(digits), folder, config)
    found = {}
    for name, selector in {"before": start, "after": learned}.items():
        kept = select(selector, tokens, budget).apply(tokens)
        found[name] = float(digits[kept.ids].sum() / digits[tokens.ids].sum())
        print(f"{name}: {found[name]:.0%} of the tokens with digits are kept")
    return found


if __name__ == "__main__":
    main()
