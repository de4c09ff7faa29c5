"""Items, their text, and who touched them in what order: what every reader gives and everything else takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tsporec.data.cleaning import clean_text
from tsporec.tokens.ragged import RaggedTokens

FIELDS = ("title", "description")
"""The fields that make an item's text unless others are named."""

_TOKENIZED_TOGETHER = 4096  # texts: bounds the memory that the tokenizer's offsets take


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
    times : tuple of float, optional
        When each item was touched, in the unit of the file; empty where the file does not say.
    """

    user_id: str
    item_ids: tuple[str, ...]
    times: tuple[float, ...] = field(default=(), compare=False, repr=False)


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

    Raises
    ------
    ValueError
        If ``max_tokens`` is not positive.
    """
    if max_tokens is not None and max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1 or None, found {max_tokens}.")
    texts = [item_text(item, fields) for item in items]
    rows: list[Any] = []
    for start in range(0, len(texts), _TOKENIZED_TOGETHER):
        part = texts[start : start + _TOKENIZED_TOGETHER]
        ids = tokenizer(part, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
        rows += [row[:max_tokens] for row in ids]
    return RaggedTokens.from_lists(rows)


def check_known(
    items: Sequence[Item], sequences: Iterable[Interactions], unknown: str = "error", *, targets: bool = False
) -> list[Interactions]:
    """The sequences, with items that the catalogue lacks refused (``"error"``) or left out (``"drop"``).

    With ``targets`` a sequence is an evaluation row: one whose target (its last item) is unknown is left out whole,
    for otherwise the item before it would be taken for the target.

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
        if not missing:
            checked.append(sequence)
        elif len(missing) < len(sequence.item_ids) and not (targets and sequence.item_ids[-1] not in known):
            kept = [place for place, item_id in enumerate(sequence.item_ids) if item_id in known]
            times = tuple(sequence.times[place] for place in kept) if sequence.times else ()
            checked.append(Interactions(sequence.user_id, tuple(sequence.item_ids[place] for place in kept), times))
    return [sequence for sequence in checked if sequence.item_ids]
