"""Batches from item ids: features name the items, the store has their kept tokens, nothing is selected or tokenised.

A template says what becomes of a feature's items: packed as HLLM packs them, put into a prompt, or one row each. All
items of a batch are looked up in one call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import chain, pairwise
from typing import Any, Protocol

import numpy as np
import torch

from tsporec.catalog.catalog import ItemCatalog
from tsporec.tokens.ragged import RaggedTokens

Feature = dict[str, Any]


class Template(Protocol):
    """What becomes of the items of a feature."""

    columns: tuple[str, ...]
    """The feature's columns of item ids, in order; they are taken out of the feature."""

    def assemble(self, feature: Feature, items: list[RaggedTokens]) -> Feature:
        """The feature (without its id columns) with the tokens of each column's items in their place."""

    def collate(self, features: list[Feature]) -> Feature:
        """A batch of tensors of assembled features; asked for where there is no base collator."""


class CatalogCollator:
    r"""A data collator over item ids.

    Parameters
    ----------
    catalog : ItemCatalog
    template : Template
        :class:`PackedItems`, :class:`ItemPrompt` or :class:`PlainItems`.
    base_collator : callable, optional
        Gets the assembled features; by default the template makes the batch.
    k : int, optional
        Tokens of each item, at most what the catalogue keeps.
    missing : str
        ``"error"``, or ``"empty"`` where an id is not in the catalogue.

    Examples
    --------
    >>> CatalogCollator(catalog, ItemPrompt("Bought:\n{items}\nNext:", tokenizer))               # doctest: +SKIP
    >>> CatalogCollator(catalog, PackedItems({"pos_": "item_ids"}), customize_rmpad_collate)     # doctest: +SKIP
    """

    def __init__(
        self,
        catalog: ItemCatalog,
        template: Template,
        base_collator: Callable[[list[Feature]], Any] | None = None,
        *,
        k: int | None = None,
        missing: str = "error",
    ) -> None:
        self.catalog, self.template, self.base_collator = catalog, template, base_collator
        self.k, self.missing = k, missing

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> Any:
        """The batch of ``features``.

        Raises
        ------
        ValueError
            If a feature lacks a column of ids.
        KeyError
            If an item is not in the catalogue (and ``missing="error"``).
        """
        columns = self.template.columns
        for number, feature in enumerate(features):
            if lacking := [name for name in columns if name not in feature]:
                raise ValueError(
                    f"feature {number} lacks {lacking[0]!r}; it has {sorted(feature)}. Name the columns of item ids in "
                    "the template; under Trainer set remove_unused_columns=False."
                )
        histories = [_ids(feature[name]) for feature in features for name in columns]
        tokens = self.catalog.lookup(list(chain.from_iterable(histories)), self.k, missing=self.missing)
        ends = np.cumsum([0, *map(len, histories)])
        runs = [tokens.take(np.arange(a, b)) for a, b in pairwise(ends)]
        assembled = []
        for number, feature in enumerate(features):
            rest = {name: value for name, value in feature.items() if name not in columns}
            mine = runs[number * len(columns) : (number + 1) * len(columns)]
            assembled.append(self.template.assemble(rest, mine))
        return (self.base_collator or self.template.collate)(assembled)


class PackedItems:
    """The items of a feature end to end, each with placeholder tokens behind it, as HLLM's collator takes them.

    Gives ``{prefix}input_ids [T]``, ``{prefix}cu_input_lens [N]`` (the *lengths*, tails included, in spite of the
    name) and ``{prefix}position_ids [T]``, all int64; positions are right-aligned: an item's last text token is at
    ``max_text_length - 1``.

    Parameters
    ----------
    prefixes : dict of str to str
        Prefix to column of item ids, for example ``{"pos_": "item_ids", "neg_": "negative_ids"}``.
    tail : int
        Placeholder tokens behind each item.
    tail_id : int
    max_text_length : int
        What positions are aligned to, at least the tokens kept of an item.
    """

    def __init__(
        self, prefixes: Mapping[str, str], tail: int = 1, tail_id: int = 0, max_text_length: int = 256
    ) -> None:
        if not prefixes or tail < 0:
            raise ValueError(f"give at least one prefix and a tail of 0 or more; found {dict(prefixes)} and {tail}.")
        self.prefixes, self.columns = tuple(prefixes), tuple(prefixes.values())
        self.tail, self.tail_id, self.max_text_length = tail, tail_id, max_text_length

    def assemble(self, feature: Feature, items: list[RaggedTokens]) -> Feature:
        """See :class:`Template`."""
        for prefix, tokens in zip(self.prefixes, items, strict=True):
            longest = int(tokens.lengths.max(initial=0))
            if longest > self.max_text_length:
                raise ValueError(
                    f"an item has {longest} kept tokens, max_text_length is {self.max_text_length}; raise it to the "
                    "catalogue's budget, or give the collator a smaller k."
                )
            tail = [self.tail_id] * self.tail
            rows = [[*ids, *tail] for ids in tokens.to_lists()]
            first = [self.max_text_length - (len(row) - self.tail) for row in rows]
            feature[f"{prefix}input_ids"] = _long(chain.from_iterable(rows))
            feature[f"{prefix}cu_input_lens"] = _long(map(len, rows))
            feature[f"{prefix}position_ids"] = _long(
                chain.from_iterable(range(start, start + len(row)) for start, row in zip(first, rows, strict=True))
            )
        return feature

    def collate(self, features: list[Feature]) -> Feature:
        """Packed columns end to end; other columns stacked."""
        ends = ("input_ids", "cu_input_lens", "position_ids")
        packed = {prefix + end for prefix in self.prefixes for end in ends}
        return {
            name: torch.cat([f[name] for f in features]) if name in packed else _stack([f[name] for f in features])
            for name in features[0]
        }


class ItemPrompt:
    """The items of a feature inside a prompt: ``input_ids``, ``attention_mask`` and ``item_spans`` (and ``labels``).

    The prompt's own words are tokenised apart from the items, whose ids go in as they are stored.

    Parameters
    ----------
    prompt : str
        With ``{items}`` once; other ``{names}`` are filled from the feature's columns, which are then taken out.
    tokenizer : a Hugging Face tokenizer
    separator : str
        Between items.
    answer : str, optional
        A column of text that follows the prompt; ``labels`` are its tokens and the end-of-text token, -100 before them.
    prefix : ids before the prompt, such as a beginning-of-text token
    ids : str
        The column of item ids.
    """

    def __init__(
        self,
        prompt: str,
        tokenizer: Any,
        *,
        separator: str = "\n",
        answer: str | None = None,
        prefix: Sequence[int] = (),
        ids: str = "item_ids",
    ) -> None:
        if prompt.count("{items}") != 1:
            raise ValueError(f"the prompt must hold {{items}} once; found {prompt!r}.")
        self.before, self.after = prompt.split("{items}")
        self.tokenizer, self.separator, self.answer, self.prefix = tokenizer, separator, answer, list(prefix)
        self.columns = (ids,)
        self._tokens = lru_cache(1024)(self._tokenise)

    def _tokenise(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else ()

    def assemble(self, feature: Feature, items: list[RaggedTokens]) -> Feature:
        """See :class:`Template`."""
        ids, spans = [*self.prefix, *self._fill(self.before, feature)], []
        for number, item in enumerate(items[0].to_lists()):
            if number:
                ids += self._tokens(self.separator)
            spans.append((len(ids), len(ids) + len(item)))
            ids += item
        ids += self._fill(self.after, feature)
        rest = {n: v for n, v in feature.items() if f"{{{n}}}" not in self.before + self.after and n != self.answer}
        if self.answer is not None:
            if self.answer not in feature:
                raise ValueError(f"a feature lacks the answer {self.answer!r}; it has {sorted(feature)}.")
            end = [] if self.tokenizer.eos_token_id is None else [self.tokenizer.eos_token_id]
            reply = [*self._tokens(str(feature[self.answer])), *end]
            rest["labels"] = [-100] * len(ids) + reply
            ids += reply
        return {**rest, "input_ids": ids, "attention_mask": [1] * len(ids), "item_spans": spans}

    def _fill(self, text: str, feature: Feature) -> tuple[int, ...]:
        for name, value in feature.items():
            text = text.replace(f"{{{name}}}", str(value))
        return self._tokens(text)

    def collate(self, features: list[Feature]) -> Feature:
        """Token columns padded on the tokenizer's side; ``item_spans`` moved with the text; other columns stacked."""
        pads = {"input_ids": self.tokenizer.pad_token_id or 0, "attention_mask": 0, "labels": -100}
        width = max(len(f["input_ids"]) for f in features)
        left = self.tokenizer.padding_side == "left"
        batch: Feature = {}
        for name in features[0]:
            rows = [f[name] for f in features]
            if name in pads:
                fill = [[pads[name]] * (width - len(row)) for row in rows]
                both = zip(fill, rows, strict=True)
                batch[name] = torch.tensor([pad + row if left else row + pad for pad, row in both])
            elif name == "item_spans":
                moved = [(width - len(f["input_ids"])) * left for f in features]
                batch[name] = [[(a + by, b + by) for a, b in row] for by, row in zip(moved, rows, strict=True)]
            else:
                batch[name] = _stack(rows)
        return batch


class PlainItems:
    """One row an item: ``input_ids [M, L]`` and ``attention_mask [M, L]`` of all items of the batch.

    ``item_counts [B]`` says how many rows are each feature's.

    Parameters
    ----------
    ids : str
        The column of item ids: a list, or a single id.
    pad_id : int
    side : str
        Where padding goes.
    """

    def __init__(self, ids: str = "item_ids", pad_id: int = 0, side: str = "right") -> None:
        self.columns, self.pad_id, self.side = (ids,), pad_id, side

    def assemble(self, feature: Feature, items: list[RaggedTokens]) -> Feature:
        """See :class:`Template`; ``input_ids`` is a list of each item's ids."""
        return {**feature, "input_ids": items[0].to_lists()}

    def collate(self, features: list[Feature]) -> Feature:
        """See the class."""
        tokens = RaggedTokens.from_lists(chain.from_iterable(f["input_ids"] for f in features))
        ids, mask = tokens.to_padded(self.pad_id, self.side)
        batch = {name: _stack([f[name] for f in features]) for name in features[0] if name != "input_ids"}
        counts = _long(len(f["input_ids"]) for f in features)
        return {
            **batch,
            "input_ids": torch.from_numpy(ids).long(),
            "attention_mask": torch.from_numpy(mask),
            "item_counts": counts,
        }


def _ids(value: Any) -> list[Any]:
    if isinstance(value, str | int):
        return [value]
    found = value.tolist() if hasattr(value, "tolist") else list(value)
    return found if isinstance(found, list) else [found]


def _long(values: Any) -> torch.Tensor:
    return torch.tensor(list(values), dtype=torch.int64)


def _stack(values: list[Any]) -> Any:
    """A tensor of numbers or of equal tensors; anything else stays a list."""
    try:
        return torch.stack(values) if isinstance(values[0], torch.Tensor) else torch.tensor(values)
    except (TypeError, ValueError, RuntimeError):
        return values
