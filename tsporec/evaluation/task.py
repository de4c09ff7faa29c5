"""The task of an evaluation: the texts of a catalogue, and the items that users touched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.digest import digest
from tsporec._internal.types import expect
from tsporec.budget import Budget
from tsporec.data.items import FIELDS, Interactions, Item, check_fields, check_known, check_records, tokenize_items
from tsporec.data.splits import hold_out_users, refuse_learned, training_sequences
from tsporec.metrics import ranks
from tsporec.recommenders.embedding import EmbeddingConfig, EmbeddingRecommender, make_recommender
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.recommenders.ridge import RidgeRecommender
from tsporec.scorers import Scorer, make_scorer
from tsporec.selection import select
from tsporec.tokens.fingerprint import check_tokenizer
from tsporec.tokens.ragged import RaggedTokens

_ROWS = 8192  # rows ranked at once: 11 bytes for each of their scores


@dataclass(frozen=True, eq=False)
class Task:
    """Hold texts, and sequences of item indices."""

    tokens: RaggedTokens
    """The whole text of every item."""
    train: list[list[int]]
    held_out: list[list[int]]
    """Sequences to choose by, of other users than those to learn from."""
    test: list[list[int]]
    """Rows that are only reported on. The last item is the target; those before it are not ranked."""
    users: list[str]
    """The user of each test row."""

    @cached_property
    def fingerprint(self) -> str:
        """Digest of texts and sequences."""
        return digest(self.tokens.ids, self.tokens.cu_seqlens, self.train, self.held_out, self.test)

    @cached_property
    def new(self) -> NDArray[np.bool_]:
        """True for test rows with a new target, one that does not stand in the history: ``[M]``."""
        return np.array([row[-1] not in row[:-1] for row in self.test], dtype=bool)

    @property
    def repeats(self) -> float:
        """Share of test rows whose target stands in the history. It is ranked all the same."""
        return float((~self.new).sum()) / max(len(self.test), 1)

    def last_items(self) -> Task:
        """Return the task of predicting the last item of each training user from the items before it.

        Sequences of two items are learned from as they are: without the last item nothing would be left to learn.

        >>> task = Task(RaggedTokens.from_lists([[5], [6], [7]]), [[0, 1, 2], [2, 0]], [[1, 2]], [], [])
        >>> task.last_items().train, task.last_items().test
        ([[0, 1], [2, 0]], [[0, 1, 2]])
        """
        rows = [sequence for sequence in self.train if len(sequence) > 2]
        before = [sequence[:-1] if len(sequence) > 2 else sequence for sequence in self.train]
        return Task(self.tokens, before, self.held_out, rows, [str(i) for i in range(len(rows))])

    def next_items(self, sequences: Sequence[Sequence[int]]) -> Task:
        """Return the task of predicting every next item of other users, one sequence a user, from the items before it.

        >>> task = Task(RaggedTokens.from_lists([[5], [6], [7]]), [[0, 1]], [[2, 1, 0]], [], [])
        >>> task.next_items(task.held_out).test, task.next_items(task.held_out).users
        ([[2, 1], [2, 1, 0]], ['0', '0'])
        """
        rows = [list(sequence[: place + 1]) for sequence in sequences for place in range(1, len(sequence))]
        users = [str(user) for user, sequence in enumerate(sequences) for _ in sequence[1:]]
        return replace(self, test=rows, users=users)

    def fit(
        self, vectors: NDArray[np.float32], config: EmbeddingConfig, description: str = "fit"
    ) -> EmbeddingRecommender:
        """Fit a new recommender to item vectors float32 ``[N, W]``, or to V views of them ``[V, N, W]``."""
        recommender = make_recommender(vectors.shape[-1], config)
        return recommender.fit(vectors, self.train, self.held_out, description)

    def ranks(
        self, recommender: EmbeddingRecommender | RidgeRecommender, vectors: NDArray[np.float32]
    ) -> NDArray[np.int64]:
        """Return the rank of each test row's target by a recommender that reads ``vectors``: int64 ``[M]``."""
        return self._ranks(lambda histories: recommender.scores(vectors, histories))

    def popularity_ranks(self) -> NDArray[np.int64]:
        """Return the rank of each test row's target by the items' counts in the training sequences: int64 ``[M]``.

        >>> task = Task(RaggedTokens.from_lists([[5], [6], [7]]), [[0, 2], [1, 2], [1]], [], [[2, 0]], ["u"])
        >>> task.popularity_ranks().tolist()
        [2]
        """
        counts = np.bincount([item for sequence in self.train for item in sequence], minlength=len(self.tokens))
        return self._ranks(lambda histories: np.broadcast_to(counts.astype(np.float32), (len(histories), len(counts))))

    def _ranks(self, scores: Callable[[list[list[int]]], NDArray[np.float32]]) -> NDArray[np.int64]:
        parts = []
        for begin in range(0, max(1, len(self.test)), _ROWS):
            rows = self.test[begin : begin + _ROWS]
            histories, targets = [row[:-1] for row in rows], [row[-1] for row in rows]
            parts.append(ranks(scores(histories), targets, histories))
        return np.concatenate(parts)


def encode_selection(task: Task, encoder: ItemEncoder, scorer: Scorer, budget: Budget | int) -> NDArray[np.float32]:
    """Encode what ``scorer`` keeps of each text: float32 ``[N, W]``."""
    return encoder.encode(select(scorer, task.tokens, budget).apply(task.tokens))


def warm_up_rules(tokens: RaggedTokens) -> list[Scorer]:
    """Return the cheap rules whose subsets a recommender is warmed up on: head, eight random ones and tf-idf.

    With few random rules the recommender memorises the few vectors of each item, and reads no other subset.
    """
    sampled: list[Scorer] = [make_scorer("random", seed=seed) for seed in range(1, 9)]
    return [make_scorer("head"), *sampled, make_scorer("tfidf").fit(tokens)]


def prepare(
    items: Sequence[Item],
    train: Sequence[Interactions],
    test: Sequence[Interactions],
    tokenizer: Any,
    fields: Sequence[str] = FIELDS,
    max_tokens: int | None = None,
    unknown: str = "error",
    seed: int = 0,
) -> Task:
    """Make a :class:`Task` from what the readers return.

    Parameters
    ----------
    items : sequence of Item
        The catalogue.
    train, test : sequences of Interactions
        Training sequences are merged by :func:`tsporec.data.splits.training_sequences`. A tenth of their users is held
        out. The last item of a test row is its target; rows that stand in the training sequences are refused. An empty
        ``test`` makes a task to learn from alone.
    tokenizer : Hugging Face tokenizer
    fields : names
        Fields of the items' texts. Default: title and description.
    max_tokens : int, optional
        Texts are cut to their first so many tokens. Default: they stay whole.
    unknown : "error" or "drop"
        What to do with items that the catalogue lacks. Default: "error".
    seed : int
        Random seed of holding out users. Default: 0.

    Examples
    --------
    >>> from tsporec.data.synthetic import CatalogueConfig, generate
    >>> made = generate(CatalogueConfig(items=30, users=30, tastes=3, words_per_taste=2, mentions=4))
    >>> task = prepare(made.items, made.train, made.test, made.tokenizer, ("description",))
    >>> len(task.train), len(task.held_out), len(task.test)
    (27, 3, 30)
    """
    check_records(items, Item, "items")
    check_records(train, Interactions, "train")
    check_records(test, Interactions, "test")
    check_tokenizer(tokenizer)
    expect("seed", seed, int, "a whole number")
    index = {item.id: i for i, item in enumerate(items)}
    train, test = check_known(items, train, unknown), check_known(items, test, unknown, targets=True)
    check_fields(items, fields)
    rows = [replace(row, row=True) for row in test if len(row.item_ids) > 1]
    if test and not rows:
        raise ValueError("no test row has a history and a target; expected at least two items in some row.")
    refuse_learned(train, rows)
    rest, held = hold_out_users(training_sequences(train, test), seed)
    if not rest or not held:
        raise ValueError(
            f"{len(rest) + len(held)} of the training users have two items or more; at least two such users are "
            "needed, one to learn from and one to choose by."
        )

    def indices(sequences: Sequence[Interactions]) -> list[list[int]]:
        return [[index[item] for item in sequence.item_ids] for sequence in sequences]

    tokens = tokenize_items(items, tokenizer, fields, max_tokens)
    return Task(tokens, indices(rest), indices(held), indices(rows), [row.user_id for row in rows])
