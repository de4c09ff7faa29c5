"""Find the known item that a text belongs to, in whatever form the text stands in a prompt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tsporec.tokens.letter_hashes import Hashes, Ints, Letters
from tsporec.tokens.ragged import ranges

COMMON = 16  # a hash that more items share says nothing


@dataclass(frozen=True, eq=False)
class ItemIndex:
    """Hashes of runs of letters, and the items whose texts hold them.

    Parameters
    ----------
    hashes : uint64 ``[S]``
        Ascending.
    items : int32 ``[S]``
        The item that holds each.
    wholes : uint64 ``[I]``
        A hash of all letters of each item.
    lengths : int32 ``[I]``
        Letters and digits of each item.
    """

    hashes: Hashes
    items: NDArray[np.int32]
    wholes: Hashes
    lengths: NDArray[np.int32]

    @classmethod
    def build(cls, texts: Letters) -> ItemIndex:
        """Index the texts of I items, one segment an item."""
        hashes, items = texts.sampled_runs()
        order = np.lexsort((items, hashes))
        hashes, items = hashes[order], items[order]
        again = (hashes[1:] == hashes[:-1]) & (items[1:] == items[:-1])
        new = np.flatnonzero(np.append(True, ~again)[: len(hashes)])
        hashes, items = hashes[new], items[new]
        _, where, counts = np.unique(hashes, return_inverse=True, return_counts=True)
        rare = counts[where] <= COMMON
        return cls(hashes[rare], items[rare].astype(np.int32), texts.hash_segments(), texts.lengths.astype(np.int32))

    def find(self, texts: Letters) -> Ints:
        """Find the item of each of N segments: int64 ``[N]``, -1 where no item shares a hash.

        The item that shares most hashes is found. Among equals it is the one with the same letters in all, then the one
        of the most similar length, then the first.
        """
        hashes, segment = texts.sampled_runs()
        order = np.argsort(hashes)  # looked up in order, neighbours are in the cache
        hashes, segment = hashes[order], segment[order]
        low, high = (np.searchsorted(self.hashes, hashes, side) for side in ("left", "right"))
        shared, count = high - low, max(len(self.lengths), 1)
        pairs, votes = np.unique(
            np.repeat(segment, shared) * count + self.items[ranges(low, shared)], return_counts=True
        )
        segment, item = pairs // count, pairs % count
        unlike = np.abs(self.lengths[item] - texts.lengths[segment])
        other = self.wholes[item] != texts.hash_segments()[segment]
        order = np.lexsort((item, unlike, other, -votes, segment))
        first = np.unique(segment[order], return_index=True)[1]
        found = np.full(len(texts.lengths), -1, dtype=np.int64)
        found[segment[order][first]] = item[order][first]
        return found
