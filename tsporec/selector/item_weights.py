"""Learned weights for the words of known items, added to the scores of a selector.

A reward often says something about one item that its spelling cannot say: it is about that item and the users who
touched it. Recommenders serve the items that they were trained on, so this is worth keeping.

An item is found by its id where the tokens have one, else by the letters of its text, in whatever form the text stands
in a prompt. A token is found by the letters of its word up to its end. So the weights are found behind a list number,
in quotes and in a text that is cut at its end. In capitals, or by another tokenizer, they are found where words are
split alike. Elsewhere only the ends of words are found. An item of which less than half of the words is found is not
the one: its text has changed since, or the text only shares a phrase with it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tsporec.scorers.base import Scores
from tsporec.selector.item_index import ItemIndex
from tsporec.tokens.letter_hashes import Hashes, Ints, Letters, mixed
from tsporec.tokens.pieces import Pieces
from tsporec.tokens.ragged import RaggedTokens

_GAIN = 20.0  # scores per unit of weight: an optimiser's step that suits shared weights is too small for these
_ITEM = np.uint64(0x94D049BB133111EB)
_LEAST = 0.5  # share of a segment's words that must be an item's: a text that only shares a phrase is not that item
_MANY = 100  # segments after which a warning says that none was known

_log = logging.getLogger("tsporec")


class ItemWeights(nn.Module):
    """One learned weight for each word piece of I known items; see :meth:`tsporec.TokenSelector.with_item_weights`.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        ``hashes`` int64 ``[S]``, ``items`` int32 ``[S]``, ``wholes`` int64 ``[I]`` and ``lengths`` int32 ``[I]``: the
        :class:`ItemIndex`, with hashes as bit patterns. ``ids`` int64 ``[J]``: bit patterns of digests of item ids,
        ascending as unsigned numbers, and ``id_items`` int32 ``[J]``: the item of each. ``keys`` int64 ``[W]``: bit
        patterns of the keys of (item, word piece), ascending as unsigned numbers.
        ``weight`` float32 ``[W]``: the weights, in units of 20 score points.

    Attributes
    ----------
    seen, known : int
        Segments that were looked up, and those of them that belong to a known item.

    Raises
    ------
    ValueError
        If a tensor is missing, has another shape or dtype, is out of order or out of bounds, or is not finite.
    """

    lengths: Tensor

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        _check(tensors)
        for name in [name for name in _KINDS if name != "weight"]:
            self.register_buffer(name, tensors[name])
        self.weight = nn.Parameter(tensors["weight"])
        self.seen = self.known = 0
        self._arrays: tuple[ItemIndex, dict[str, NDArray[Any]]] | None = None

    @classmethod
    def zeros(cls, corpus: RaggedTokens, pieces: Pieces) -> ItemWeights:
        """Make zero weights for the texts of ``corpus``, one item a segment. Equal texts are one item with all ids."""
        # Equal texts go first: many of them would share every hash, and a hash that many items share is dropped.
        wholes = Letters(corpus, pieces).hash_segments()
        first = np.unique(wholes, return_index=True)[1]
        texts = Letters(corpus.take(np.sort(first)), pieces)
        item = ItemIndex.build(texts).find(texts)
        texts = Letters(texts.tokens.take(np.unique(item[item >= 0])), pieces)  # those that can be found
        index = ItemIndex.build(texts)
        item = index.find(texts)
        keys = np.unique(_keys(texts, item)[np.repeat(item >= 0, texts.tokens.lengths)])
        # The id of each segment, and the item with its text: an id that comes twice stands for its first text.
        order = np.argsort(index.wholes)
        place, found = _look_up(index.wholes[order], wholes)
        ids = np.zeros(len(corpus), dtype=np.uint64) if corpus.items is None else corpus.items
        named = np.flatnonzero(found & (ids != 0))
        ids, first = np.unique(ids[named], return_index=True)
        id_items = order[place[named[first]]].astype(np.int32)
        arrays = {
            "hashes": index.hashes.view(np.int64), "items": index.items, "wholes": index.wholes.view(np.int64),
            "lengths": index.lengths, "ids": ids.view(np.int64), "id_items": id_items,
            "keys": keys.view(np.int64), "weight": np.zeros(len(keys), dtype=np.float32),
        }  # fmt: skip
        return cls({name: torch.from_numpy(array) for name, array in arrays.items()})

    def __len__(self) -> int:
        """Return the number of known items."""
        return len(self.lengths)

    def find(self, tokens: RaggedTokens, pieces: Pieces) -> tuple[Ints, Ints]:
        """Find the tokens of known items among N segments of T tokens.

        Parameters
        ----------
        tokens : RaggedTokens
        pieces : Pieces
            Pieces of the tokenizer that made the ids.

        Returns
        -------
        positions : int64 ``[F]``
            Positions into ``[T]``, ascending.
        places : int64 ``[F]``
            The weight of each, as positions into ``weight``.
        """
        (index, arrays), texts = self._read(), Letters(tokens, pieces)
        item = np.full(len(tokens), -1)
        if tokens.items is not None:
            place, found = _look_up(arrays["ids"].view(np.uint64), tokens.items)
            item = np.where(found, np.append(arrays["id_items"], 0)[place], -1)
        # Where no id is known, or the text under it has changed since: by the words.
        others = np.arange(len(tokens)) if (item < 0).all() else np.flatnonzero(~self._match(texts, item)[2])
        if len(others):
            some = texts if len(others) == len(tokens) else Letters(tokens.take(others), pieces)
            item[others] = index.find(some)
        place, found, known = self._match(texts, item)
        self._count(len(tokens), int(known.sum()))
        positions = np.flatnonzero(found & known[tokens.segment_ids()])
        return positions, place[positions]

    def _match(self, texts: Letters, item: Ints) -> tuple[Ints, NDArray[np.bool_], NDArray[np.bool_]]:
        """Look up each token of N segments in the segment's item, -1 for none.

        Returns the place of its weight and whether it has one, two ``[T]``, and whether the item is the right one,
        ``[N]``.
        """
        place, found = _look_up(self._read()[1]["keys"].view(np.uint64), _keys(texts, item))
        segment, count = texts.tokens.segment_ids(), len(item)
        ends = np.append(texts.begins_word, True)[1:]  # the last tokens of words: capitals split a word elsewhere
        words = np.bincount(segment, ends, minlength=count)
        share = np.bincount(segment, found & ends, minlength=count) / np.maximum(words, 1)
        return place, found, (item >= 0) & (share >= _LEAST)

    def forward(self, logits: Tensor, tokens: RaggedTokens, pieces: Pieces) -> Tensor:
        """Add the weights of known items to ``logits [T]``, differentiable in the weights."""
        positions, places = (torch.from_numpy(part).to(logits.device) for part in self.find(tokens, pieces))
        return logits.index_add(0, positions, _GAIN * self.weight.index_select(0, places))

    @torch.no_grad()
    def add_to(self, scores: Scores, tokens: RaggedTokens, pieces: Pieces) -> None:
        """Add the weights of known items to ``scores`` float32 ``[T]``, in place."""
        positions, places = self.find(tokens, pieces)
        scores[positions] += np.float32(_GAIN) * self.weight.cpu().numpy()[places]

    @torch.no_grad()
    def set_differences(self, tokens: RaggedTokens, differences: Scores, pieces: Pieces) -> None:
        """Set the weights of known items so that they add ``differences`` float32 ``[T]`` to their scores.

        A word piece that stands in a text twice has one weight: the one that its first place asks for.
        """
        positions, places = self.find(tokens, pieces)
        places, first = np.unique(places, return_index=True)
        wanted = torch.from_numpy((differences[positions[first]] / _GAIN).astype(np.float32))
        self.weight[torch.from_numpy(places).to(self.weight.device)] = wanted.to(self.weight.device)

    def _read(self) -> tuple[ItemIndex, dict[str, NDArray[Any]]]:
        if self._arrays is None:
            part = {name: tensor.cpu().numpy() for name, tensor in self.named_buffers()}
            hashes, wholes = part["hashes"].view(np.uint64), part["wholes"].view(np.uint64)
            self._arrays = ItemIndex(hashes, part["items"], wholes, part["lengths"]), part
        return self._arrays

    def _count(self, seen: int, known: int) -> None:
        before, self.seen, self.known = self.seen, self.seen + seen, self.known + known
        if self.known == 0 and before < _MANY <= self.seen:
            _log.warning(
                "none of the first %d texts is an item that this selector has learned from, so it scores them by its "
                "shared weights alone. Are the spans those of the items' texts?",
                self.seen,
            )


def _keys(texts: Letters, item: Ints) -> Hashes:
    """Compute a key of (item, word piece) for each token: uint64 ``[T]``. -1 is an item like any other."""
    numbers = (item + 1).astype(np.uint64) * _ITEM
    return mixed(texts.of_tokens ^ np.repeat(numbers, texts.tokens.lengths))


def _look_up(keys: Hashes, wanted: Hashes) -> tuple[Ints, NDArray[np.bool_]]:
    """Find each of ``wanted [M]`` in the ascending ``keys [K]``: its place, and whether it is there, two ``[M]``."""
    place = np.zeros(len(wanted), dtype=np.int64)
    if not len(keys):
        return place, np.zeros(len(wanted), dtype=bool)
    order = np.argsort(wanted)  # neighbours are then close in memory
    place[order] = np.minimum(np.searchsorted(keys, wanted[order]), len(keys) - 1)
    return place, keys[place] == wanted


_KINDS = {
    "hashes": torch.int64, "items": torch.int32, "wholes": torch.int64, "lengths": torch.int32,
    "ids": torch.int64, "id_items": torch.int32, "keys": torch.int64, "weight": torch.float32,
}  # fmt: skip


def _check(tensors: Mapping[str, Tensor]) -> None:
    found = {name: (tensors[name].dtype, tensors[name].dim()) for name in _KINDS if name in tensors}
    if found != {name: (dtype, 1) for name, dtype in _KINDS.items()} or set(tensors) != set(_KINDS):
        raise ValueError(f"expected tensors of one dimension {_KINDS}; found {found} among {sorted(tensors)}.")
    hashes, keys, ids = (tensors[name].cpu().numpy().view(np.uint64) for name in ("hashes", "keys", "ids"))
    items, named, lengths, weight = (tensors[name].cpu().numpy() for name in ("items", "id_items", "lengths", "weight"))
    wrong = [
        ("items and hashes differ in length", len(items) != len(hashes)),
        ("wholes and lengths differ in length", len(tensors["wholes"]) != len(lengths)),
        ("ids and id_items differ in length", len(ids) != len(named)),
        ("keys and weight differ in length", len(keys) != len(weight)),
        ("hashes do not ascend", bool((hashes[1:] < hashes[:-1]).any())),
        ("ids do not ascend", bool((ids[1:] <= ids[:-1]).any())),
        ("keys do not ascend", bool((keys[1:] <= keys[:-1]).any())),
        *(
            (f"{name} are out of bounds", len(part) > 0 and not 0 <= part.min() <= part.max() < len(lengths))
            for name, part in (("items", items), ("id_items", named))
        ),
        ("lengths are negative", bool((lengths < 0).any())),
        ("weights are not finite", not bool(np.isfinite(weight).all())),
    ]
    faults = [name for name, fault in wrong if fault]
    if faults:
        raise ValueError(f"the item weights are damaged: {'; '.join(faults)}. Fetch or save them again.")
