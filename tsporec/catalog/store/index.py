"""The sorted key index: from an item id to its row, mapped, at some five and a half bytes an item.

Rows stand in the order of their keys' 64-bit hashes. The first bits of a hash name a bucket of at most eight rows on
average, whose bounds a directory holds; the next eight bits are kept as a tag that rules out all but one in 256 of the
bucket's other rows. What is left is compared with the ids themselves, in the shards: a hash is never trusted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.files import map_tensors
from tsporec.catalog.store.keys import Keys
from tsporec.tokens.ragged import ranges

PER_BUCKET = 8
PART = 1 << 22  # rows sorted at once: bounds the memory of making an index
_BLOCK = 1 << 16  # keys hashed at once
Ints = NDArray[np.int64]
KeysOf = Callable[[Ints], Keys]


class DuplicateIdError(ValueError):
    """Two rows of a catalogue have the same id."""


def make_index(total: int, live: NDArray[np.bool_] | None, keys_of: KeysOf) -> bytes:
    """The index as a safetensors file.

    Parameters
    ----------
    total : int
        Rows of the snapshot.
    live : bool ``[total]``, optional
        Those in use; all by default.
    keys_of : rows int64 ``[M]`` -> Keys

    Raises
    ------
    DuplicateIdError
        If an id stands in two rows; the id is named.
    """
    from safetensors.numpy import save

    count = total if live is None else int(live.sum())
    bits = bucket_bits(count)
    rows = np.empty(count, dtype=np.uint32 if count < 2**31 else np.uint64)
    tags = np.empty(count, dtype=np.uint8)
    counts = np.zeros(1 << bits, dtype=np.int64)
    parts, done = max(1, -(-count // PART)), 0
    for part in range(parts):
        part_rows, hashes = _part(total, live, keys_of, part, parts)
        order = np.argsort(hashes, kind="stable")
        part_rows, hashes = part_rows[order], hashes[order]
        _refuse_duplicates(part_rows, hashes, keys_of)
        end = done + len(order)
        rows[done:end], tags[done:end] = part_rows, _tags(hashes, bits)
        counts += np.bincount(_buckets(hashes, bits), minlength=len(counts))
        done = end
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(rows.dtype)
    return save({"rows": rows, "tags": tags, "starts": starts})


def live_runs(total: int, live: NDArray[np.bool_] | None) -> Iterator[Ints]:
    """The rows in use, ascending, some tens of thousands at a time."""
    for start in range(0, total, _BLOCK):
        end = min(start + _BLOCK, total)
        yield np.arange(start, end) if live is None else start + np.flatnonzero(live[start:end])


def _part(
    total: int, live: NDArray[np.bool_] | None, keys_of: KeysOf, part: int, parts: int
) -> tuple[Ints, NDArray[np.uint64]]:
    """The rows whose hashes fall into one of ``parts`` equal ranges, and those hashes."""
    found: list[tuple[Ints, NDArray[np.uint64]]] = [(np.zeros(0, np.int64), np.zeros(0, np.uint64))]
    for rows in live_runs(total, live):
        hashes = keys_of(rows).hashes()
        # The top 32 bits scaled to [0, parts): ranges of hashes, in order.
        mine = (hashes >> np.uint64(32)) * np.uint64(parts) >> np.uint64(32) == part
        found.append((rows[mine], hashes[mine]))
    return np.concatenate([rows for rows, _ in found]), np.concatenate([hashes for _, hashes in found])


def _refuse_duplicates(rows: Ints, hashes: NDArray[np.uint64], keys_of: KeysOf) -> None:
    twin = np.flatnonzero(hashes[1:] == hashes[:-1])
    if not len(twin):
        return
    first, second = keys_of(rows[twin]), keys_of(rows[twin + 1])
    repeated = first.take(np.flatnonzero(first.equal(second))).to_ids()
    if not repeated:  # ids of one hash: a repeat may stand further off in their run
        seen = Counter(keys_of(rows[np.union1d(twin, twin + 1)]).to_ids())
        repeated = [name for name, times in seen.items() if times > 1]
    if repeated:
        raise DuplicateIdError(
            f"{len(repeated)} item ids stand in the catalogue more than once, among them "
            f"{', '.join(map(repr, repeated[:3]))}; ids must be unique. Drop the repeats and build again."
        )


def bucket_bits(count: int) -> int:
    """Bits of a hash that name its bucket, so that a bucket has at most ``PER_BUCKET`` rows on average."""
    return max(0, -(-count // PER_BUCKET) - 1).bit_length()


def _buckets(hashes: NDArray[np.uint64], bits: int) -> Ints:
    # In two steps: a shift by 64 is undefined.
    return (hashes >> np.uint64(1) >> np.uint64(63 - bits)).astype(np.int64)


def _tags(hashes: NDArray[np.uint64], bits: int) -> NDArray[np.uint8]:
    return (hashes >> np.uint64(56 - bits)).astype(np.uint8)


class Index:
    """A written index, mapped.

    Raises
    ------
    ValueError
        If the file does not hold the index of ``count`` items.
    """

    def __init__(self, path: Path, count: int) -> None:
        tensors: dict[str, NDArray[Any]] = map_tensors(path)
        self.bits = bucket_bits(count)
        sizes = {name: len(array) for name, array in tensors.items()}
        expected = {"rows": count, "tags": count, "starts": (1 << self.bits) + 1}
        if sizes != expected:
            raise ValueError(f"{path} holds {sizes}; expected {expected}. Restore it, or rebuild the catalogue.")
        self.rows, self._tags, self._starts = tensors["rows"], tensors["tags"], tensors["starts"]

    def candidates(self, keys: Keys) -> tuple[Ints, Ints]:
        """(needles int64 ``[C]``, rows int64 ``[C]``): pairs worth comparing; a key has none, one or a few."""
        hashes = keys.hashes()
        bucket = _buckets(hashes, self.bits)
        start = self._starts[bucket].astype(np.int64)
        sizes = self._starts[bucket + 1].astype(np.int64) - start
        needle = np.repeat(np.arange(len(keys)), sizes)
        place = ranges(start, sizes)
        alike = self._tags[place] == _tags(hashes, self.bits)[needle]
        return needle[alike], self.rows[place[alike]].astype(np.int64)
