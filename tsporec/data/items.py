"""Items and the interactions of users: the types that every reader gives and everything else takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tsporec._internal.types import expect, is_whole
from tsporec.data.cleaning import clean_text
from tsporec.tokens.fingerprint import check_tokenizer
from tsporec.tokens.ragged import RaggedTokens

FIELDS = ("title", "description")
"""Fields that make an item's text by default."""

_TOKENIZED_TOGETHER = 4096  # texts in one call: bounds the memory that the tokenizer takes


@dataclass(frozen=True)
class Item:
    """A thing that can be recommended, with its cleaned text fields in order. A missing field is ordinary."""

    id: str
    fields: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        named = isinstance(self.id, str) and isinstance(self.fields, Mapping)
        if not (named and all(isinstance(text, str) for text in self.fields.values())):
            raise TypeError(
                f"an Item has a text as id and a dict of texts as fields; found {self.id!r:.40} and "
                f"{self.fields!r:.80}. Item.from_raw(id, fields) makes texts of numbers and lists."
            )

    @classmethod
    def from_raw(cls, item_id: object, fields: Mapping[str, Any]) -> Item:
        """Make an item from the raw fields of a file: fields are cleaned, lists are joined, empty fields are left out.

        >>> Item.from_raw(7, {"title": "<b>Gel</b> pen", "brand": None})
        Item(id='7', fields={'title': 'Gel pen'})
        """
        texts = {str(name): clean_text(value) for name, value in fields.items()}
        return cls(str(item_id), {name: text for name, text in texts.items() if text})


@dataclass(frozen=True)
class Interactions:
    """The items that one user touched, oldest first.

    ``times`` has the time of each interaction in seconds, and ``written`` has it as the file does where that differs;
    both are empty if there are no times. In a ``row`` the last item is a target, and those before it are its history.
    """

    user_id: str
    item_ids: tuple[str, ...]
    times: tuple[float, ...] = field(default=(), compare=False, repr=False)
    row: bool = field(default=False, compare=False, repr=False)
    written: tuple[Any, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        ids = self.item_ids
        if not isinstance(ids, tuple) or not all(isinstance(one, str) for one in ids[:1]):
            raise TypeError(f"item_ids must be a tuple of texts, such as ('B07', 'B12'); found {ids!r:.80}.")


def item_text(item: Item, fields: Sequence[str] = FIELDS) -> str:
    r"""Join the named fields of an item that are not empty, one on each line.

    >>> item_text(Item("1", {"title": "Gel pen", "brand": "Pilot"}), ("title", "description", "brand"))
    'Gel pen\nPilot'
    """
    return "\n".join(item.fields[name] for name in fields if item.fields.get(name))


def check_records(given: object, kind: type, name: str) -> None:
    """Refuse what is no list of ``kind``, :class:`Item` or :class:`Interactions`.

    >>> check_records([Item("1")], Item, "items")
    """
    wrong: list[object] = [given]
    if listed := isinstance(given, Sequence) and not isinstance(given, str):
        wrong = [one for one in given if not isinstance(one, kind)]
    if wrong:
        read = "read_items" if kind is Item else "read_sequences"
        raise TypeError(
            f"{name} must be a list of {kind.__name__}, found {'one of ' if listed else ''}{type(wrong[0]).__name__}; "
            f"tsporec.data.readers.{read} makes one of a file, a DataFrame or a list of dicts."
        )


def check_fields(items: Iterable[Item], fields: Sequence[str]) -> None:
    """Refuse names of fields in which no item has text. Of the default fields, one is enough.

    >>> check_fields([Item("1", {"name": "Gel pen"})], ["name"])
    """
    expect("fields", fields, list[str], "a list of names, such as ['title']")
    found = {name for item in items for name in item.fields}
    missing = [name for name in fields if name not in found]
    if len(missing) == len(fields) or (missing and tuple(fields) != FIELDS):
        raise ValueError(
            f"no item has text in the fields {missing}; found {', '.join(sorted(found)) or 'none'}. Name those that "
            "hold the text with fields=… (--fields)."
        )


def tokenize_texts(texts: Sequence[str], tokenizer: Any, max_tokens: int | None = None) -> RaggedTokens:
    """Tokenise texts without special tokens; one segment for each text, of its first ``max_tokens`` tokens at most.

    >>> from tsporec.data.synthetic import word_tokenizer
    >>> tokenize_texts(["blue pen", "", "pen"], word_tokenizer(["blue", "pen"])).to_lists()
    [[4, 5], [], [5]]
    """
    if max_tokens is not None and not (is_whole(max_tokens) and max_tokens >= 1):
        raise ValueError(f"max_tokens must be a whole number of at least 1, or None; found {max_tokens!r}.")
    check_tokenizer(tokenizer)
    if not isinstance(texts, Sequence) or not all(isinstance(one, str) for one in texts) or isinstance(texts, str):
        raise TypeError(f"texts must be a list of texts; found {texts!r:.60}.")
    rows: list[Any] = []
    for start in range(0, len(texts), _TOKENIZED_TOGETHER):
        part = list(texts[start : start + _TOKENIZED_TOGETHER])
        ids = tokenizer(part, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
        rows += [row[:max_tokens] for row in ids]
    return RaggedTokens.from_lists(rows)


def tokenize_items(
    items: Iterable[Item], tokenizer: Any, fields: Sequence[str] = FIELDS, max_tokens: int | None = None
) -> RaggedTokens:
    """Tokenise the items' texts (:func:`item_text`) like :func:`tokenize_texts`; an item without text is empty.

    The segments have the ids of their items (:meth:`RaggedTokens.with_items`).
    """
    items = items if isinstance(items, Sequence) or not isinstance(items, Iterable) else list(items)
    check_records(items, Item, "items")
    expect("fields", fields, list[str], "a list of names, such as ['title']")
    tokens = tokenize_texts([item_text(item, fields) for item in items], tokenizer, max_tokens)
    return tokens.with_items(item.id for item in items)


def check_known(
    items: Sequence[Item], sequences: Iterable[Interactions], unknown: str = "error", *, targets: bool = False
) -> list[Interactions]:
    """Check that the catalogue has every item of the sequences, or leave unknown items out (``unknown="drop"``).

    With ``targets`` the sequences are evaluation rows: a row with an unknown target (its last item) is left out whole.
    A catalogue that is empty, holds an id twice, or (``"error"``) lacks an item is a ValueError.

    >>> check_known([Item("1"), Item("2")], [Interactions("u", ("1", "9", "2"))], "drop")[0].item_ids
    ('1', '2')
    """
    if unknown not in ("error", "drop"):
        raise ValueError(f"unknown must be 'error' or 'drop', found {unknown!r}.")
    known = {item.id for item in items}
    if not known:
        raise ValueError("the catalogue is empty: its file has no items.")
    if len(known) < len(items):
        twice = Counter(item.id for item in items).most_common(1)[0][0]
        raise ValueError(f"item id {twice!r} stands in the catalogue twice; ids must be unique.")
    checked = []
    for number, sequence in enumerate(sequences, start=1):
        user, ids, times = sequence.user_id, sequence.item_ids, sequence.times
        kept = [place for place, item_id in enumerate(ids) if item_id in known]
        if len(kept) < len(ids) and unknown == "error":
            missing = next(item_id for item_id in ids if item_id not in known)
            raise ValueError(
                f"sequence {number} (user {user!r}) names item {missing!r}, which the catalogue of {len(known)} items "
                f"lacks; its ids are like {items[0].id!r}. Give the catalogue it belongs to, or leave such items out "
                "with unknown='drop' (--drop-unknown)."
            )
        if kept and not (targets and ids[-1] not in known):
            times = tuple(times[place] for place in kept) if times else ()
            checked.append(Interactions(user, tuple(ids[place] for place in kept), times))
    return checked
