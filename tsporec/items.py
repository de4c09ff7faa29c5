"""Items, their text, and who touched them in what order: what every reader gives and everything else takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tsporec.ragged import RaggedTokens
from tsporec.text import clean_text

FIELDS = ("title", "description")
"""The fields that make an item's text unless others are named."""


@dataclass(frozen=True)
class Item:
    """A thing that can be recommended.

    Parameters
    ----------
    id : str
    fields : dict of str to str
        Its text fields in order, cleaned; an empty or missing field is ordinary.
    """

    id: str
    fields: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_raw(cls, item_id: object, fields: dict[str, Any]) -> Item:
        """An item from fields as they stand in a file: cleaned, lists joined, empty ones left out."""
        texts = {name: clean_text(value) for name, value in fields.items()}
        return cls(str(item_id), {name: text for name, text in texts.items() if text})


@dataclass(frozen=True)
class Interactions:
    """What one user touched, oldest first.

    In an evaluation row the last item is the target and the others are the history.

    Parameters
    ----------
    user_id : str
    item_ids : tuple of str
    """

    user_id: str
    item_ids: tuple[str, ...]


def item_text(item: Item, fields: Sequence[str] = FIELDS) -> str:
    r"""The named fields of an item that are not empty, one a line.

    >>> item_text(Item("1", {"title": "Gel pen", "brand": "Pilot"}), ("title", "description", "brand"))
    'Gel pen\nPilot'
    """
    return "\n".join(item.fields[name] for name in fields if item.fields.get(name))


def tokenize_items(
    items: Iterable[Item], tokenizer: Any, fields: Sequence[str] = FIELDS, max_tokens: int | None = None
) -> RaggedTokens:
    """The tokens of the items' texts, without special tokens; a segment an item, empty where there is no text.

    Parameters
    ----------
    items : iterable of Item
    tokenizer : a Hugging Face tokenizer
    fields : names of the fields to join
    max_tokens : int, optional
        Cut longer texts to their first ``max_tokens`` tokens.
    """
    texts = [item_text(item, fields) for item in items]
    if not texts:
        return RaggedTokens.from_lists([])
    ids = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    return RaggedTokens.from_lists([row[:max_tokens] for row in ids])


def check_known(items: Sequence[Item], sequences: Iterable[Interactions], unknown: str = "error") -> list[Interactions]:
    """The sequences, with items that the catalogue lacks refused (``"error"``) or left out (``"drop"``).

    Raises
    ------
    ValueError
        If the catalogue is empty, holds an id twice, or (``"error"``) lacks an item of a sequence.
    """
    if unknown not in ("error", "drop"):
        raise ValueError(f"unknown must be 'error' or 'drop', found {unknown!r}.")
    known = {item.id for item in items}
    if not known:
        raise ValueError("the catalogue is empty: its file has no items.")
    if len(known) < len(items):
        seen: set[str] = set()
        twice = next(item.id for item in items if item.id in seen or seen.add(item.id))  # type: ignore[func-returns-value]
        raise ValueError(f"item id {twice!r} stands in the catalogue twice; ids must be unique.")
    checked = []
    for number, sequence in enumerate(sequences, start=1):
        missing = [item_id for item_id in sequence.item_ids if item_id not in known]
        if missing and unknown == "error":
            raise ValueError(
                f"sequence {number} (user {sequence.user_id!r}) names item {missing[0]!r}, which the catalogue of "
                f"{len(known)} items lacks; give the catalogue it belongs to, or drop unknown items."
            )
        kept = tuple(item_id for item_id in sequence.item_ids if item_id in known)
        if kept:
            checked.append(Interactions(sequence.user_id, kept))
    return checked
