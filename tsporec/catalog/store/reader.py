"""One snapshot, mapped: from ids to rows to kept tokens. Opening it reads the manifest and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.files import sha256
from tsporec.catalog.store import keys as key_arrays
from tsporec.catalog.store.index import Index
from tsporec.catalog.store.keys import Keys, windows
from tsporec.catalog.store.layout import Manifest, ShardEntry
from tsporec.catalog.store.shard import Shard
from tsporec.tokens.ragged import RaggedTokens, lengths_to_offsets

Ints = NDArray[np.int64]
_CELLS = 1 << 24  # of the table that a look-up fills at once


class Rows:
    """The rows of a run of shards, each opened when it is first needed.

    Row ``r`` is counted through the shards in order.
    """

    def __init__(self, folder: Path, shards: tuple[ShardEntry, ...], id_type: str) -> None:
        self.folder, self.entries, self.id_type = folder, shards, id_type
        self.bases = np.cumsum([0, *(entry.rows for entry in shards)])
        self._open: dict[int, Shard] = {}

    def __len__(self) -> int:
        return int(self.bases[-1])

    def shard(self, number: int) -> Shard:
        """Shard ``number``, mapped now if it was not before."""
        if number not in self._open:
            self._open[number] = Shard(self.folder, self.entries[number], self.id_type)
        return self._open[number]

    def _by_shard(self, rows: Ints) -> Iterator[tuple[Shard, Ints, slice]]:
        """(shard, its rows counted from its first, their places) for each shard that the ascending ``rows`` touch."""
        cuts = np.searchsorted(rows, self.bases)
        for number in np.flatnonzero(np.diff(cuts)).tolist():
            places = slice(cuts[number], cuts[number + 1])
            yield self.shard(number), rows[places] - self.bases[number], places

    def keys(self, rows: Ints) -> Keys:
        """The ids of ``rows [M]``, in their order."""
        order = np.argsort(rows, kind="stable")
        parts = [shard.keys(local) for shard, local, _ in self._by_shard(rows[order])]
        if not parts:
            return Keys.from_ids([], self.id_type)
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return key_arrays.concatenate(parts).take(back)

    def digests(self, rows: Ints) -> NDArray[np.uint64]:
        """uint64 ``[M]``: the text digests of ``rows``."""
        order = np.argsort(rows, kind="stable")
        found = np.empty(len(rows), dtype=np.uint64)
        for shard, local, places in self._by_shard(rows[order]):
            found[order[places]] = shard.digests[local]
        return found

    def lengths(self, rows: Ints) -> Ints:
        """int64 ``[M]``: kept tokens of each of ``rows``."""
        order = np.argsort(rows, kind="stable")
        found = np.empty(len(rows), dtype=np.int64)
        for shard, local, places in self._by_shard(rows[order]):
            found[order[places]] = shard.spans(local)[1]
        return found

    def tokens(self, rows: Ints, k: int | None = None) -> RaggedTokens:
        """The kept tokens of ``rows [M]``, or the best ``k`` of each, in text order."""
        ids, _, cu = self._gather(rows, k)
        return RaggedTokens(ids, cu)

    def ranks(self, rows: Ints) -> NDArray[np.int32]:
        """int32 ``[K]``: the rank of every token of :meth:`tokens`."""
        return self._gather(rows, 2**31)[1]

    def _gather(self, rows: Ints, k: int | None) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
        """(ids, ranks, offsets); without ``k`` no ranks. Whole windows are copied, of the longest row's width."""
        order = np.argsort(rows, kind="stable")
        runs = [(*run, *run[0].spans(run[1])) for run in self._by_shard(rows[order])]
        width = max((int(lengths.max()) for *_, lengths in runs), default=0)
        if width * len(rows) > _CELLS and len(rows) > 1:
            halves = [self._gather(half, k) for half in np.array_split(rows, 2)]
            ids, ranks = (np.concatenate([half[part] for half in halves]) for part in (0, 1))
            return ids, ranks, lengths_to_offsets(np.concatenate([np.diff(half[2]) for half in halves]))
        table = np.zeros((2 if k is not None else 1, len(rows), width), dtype=np.int32)
        sizes, shift = np.empty((2, len(rows)), dtype=np.int64)
        for shard, _, places, starts, lengths in runs:
            mine, wide = order[places], int(lengths.max())
            first = np.minimum(starts, len(shard.ids) - wide)  # a window ends with the shard at the latest
            sizes[mine], shift[mine] = lengths, starts - first
            for cells, column in zip(table, (shard.ids, shard.ranks), strict=False):
                if wide:
                    cells[mine, :wide] = windows(column, wide)[first].view(column.dtype).reshape(-1, wide)
        if k is None and (sizes == width).all():
            return table[0].ravel(), np.zeros(0, np.int32), np.arange(len(rows) + 1, dtype=np.int32) * np.int32(width)
        column_of = np.arange(width) - shift[:, None]
        kept = (column_of >= 0) & (column_of < sizes[:, None])
        if k is not None:
            kept &= table[1] < k
        ids, ranks = table[0][kept], table[1][kept] if k is not None else np.zeros(0, np.int32)
        return ids, ranks, lengths_to_offsets(kept.sum(axis=1))


class Snapshot:
    """What a manifest describes, opened.

    Raises
    ------
    ValueError
        If a file is missing or has another size than the manifest says; it is named.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        manifest.check_sizes(folder)
        self.folder, self.manifest = folder, manifest
        self.rows = Rows(folder, manifest.shards, manifest.recipe.id_type)
        self.index = Index(folder / manifest.index.name, manifest.items)

    def locate(self, keys: Keys) -> Ints:
        """int64 ``[M]``: the row of each key, -1 where there is none."""
        needles, rows = self.index.candidates(keys)
        found = np.full(len(keys), -1, dtype=np.int64)
        order = np.argsort(rows, kind="stable")
        needles, rows = needles[order], rows[order]
        for shard, local, places in self.rows._by_shard(rows):
            asked = needles[places]
            same = shard.keys(local).equal(keys.take(asked))
            found[asked[same]] = rows[places][same]
        return found

    def live_rows(self) -> Ints:
        """int64 ``[items]``: the rows in use, ascending."""
        return np.sort(self.index.rows).astype(np.int64)

    def verify(self) -> None:
        """Read every file and compare its checksum.

        Raises
        ------
        ValueError
            Naming every file that differs.
        """
        files = (*(entry.file for entry in self.manifest.shards), self.manifest.index)
        bad = [entry.name for entry in files if sha256(self.folder / entry.name) != entry.sha256]
        if bad:
            raise ValueError(
                f"{self.folder}: the checksum of {', '.join(bad)} differs from the manifest's: damaged on disk. "
                "Restore from a copy, or rebuild the catalogue."
            )
