"""Files that are either whole or absent: written beside, flushed, then renamed; and read by mapping.

What is kept goes through :func:`write_whole`, so that a process killed at any moment, or a disk that fills up,
leaves the earlier state as it was.
"""

from __future__ import annotations

import glob
import hashlib
import json
import mmap
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TEMPORARY = ".tmp"
_DTYPES = {"U8": "<u1", "U16": "<u2", "U32": "<u4", "U64": "<u8", "I32": "<i4", "I64": "<i8"}


def write_whole(path: Path, data: bytes) -> None:
    """Write ``data`` beside ``path``, flush it to the disk, and rename it to ``path``.

    Raises
    ------
    OSError
        If it cannot be written (a full disk); nothing is left behind and an older ``path`` stays.
    """
    write_together({path: data})


def write_together(files: dict[Path, bytes]) -> None:
    """As :func:`write_whole`, but all are written before the first is renamed, in order.

    So a disk that fills up leaves all older files. A process killed between two renames leaves the first ones new and
    the others old: the last is to vouch for the rest.
    """
    beside: dict[Path, Path] = {}
    try:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            beside[path] = part
            try:
                write_all(handle, data)
                os.fsync(handle)
            finally:
                os.close(handle)
        for path, part in beside.items():
            os.replace(part, path)
    except BaseException:
        for part in beside.values():
            part.unlink(missing_ok=True)
        raise
    for folder in {path.parent for path in files}:
        flush_folder(folder)


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to. It is renamed to ``path`` after the block, or removed if that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_all(handle: int, data: bytes) -> None:
    """Write every byte: one call may write fewer than it is given."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def flush_folder(folder: Path) -> None:
    """Make renames in ``folder`` last through a power cut, where the system can open a folder (not on Windows)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(path: Path) -> None:
    """Delete what a killed :func:`write_whole` of ``path`` has left beside it."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*{TEMPORARY}"):
        part.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            state.update(piece)
    return state.hexdigest()


def map_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file as read-only views of its mapping: nothing is read until it is touched.

    Raises
    ------
    ValueError
        If the file is not safetensors, is cut short, or holds a dtype other than an integer.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < 8:
            raise ValueError(f"{path}: {size} bytes are too few for a safetensors file; it was cut short.")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start = 8 + int.from_bytes(mapped[:8], "little")
    try:
        if start > size:
            raise ValueError(f"its header ends at byte {start} of {size}")
        header = json.loads(mapped[8:start])
        header.pop("__metadata__", None)
        arrays, end = {}, start
        for name, entry in header.items():
            low, high = (start + int(offset) for offset in entry["data_offsets"])
            dtype = np.dtype(_DTYPES[entry["dtype"]])
            count = int(np.prod(entry["shape"], dtype=np.int64))
            if not start <= low <= high <= size or high - low != count * dtype.itemsize:
                raise ValueError(f"tensor {name!r} takes bytes {low} to {high} of {size}")
            arrays[name] = np.frombuffer(mapped, dtype, count, low)
            end = max(end, high)
        if end != size:
            raise ValueError(f"its tensors end at byte {end} of {size}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged or not a safetensors file: {error}. Restore or rebuild it.") from error
    return arrays
