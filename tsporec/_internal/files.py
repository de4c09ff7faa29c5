"""Write files that are either whole or absent: written beside, flushed to the disk, then renamed.

A process that is killed at any moment, or a disk that is full, leaves the older files as they were.
"""

from __future__ import annotations

import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = ".tmp"


def write_whole(path: Path, data: bytes) -> None:
    """Write ``data`` beside ``path``, flush it to the disk, and rename it to ``path``.

    If it cannot be written (OSError, such as a full disk), nothing is left behind and an older ``path`` stays.
    """
    write_together({path: data})


def write_together(files: dict[Path, bytes]) -> None:
    """Write several files like :func:`write_whole`. All are written before the first is renamed; renames are in order.

    So a full disk leaves all older files. A process killed between two renames leaves the first files new and the
    others old: let the last file vouch for the rest.
    """
    beside: dict[Path, Path] = {}
    try:
        for path, data in files.items():
            part = beside[path] = _beside(path)
            with part.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for path, part in beside.items():
            os.replace(part, path)
    except BaseException:
        for part in beside.values():
            part.unlink(missing_ok=True)
        raise
    for folder in {path.parent for path in files}:
        _flush_folder(folder)


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to. It is renamed to ``path`` after the block, or removed if that fails."""
    part = _beside(path)
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def remove_leftovers(path: Path) -> None:
    """Delete what a killed :func:`write_whole` of ``path`` has left beside it."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*{TEMPORARY}"):
        part.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    """Name a temporary file beside ``path``, whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")


def _flush_folder(folder: Path) -> None:
    """Make renames in ``folder`` survive a power cut, if the system can open a folder (Windows cannot)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
