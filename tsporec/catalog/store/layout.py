"""What lies in a store's folder, as frozen dataclasses: one place for every name and field on disk.

::

    CURRENT                       {"manifest": ..., "sha256": ...}: the snapshot that readers open; replaced last
    manifest-000001.json          one snapshot: its recipe, shards, index, counts and checksums; never changed
    index-000001.safetensors      its sorted key index
    shards/000001-00000.safetensors   kept tokens, ranks, lengths, keys and text digests; shared by snapshots
    journal.jsonl                 a build under way: its recipe, then a line for every finished shard
    LOCK                          who writes
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from tsporec._internal.files import write_whole
from tsporec.budget import Budget

FORMAT_VERSION = 1
CURRENT, JOURNAL, LOCK, SHARDS = "CURRENT", "journal.jsonl", "LOCK", "shards"
T = TypeVar("T")


def manifest_name(snapshot: int) -> str:
    """``manifest-000001.json``."""
    return f"manifest-{snapshot:06d}.json"


def index_name(snapshot: int) -> str:
    """``index-000001.safetensors``."""
    return f"index-{snapshot:06d}.safetensors"


def shard_name(snapshot: int, number: int | str) -> str:
    """``shards/000001-00000.safetensors``: the snapshot that made it, and its number in that."""
    part = f"{number:05d}" if isinstance(number, int) else number
    return f"{SHARDS}/{snapshot:06d}-{part}.safetensors"


@dataclass(frozen=True)
class Recipe:
    """What decides the kept tokens of a text: equal recipes may share a store, others never.

    Parameters
    ----------
    tokenizer, selector : str
        Fingerprints.
    vocabulary : int
        Entries of the tokenizer; up to 65,536 ids are stored in two bytes each, else in four.
    budget : dict
        The fields of a :class:`~tsporec.Budget` that are not its defaults.
    fields : tuple of str
        Item fields that make the text.
    id_type : str
        ``"int"`` or ``"str"``.
    max_tokens : int, optional
        Tokens of a text that are considered.
    """

    tokenizer: str
    selector: str
    vocabulary: int
    budget: dict[str, Any]
    fields: tuple[str, ...]
    id_type: str
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", tuple(self.fields))

    def differences(self, other: Recipe) -> list[str]:
        """Names of the fields in which two recipes differ, each with both values."""
        pairs = [(f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self)]
        return [f"{name} ({mine!r} here, {theirs!r} given)" for name, mine, theirs in pairs if mine != theirs]

    def to_budget(self) -> Budget:
        """The budget again."""
        return Budget(**self.budget)


def budget_fields(budget: Budget) -> dict[str, Any]:
    """The fields of ``budget`` that are not the defaults."""
    return {f.name: value for f in fields(budget) if (value := getattr(budget, f.name)) != f.default}


@dataclass(frozen=True)
class FileEntry:
    """A file of the store: its name under the folder, bytes, and sha256."""

    name: str
    size: int
    sha256: str

    @classmethod
    def write(cls, folder: Path, name: str, data: bytes) -> FileEntry:
        """Write the file whole and note it down."""
        write_whole(folder / name, data)
        return cls(name, len(data), hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class ShardEntry:
    """A shard: its file, its rows (items, also those a later snapshot no longer uses), and token counts.

    ``tokens`` were kept of ``tokens_before``; ``empty`` rows have none.
    """

    file: FileEntry
    rows: int
    tokens: int
    tokens_before: int
    empty: int


@dataclass(frozen=True)
class Manifest:
    """One snapshot.

    Parameters
    ----------
    snapshot : int
        From 1 on.
    recipe : Recipe
    items, tokens, empty : int
        What the index points to: items, their kept tokens, and how many of them have none.
    shards : tuple of ShardEntry
        In order: row ``r`` of the snapshot is counted through them.
    index : FileEntry
    """

    snapshot: int
    recipe: Recipe
    items: int
    tokens: int
    empty: int
    shards: tuple[ShardEntry, ...]
    index: FileEntry
    format_version: int = FORMAT_VERSION
    library_version: str = field(default="")

    def write(self, folder: Path) -> None:
        """Write the manifest, then make it the current one: the moment at which a snapshot exists."""
        entry = FileEntry.write(folder, manifest_name(self.snapshot), to_json(self, indent=1))
        write_whole(folder / CURRENT, to_json({"manifest": entry.name, "sha256": entry.sha256}))

    def check_sizes(self, folder: Path) -> None:
        """Refuse a store that lacks a file, or has one of another size; contents are left to ``verify``."""
        for entry in (*(shard.file for shard in self.shards), self.index):
            try:
                size = (folder / entry.name).stat().st_size
            except FileNotFoundError:
                raise ValueError(f"{folder / entry.name} is missing. Restore it, or rebuild the catalogue.") from None
            if size != entry.size:
                raise ValueError(
                    f"{folder / entry.name} has {size} bytes, expected {entry.size}: it was cut short or "
                    "overwritten. Restore it, or rebuild the catalogue."
                )


def to_json(value: Any, indent: int | None = None) -> bytes:
    """A dataclass or plain value as one JSON document with a line end."""
    plain = asdict(value) if hasattr(value, "__dataclass_fields__") else value
    return (json.dumps(plain, indent=indent, sort_keys=True) + "\n").encode()


def _make(kind: type[T], values: dict[str, Any]) -> T:
    """A dataclass from its JSON; unknown or missing fields are a ``TypeError``."""
    return kind(**values)


def shard_entry(values: dict[str, Any]) -> ShardEntry:
    """A :class:`ShardEntry` from its JSON."""
    return _make(ShardEntry, {**values, "file": _make(FileEntry, values["file"])})


def recipe(values: dict[str, Any]) -> Recipe:
    """A :class:`Recipe` from its JSON."""
    return _make(Recipe, values)


def current_snapshot(folder: Path) -> int:
    """The snapshot that ``CURRENT`` names, 0 where there is none yet."""
    if not (folder / CURRENT).exists():
        return 0
    return read_manifest(folder).snapshot


def read_manifest(folder: Path, snapshot: int | None = None) -> Manifest:
    """The current manifest, or that of an older ``snapshot``.

    Raises
    ------
    ValueError
        If there is no store, it is damaged, or it was written in a newer format.
    """
    pointer = folder / CURRENT
    if not pointer.is_file():
        unfinished = " (an unfinished build is: run the same build again to complete it)"
        raise ValueError(
            f"there is no catalogue in {folder}{unfinished if (folder / JOURNAL).exists() else ''}: expected its "
            f"{CURRENT} file. Make one with ItemCatalog.build(…, path={str(folder)!r})."
        )
    try:
        named = json.loads(pointer.read_bytes())
        name, expected = str(named["manifest"]), str(named["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{pointer} is damaged: {error}. Restore it, or rebuild the catalogue.") from error
    latest = int(name.removeprefix("manifest-").removesuffix(".json"))
    if snapshot is not None and not 1 <= snapshot <= latest:
        raise ValueError(f"{folder} has no snapshot {snapshot}; the current one is {latest}.")
    path = folder / (name if snapshot is None else manifest_name(snapshot))
    if not path.is_file():
        raise ValueError(f"{path} is missing. Restore it, or rebuild the catalogue.")
    data = path.read_bytes()
    if path.name == name and hashlib.sha256(data).hexdigest() != expected:
        raise ValueError(f"{path} has another checksum than {CURRENT} says. Restore it, or rebuild the catalogue.")
    return _parse(path, data)


def _parse(path: Path, data: bytes) -> Manifest:
    try:
        values = json.loads(data)
        version = values["format_version"]
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise ValueError(
                f"{path} is of format version {version}; this tsporec reads up to {FORMAT_VERSION}. "
                "Upgrade tsporec, or rebuild the catalogue with this one."
            )
        parts = {
            "recipe": recipe(values["recipe"]),
            "shards": tuple(shard_entry(entry) for entry in values["shards"]),
            "index": _make(FileEntry, values["index"]),
        }
        return _make(Manifest, {**values, **parts})
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a catalogue manifest: {error}. Rebuild the catalogue.") from error
