"""One file of items: kept tokens with their ranks, packed as small as they go, read through a mapping.

Lengths take the fewest bytes that hold them, with the running total at every 16th row, instead of an offset a row:
one byte and a quarter an item where an offset takes four.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.files import map_tensors
from tsporec.catalog.store import keys as key_arrays
from tsporec.catalog.store.keys import Keys
from tsporec.catalog.store.layout import FileEntry, ShardEntry

GROUP = 16  # rows between running totals
_BEFORE = np.tri(GROUP, k=-1, dtype=bool)  # the rows of a group before each
Ints = NDArray[np.int64]
_SMALL = (np.uint8, np.uint16, np.uint32)


@dataclass(frozen=True, eq=False)
class Kept:
    """The kept tokens of N items: what selection makes of them and a shard holds.

    Parameters
    ----------
    keys : Keys
        N ids.
    lengths : int64 ``[N]``
        Kept tokens of each.
    ids : uint16 or uint32 ``[K]``
        Kept token ids in text order, packed.
    ranks : integers ``[K]``
        Place of each token among its item's, best first, from 0; ties go to the earlier token.
    digests : uint64 ``[N]``
        Of the item's whole text.
    tokens_before : int
        Tokens of all N texts.
    """

    keys: Keys
    lengths: Ints
    ids: NDArray[Any]
    ranks: NDArray[Any]
    digests: NDArray[np.uint64]
    tokens_before: int

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        arrays = (self.keys.words, self.keys.lengths, self.lengths, self.ids, self.ranks, self.digests)
        return sum(array.nbytes for array in arrays)

    def write(self, folder: Path, name: str) -> ShardEntry:
        """Write a shard whole and return what the manifest says of it."""
        from safetensors.numpy import save

        lengths, totals = _pack(self.lengths)
        tensors = {
            "ids": self.ids,
            "ranks": self.ranks.astype(smallest(int(self.lengths.max(initial=1)) - 1)),
            "lengths": lengths,
            "totals": totals,
            "digests": self.digests,
        }
        if self.keys.id_type == "int":
            tensors["keys"] = np.ascontiguousarray(self.keys.words[:, 0]).view(np.int64)
        else:
            tensors["keys"] = self.keys.packed()
            tensors["key_lengths"], tensors["key_totals"] = _pack(self.keys.lengths)
        return ShardEntry(
            FileEntry.write(folder, name, save(tensors)),
            rows=len(self),
            tokens=len(self.ids),
            tokens_before=self.tokens_before,
            empty=int((self.lengths == 0).sum()),
        )


def concatenate(parts: Sequence[Kept]) -> Kept:
    """The items of all ``parts`` in order."""
    return Kept(
        key_arrays.concatenate([part.keys for part in parts]),
        np.concatenate([part.lengths for part in parts]),
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.ranks for part in parts]),
        np.concatenate([part.digests for part in parts]),
        sum(part.tokens_before for part in parts),
    )


class Shard:
    """A written shard, mapped.

    Raises
    ------
    ValueError
        If the file does not hold what its manifest entry says.
    """

    def __init__(self, folder: Path, entry: ShardEntry, id_type: str) -> None:
        path = folder / entry.file.name
        tensors = map_tensors(path)
        try:
            self.ids, self.ranks, self.digests = tensors["ids"], tensors["ranks"], tensors["digests"]
            self._lengths = PackedLengths(tensors["lengths"], tensors["totals"], entry.rows)
            self._keys = tensors["keys"]
            self._key_lengths = (
                PackedLengths(tensors["key_lengths"], tensors["key_totals"], entry.rows) if id_type == "str" else None
            )
        except KeyError as error:
            raise ValueError(f"{path} lacks the tensor {error}; rebuild the catalogue.") from None
        found = len(self.digests), len(self.ids), len(self.ranks)
        if found != (entry.rows, entry.tokens, entry.tokens):
            raise ValueError(
                f"{path} holds {found[0]} items and {found[1]} tokens; the manifest says {entry.rows} and "
                f"{entry.tokens}. Restore it, or rebuild the catalogue."
            )
        self.rows = entry.rows

    def spans(self, rows: Ints) -> tuple[Ints, Ints]:
        """(starts int64 ``[M]`` into ``ids``, lengths int64 ``[M]``) of ``rows``."""
        return self._lengths.spans(rows)

    def keys(self, rows: Ints) -> Keys:
        """The ids of ``rows``."""
        if self._key_lengths is None:
            return Keys(self._keys[rows].view(np.uint64)[:, None], np.full(len(rows), 8, np.int64), "int")
        return key_arrays.from_packed(self._keys, *self._key_lengths.spans(rows))


class PackedLengths:
    """Lengths of ``count`` runs that stand one after the other, and where each begins."""

    def __init__(self, lengths: NDArray[Any], totals: NDArray[Any], count: int) -> None:
        self._lengths, self._groups, self._totals = lengths, lengths.reshape(-1, GROUP), totals
        # Keys are often of one length, and most texts fill their budget: then nothing need be looked up.
        first = int(lengths[0]) if count else 0
        self._same = first if (lengths[:count] == first).all() else -1

    def spans(self, rows: Ints) -> tuple[Ints, Ints]:
        """(starts int64 ``[M]``, lengths int64 ``[M]``) of ``rows``."""
        if self._same >= 0:
            return rows * self._same, np.full(len(rows), self._same, dtype=np.int64)
        group = rows // GROUP
        near = self._groups.take(group, axis=0)
        before: Ints = np.add.reduce(near, axis=1, dtype=np.int64, where=_BEFORE[rows % GROUP])
        return before + self._totals[group], self._lengths[rows].astype(np.int64)


def _pack(lengths: Ints) -> tuple[NDArray[Any], NDArray[Any]]:
    """(lengths filled up to whole groups, the total before each group), in the smallest dtypes."""
    filled = np.zeros(-(-len(lengths) // GROUP) * GROUP, dtype=np.int64)
    filled[: len(lengths)] = lengths
    sums = filled.reshape(-1, GROUP).sum(axis=1)
    totals = np.cumsum(sums) - sums
    return filled.astype(smallest(int(filled.max(initial=0)))), totals.astype(smallest(int(totals.max(initial=0))))


def smallest(largest: int) -> type[np.unsignedinteger[Any]]:
    """The smallest unsigned dtype that holds ``largest``."""
    return next(dtype for dtype in _SMALL if largest <= np.iinfo(dtype).max)
