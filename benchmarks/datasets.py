"""Read the four catalogues of the benchmarks, each in the layout that ``benchmarks/README.md`` describes.

Each has its last interactions as test rows. Everything before them is for training and for choosing:
``prepare`` holds out a tenth of the users, and ``Task.last_items`` gives each training user's last item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec.data.items import FIELDS, Interactions, Item, item_text
from tsporec.data.readers import read_items, read_sequences
from tsporec.data.splits import make_rows, split
from tsporec.evaluation.task import Task, prepare

CATEGORIES = ("Office_Products", "Industrial_and_Scientific")
"""Catalogues in ``amazon18`` with rows of validation and test, cut at two moments."""
WHOLE = {
    "Scientific": ("scientific18/Scientific.item.json", "scientific18/Scientific.inter.json"),
    "films": ("films/items.jsonl", "films/interactions.csv"),
}
"""Catalogues with a whole sequence a user: files of items and of interactions."""
CATALOGUES = (*CATEGORIES, *WHOLE)


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Hold what the readers return for one catalogue.

    Parameters
    ----------
    items : list of Item
    train : list of Interactions
        Training sequences: rows of validation, or all but the last item of each user.
    test : list of Interactions
        Test rows. The last item is the target and those before it are the history.
    """

    items: list[Item]
    train: list[Interactions]
    test: list[Interactions]


def read_catalogue(data: Path, name: str) -> Catalogue:
    """Read the catalogue ``name`` from the folder ``data``.

    A whole sequence gives its last item to the test row and the rest to training. So the item before the last is the
    target of ``Task.last_items``: the validation item of the usual leave-one-out split.

    Raises
    ------
    ValueError
        If there is no catalogue of that name, or a file is missing.
    """
    if name in CATEGORIES:
        base = data / "amazon18" / name
        return Catalogue(
            read_items(f"{base}.item.json"), read_sequences(f"{base}.valid.csv"), read_sequences(f"{base}.test.csv")
        )
    if name not in WHOLE:
        raise ValueError(f"there is no catalogue {name!r}; expected one of {', '.join(CATALOGUES)}.")
    items, interactions = (data / file for file in WHOLE[name])
    train, held_out = split(read_sequences(interactions))
    return Catalogue(read_items(items), train, make_rows(train, held_out))


def read_task(
    data: Path, name: str, tokenizer: Any, fields: Sequence[str] = FIELDS, max_tokens: int | None = None
) -> Task:
    """Read a catalogue as a task.

    Texts hold the title and the description by default, and are whole unless ``max_tokens`` cuts them.
    """
    catalogue = read_catalogue(data, name)
    return prepare(catalogue.items, catalogue.train, catalogue.test, tokenizer, fields, max_tokens)


def read_texts(data: Path, name: str) -> list[str]:
    """Read every item's title and description as one text."""
    return [item_text(item, FIELDS) for item in read_catalogue(data, name).items]


def most_touched(task: Task, items: int, users: int) -> Task:
    """Cut a task to its ``items`` most touched items and at most ``users`` training users. Ties go to the earlier item.

    >>> from tsporec.tokens.ragged import RaggedTokens
    >>> task = Task(RaggedTokens.from_lists([[5], [6], [7]]), [[0, 2, 1], [2, 1]], [[1, 2]], [[0, 1, 2]], ["u"])
    >>> most_touched(task, 2, 1).train, most_touched(task, 2, 1).test
    ([[1, 0]], [[0, 1]])
    """
    counts = np.bincount([i for sequence in task.train for i in sequence], minlength=len(task.tokens))
    cut = of_items(task, np.sort(np.argsort(-counts, kind="stable")[:items]))
    return replace(cut, train=cut.train[:users])


def of_items(task: Task, kept: NDArray[np.integer]) -> Task:
    """Cut a task to the items ``kept``, ascending.

    Sequences and rows lose the other items. A sequence without two items left and a row without its target or its
    history are left out.
    """
    index = {int(item): place for place, item in enumerate(kept)}

    def cut(sequences: Sequence[Sequence[int]]) -> list[list[int]]:
        return [[index[i] for i in sequence if i in index] for sequence in sequences]

    rows = [
        (row, user)
        for row, whole, user in zip(cut(task.test), task.test, task.users, strict=True)
        if whole[-1] in index and len(row) > 1
    ]
    train, held_out = ([s for s in cut(part) if len(s) > 1] for part in (task.train, task.held_out))
    return Task(task.tokens.take(kept), train, held_out, [row for row, _ in rows], [user for _, user in rows])
