"""Write files that are either whole or absent: written beside, flushed to the disk, then renamed.

A process that is killed at any moment, or a disk that is full, leaves the older files as they were.
"""

from __future__ import annotations

import glob
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TEMPORARY = ".tmp"
_STALE = 86_400.0  # seconds after which a temporary file cannot be one that another process still writes


def write_whole(path: Path, data: bytes) -> None:
    """Write ``data`` beside ``path``, flush it to the disk, and rename it to ``path``.

    If it cannot be written (OSError, such as a full disk), nothing is left behind and an older ``path`` stays.
    """
    write_together({path: data})


def write_together(files: dict[Path, bytes]) -> None:
    """Write several files like :func:`write_whole`. All are written before the first is renamed; renames are in order.

    So a full disk leaves all older files. A process killed between two renames leaves the first files new and the
    others old, with their new content beside them (:func:`leftovers`): let one file have the checksums of the rest.
    """
    parts: dict[Path, Path] = {}
    try:
        for path, data in files.items():
            part = parts[path] = beside(path)
            with part.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for path, part in parts.items():
            os.replace(part, path)
    except BaseException:
        for part in parts.values():
            part.unlink(missing_ok=True)
        raise
    for path in files:
        remove_leftovers(path, _STALE)
    for folder in {path.parent for path in files}:
        _flush_folder(folder)


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to. It is renamed to ``path`` after the block, or removed if that fails."""
    part = beside(path)
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    remove_leftovers(path, _STALE)


def refuse_link(path: Path) -> Path:
    """Refuse a link where this library writes in place: a folder of strangers could point it at any file."""
    if path.is_symlink():
        raise ValueError(f"{path} is a link, and what it points to would be overwritten; delete the link.")
    return path


def leftovers(path: Path) -> list[Path]:
    """List the temporary files of ``path``: a process that writes it at this moment, or was killed, has made them."""
    return sorted(filter(Path.is_file, path.parent.glob(f".{glob.escape(path.name)}.*{TEMPORARY}")))


def remove_leftovers(path: Path, older: float = 0.0) -> None:
    """Delete the temporary files of ``path`` that are more than ``older`` seconds old; by default all of them."""
    for part in leftovers(path):
        with suppress(FileNotFoundError):
            if not older or time.time() - part.stat().st_mtime > older:
                part.unlink()


def make_folder(path: Path) -> None:
    """Make a folder that is missing. A file in its place is a ``ValueError``."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file; give a folder to write to.")
    path.mkdir(parents=True, exist_ok=True)


def beside(path: Path) -> Path:
    """Name a temporary file beside ``path``. Its folder is made. A folder at ``path`` is a ``ValueError``."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give a file to write.")
    make_folder(path.parent)
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
