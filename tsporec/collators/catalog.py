r"""Batches from item ids: nothing is tokenised or selected, the catalogue has the kept tokens.

A template decides how the items of a feature become model input: :class:`PackedItems` packs them as HLLM does,
:class:`ItemPrompt` puts them into a prompt, :class:`PlainItems` gives one row for each. One call looks up all items of
a batch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any, Protocol

import numpy as np
import torch

from tsporec._internal.types import expect
from tsporec.catalog.catalog import ItemCatalog
from tsporec.collators.columns import as_list
from tsporec.tokens.pieces import ids_in_prompt
from tsporec.tokens.ragged import RaggedTokens, ranges

Feature = dict[str, Any]


class Template(Protocol):
    """How the items of a feature become model input."""

    columns: tuple[str, ...]
    """The feature's columns of item ids, in order. They are taken out of the feature."""

    def assemble(self, feature: Feature, items: list[RaggedTokens]) -> Feature:
        """Return ``feature``, which lacks its id columns, with the tokens of each column's items."""

    def collate(self, features: list[Feature]) -> Feature:
        """Return a batch of tensors of assembled features. Used where there is no base collator."""


class CatalogCollator:
    """A data collator over item ids.

    The template is a :class:`PackedItems`, :class:`ItemPrompt` or :class:`PlainItems`. ``base_collator`` collates the
    assembled features; by default the template does. ``k`` and ``missing`` are those of
    :meth:`~tsporec.ItemCatalog.lookup`.

    >>> import tempfile
    >>> from tsporec import TokenSelector
    >>> from tsporec.data.synthetic import word_tokenizer
    >>> tokenizer, items = word_tokenizer("blue gel pen".split()), [{"id": "B01", "title": "blue gel pen"}]
    >>> path = tempfile.mkdtemp() + "/catalog"
    >>> catalog = ItemCatalog.build(items, tokenizer=tokenizer, selector=TokenSelector(), budget=2, path=path)
    >>> CatalogCollator(catalog, PlainItems())([{"item_ids": ["B01", "B01"]}])["input_ids"].shape
    torch.Size([2, 2])
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
        expect("catalog", catalog, ItemCatalog, "an ItemCatalog; ItemCatalog.open(path) opens one")
        if not hasattr(template, "assemble"):
            raise TypeError(f"template must be a PlainItems, PackedItems or ItemPrompt; found {template!r:.60}.")
        self.catalog, self.template, self.base_collator = catalog, template, base_collator
        self.k, self.missing = k, missing

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> Any:
        """Return the batch of ``features``. Without ids it is a ``ValueError``, with an unknown one a ``KeyError``."""
        columns = self.template.columns
        for number, feature in enumerate(features):
            if lacking := [name for name in columns if name not in feature]:
                raise ValueError(
                    f"feature {number} lacks {lacking[0]!r}; it has {sorted(feature)}. Name the columns of item ids in "
                    "the template; under Trainer set remove_unused_columns=False."
                )
        histories = [as_list(feature[name]) for feature in features for name in columns]
        tokens = self.catalog.lookup(list(chain.from_iterable(histories)), self.k, missing=self.missing)
        ends = np.cumsum([0, *map(len, histories)])
        runs = iter([tokens.take(np.arange(a, b)) for a, b in pairwise(ends)])
        assembled = []
        for feature in features:
            rest = {name: value for name, value in feature.items() if name not in columns}
            assembled.append(self.template.assemble(rest, [next(runs) for _ in columns]))
        return (self.base_collator or self.template.collate)(assembled)


class PackedItems:
    """Pack the items of a feature end to end with placeholder tokens behind each, as HLLM's collator takes them.

    The batch has ``{prefix}input_ids [T]``, ``{prefix}cu_input_lens [N]`` and ``{prefix}position_ids [T]``, all int64.
    ``cu_input_lens`` are *lengths*, placeholders included, in spite of the name. Positions are right-aligned: the last
    text token of an item is at ``max_text_length - 1``.

    ``prefixes`` maps a prefix to its column of item ids: ``{"pos_": "item_ids", "neg_": "negative_ids"}``. Behind each
    item stand ``tail`` placeholders, tokens ``tail_id``. ``max_text_length`` is at least the tokens kept of an item.

    >>> template = PackedItems({"pos_": "item_ids"}, max_text_length=4)
    >>> packed = template.assemble({}, [RaggedTokens.from_lists([[7, 8], [9]])])
    >>> packed["pos_input_ids"].tolist(), packed["pos_position_ids"].tolist()
    ([7, 8, 0, 9, 0], [2, 3, 4, 3, 4])
    """

    def __init__(self, prefixes: Mapping[str, str], tail: int = 1, tail_id: int = 0, max_text_length: int = 256):
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
            rows = [[*ids, *[self.tail_id] * self.tail] for ids in tokens.to_lists()]
            first = self.max_text_length - tokens.lengths
            feature[f"{prefix}input_ids"] = _long(chain.from_iterable(rows))
            feature[f"{prefix}cu_input_lens"] = _long(map(len, rows))
            feature[f"{prefix}position_ids"] = torch.from_numpy(ranges(first, tokens.lengths + self.tail))
        return feature

    def collate(self, features: list[Feature]) -> Feature:
        """Concatenate packed columns and stack the others."""
        packed = {prefix + end for prefix in self.prefixes for end in ("input_ids", "cu_input_lens", "position_ids")}
        columns = {name: [f[name] for f in features] for name in features[0]}
        return {name: torch.cat(rows) if name in packed else _stack(rows) for name, rows in columns.items()}


class ItemPrompt:
    r"""Put the items of a feature into a prompt: ``input_ids``, ``attention_mask``, ``item_spans`` (and ``labels``).

    The column ``item_ids`` holds the items. The prompt's text is tokenised apart from the items, as it stands behind
    other text.

    Parameters
    ----------
    prompt : str
        Holds ``{items}`` once. Any other ``{name}`` stands for the feature's column of that name, which is taken out of
        the feature. Values are put in as they are: a ``{name}`` inside a value stands for itself.
    tokenizer : a Hugging Face tokenizer
    separator : str
        Text between items. Default a line end.
    answer : str, optional
        A column of text that follows the prompt. ``labels`` are its tokens and the end-of-text token, and -100 before.
    prefix : list of int
        Token ids before the prompt, such as a beginning-of-text token. Default none.

    Examples
    --------
    >>> from tsporec.data.synthetic import word_tokenizer
    >>> template = ItemPrompt("blue{items} {what}", word_tokenizer("blue gel pen".split()))
    >>> made = template.assemble({"what": "gel pen"}, [RaggedTokens.from_lists([[7, 8, 9]])])
    >>> made["item_spans"], len(made["input_ids"])
    ([(1, 4)], 6)
    """

    columns = ("item_ids",)

    def __init__(
        self,
        prompt: str,
        tokenizer: Any,
        *,
        separator: str = "\n",
        answer: str | None = None,
        prefix: Sequence[int] = (),
    ) -> None:
        if prompt.count("{items}") != 1:
            raise ValueError(f"the prompt must hold {{items}} once; found {prompt!r}.")
        self.before, self.after = prompt.split("{items}")
        self.tokenizer, self.answer, self.prefix = tokenizer, answer, list(prefix)
        self.between = self._tokens(separator)

    def _tokens(self, text: str) -> list[int]:
        return ids_in_prompt(self.tokenizer, text) if text else []

    def assemble(self, feature: Feature, items: list[RaggedTokens]) -> Feature:
        """See :class:`Template`."""
        first = self.tokenizer(_fill(self.before, feature), add_special_tokens=False)["input_ids"]
        ids, spans = [*self.prefix, *first], []
        for number, item in enumerate(items[0].to_lists()):
            ids += self.between if number else []
            spans.append((len(ids), len(ids) + len(item)))
            ids += item
        ids += self._tokens(_fill(self.after, feature))
        rest = {n: v for n, v in feature.items() if f"{{{n}}}" not in self.before + self.after and n != self.answer}
        if self.answer is not None:
            if self.answer not in feature:
                raise ValueError(f"a feature lacks the answer {self.answer!r}; it has {sorted(feature)}.")
            end = [] if self.tokenizer.eos_token_id is None else [self.tokenizer.eos_token_id]
            reply = [*self._tokens(str(feature[self.answer])), *end]
            rest["labels"] = [-100] * len(ids) + reply
            ids += reply
        return {**rest, "input_ids": ids, "attention_mask": [1] * len(ids), "item_spans": spans}

    def collate(self, features: list[Feature]) -> Feature:
        """Pad token columns on the tokenizer's side, move ``item_spans`` with the text, stack other columns."""
        pads = {"input_ids": self.tokenizer.pad_token_id or 0, "attention_mask": 0, "labels": -100}
        lengths, left = [len(f["input_ids"]) for f in features], self.tokenizer.padding_side == "left"
        room = [max(lengths) - length for length in lengths]
        batch: Feature = {name: [f[name] for f in features] for name in features[0]}
        for name, rows in batch.items():
            if name in pads:
                both = [([pads[name]] * by, row) for by, row in zip(room, rows, strict=True)]
                batch[name] = torch.tensor([pad + row if left else row + pad for pad, row in both])
            elif name == "item_spans":
                batch[name] = [
                    [(a + by * left, b + by * left) for a, b in row] for by, row in zip(room, rows, strict=True)
                ]
            else:
                batch[name] = _stack(rows)
        return batch


class PlainItems:
    """Give one row for each item: ``input_ids [M, L]`` and ``attention_mask [M, L]`` of all items of the batch.

    ``item_counts [B]`` is the number of rows of each feature.

    The column ``item_ids`` holds a list of item ids, or a single one. Padding is on the right.

    >>> template = PlainItems()
    >>> made = template.assemble({}, [RaggedTokens.from_lists([[7, 8], [9]])])
    >>> template.collate([made])["input_ids"].tolist()
    [[7, 8], [9, 0]]
    """

    columns = ("item_ids",)

    def __init__(self, pad_id: int = 0) -> None:
        self.pad_id = pad_id

    def assemble(self, feature: Feature, items: list[RaggedTokens]) -> Feature:
        """See :class:`Template`; ``input_ids`` is a list of each item's ids."""
        return {**feature, "input_ids": items[0].to_lists()}

    def collate(self, features: list[Feature]) -> Feature:
        """Pad the items of all features and stack other columns."""
        tokens = RaggedTokens.from_lists(chain.from_iterable(f["input_ids"] for f in features))
        ids, mask = tokens.to_padded(self.pad_id)
        batch = {name: _stack([f[name] for f in features]) for name in features[0] if name != "input_ids"}
        batch |= {"input_ids": torch.from_numpy(ids).long(), "attention_mask": torch.from_numpy(mask)}
        return {**batch, "item_counts": _long(len(f["input_ids"]) for f in features)}


def _fill(text: str, values: Mapping[str, Any]) -> str:
    """Replace each ``{name}`` that ``values`` has, in one pass.

    >>> _fill("{user} of {city}: {this}", {"user": "Ann {city}", "city": "Oslo"})
    'Ann {city} of Oslo: {this}'
    """
    return re.sub(r"\{([^{}]*)\}", lambda found: str(values.get(found[1], found[0])), text)


def _long(values: Any) -> torch.Tensor:
    return torch.tensor(list(values), dtype=torch.int64)


def _stack(values: list[Any]) -> Any:
    """Return a tensor of numbers or of equal tensors; anything else stays a list."""
    try:
        return torch.stack(values) if isinstance(values[0], torch.Tensor) else torch.tensor(values)
    except (TypeError, ValueError, RuntimeError):
        return values
