"""What a build has finished, so that the next one goes on from there.

A line is appended, and flushed to the disk, after its shard is whole. A line cut short by a kill is no line.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from tsporec._internal.files import sha256, write_all, write_whole
from tsporec.catalog.store import layout
from tsporec.catalog.store.layout import JOURNAL, Recipe, ShardEntry, to_json


@dataclass(frozen=True)
class Plan:
    """The build that a journal belongs to."""

    snapshot: int
    recipe: Recipe


class Journal:
    """The journal of a store's folder; only the holder of its lock touches it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.path = folder, folder / JOURNAL

    def begin(self, plan: Plan) -> None:
        """Start afresh."""
        write_whole(self.path, to_json(plan))

    def add(self, entry: ShardEntry) -> None:
        """Note a finished shard."""
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            write_all(handle, to_json(entry))
            os.fsync(handle)
        finally:
            os.close(handle)

    def read(self) -> tuple[Plan, list[ShardEntry]] | None:
        """The plan and its finished shards (those that are still there, whole), or None without a journal."""
        if not self.path.exists():
            return None
        *lines, rest = self.path.read_bytes().split(b"\n")
        if rest:  # cut short: so that the next line does not run on from it
            write_whole(self.path, b"".join(line + b"\n" for line in lines))
        if not lines:
            return None
        values = json.loads(lines[0])
        plan = Plan(values["snapshot"], layout.recipe(values["recipe"]))
        entries = []
        for line in lines[1:]:
            entry = layout.shard_entry(json.loads(line))
            path = self._folder / entry.file.name
            if not path.exists() or sha256(path) != entry.file.sha256:
                break
            entries.append(entry)
        if len(entries) < len(lines) - 1:
            write_whole(self.path, b"".join([lines[0] + b"\n", *map(to_json, entries)]))
        return plan, entries

    def remove(self) -> None:
        """End: its shards are in a manifest now, or given up."""
        self.path.unlink(missing_ok=True)
