"""What an evaluation is run on: the texts of a catalogue, and who touched what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec.data.items import FIELDS, Interactions, Item, check_known, tokenize_items
from tsporec.data.splits import hold_out_users, training_sequences
from tsporec.metrics import ranks
from tsporec.recommenders.embedding import EmbeddingRecommender
from tsporec.tokens.ragged import RaggedTokens

_ROWS = 8192  # ranked at once: 11 bytes for each of their scores


@dataclass(frozen=True, eq=False)
class Task:
    """Texts and sequences, by item index.

    Parameters
    ----------
    tokens : RaggedTokens
        The whole text of every item.
    train, held_out : sequences of item indices
        To learn from, and to choose by: different users.
    test : sequences of item indices
        Only reported on: the last item is the target, those before it are the history and are not ranked.
    users : str per test row
    """

    tokens: RaggedTokens
    train: list[list[int]]
    held_out: list[list[int]]
    test: list[list[int]]
    users: list[str]

    @property
    def repeats(self) -> float:
        """Share of test rows whose target stands in the history; it is ranked all the same."""
        return sum(row[-1] in row[:-1] for row in self.test) / max(len(self.test), 1)

    def last_items(self) -> Task:
        """The task of telling the last item of each training user from what came before: to choose by.

        Sequences of two items are learned from, for without the last one there would be nothing to learn.
        """
        rows = [sequence for sequence in self.train if len(sequence) > 2]
        before = [sequence[:-1] if len(sequence) > 2 else sequence for sequence in self.train]
        return Task(self.tokens, before, self.held_out, rows, [str(i) for i in range(len(rows))])

    def ranks(self, recommender: EmbeddingRecommender, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """int64 ``[M]``: the rank of each test row's target by a recommender that reads the items' ``vectors``."""
        parts = []
        for begin in range(0, max(1, len(self.test)), _ROWS):
            rows = self.test[begin : begin + _ROWS]
            histories, targets = [row[:-1] for row in rows], [row[-1] for row in rows]
            parts.append(ranks(recommender.scores(vectors, histories), targets, histories))
        return np.concatenate(parts)


def prepare(
    items: Sequence[Item],
    train: Sequence[Interactions],
    test: Sequence[Interactions],
    tokenizer: Any,
    fields: Sequence[str] = FIELDS,
    max_tokens: int | None = 256,
    unknown: str = "error",
    seed: int = 0,
) -> Task:
    """A :class:`Task` from what the readers give.

    Training sequences are merged as :func:`tsporec.data.splits.training_sequences` says; a tenth of their users is held
    out. Texts are cut to their first ``max_tokens`` tokens (HLLM reads 256).
    """
    index = {item.id: i for i, item in enumerate(items)}
    train, test = check_known(items, train, unknown), check_known(items, test, unknown, targets=True)
    rows = [row for row in test if len(row.item_ids) > 1]
    if not rows:
        raise ValueError("no test row has a history and a target; expected at least two items in some row.")
    rest, held = hold_out_users(training_sequences(train, test), 0.1, seed)
    if not rest or not held:
        raise ValueError("too few training sequences: at least two users with two items each are needed.")

    def indices(sequences: Sequence[Interactions]) -> list[list[int]]:
        return [[index[item] for item in sequence.item_ids] for sequence in sequences]

    tokens = tokenize_items(items, tokenizer, fields, max_tokens)
    if tokens.num_tokens == 0:
        raise ValueError(f"no item has text in the fields {list(fields)}; name the fields that hold it.")
    return Task(tokens, indices(rest), indices(held), indices(rows), [row.user_id for row in rows])
