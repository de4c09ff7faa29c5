"""Check a catalogue's file, with errors that name the file and the remedy."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tsporec._internal.extras import require
from tsporec._internal.files import beside, refuse_link, remove_leftovers

if TYPE_CHECKING:
    import lmdb as lmdb
else:
    lmdb = require("lmdb", extra="catalog")

DATA = "data.mdb"


@contextmanager
def errors_named(folder: Path) -> Iterator[None]:
    """Turn LMDB's errors into ones that name file and remedy. A map that is too small is left to the caller."""
    try:
        yield
    except (lmdb.MapFullError, lmdb.MapResizedError):
        raise
    except lmdb.ReadersFullError as error:
        raise ValueError(f"{folder} is open too often; let go of catalogues that are not in use.") from error
    except lmdb.Error as error:
        if error.code > 0:
            raise OSError(error.code, os.strerror(error.code), str(folder / DATA)) from error
        if error.code == 0:  # a fault of this process, not of the file
            raise ValueError(f"{folder} cannot be opened: {error} Let go of what is open there.") from error
        raise damaged(folder, str(error)) from error


@contextmanager
def making(folder: Path, readers: int | None) -> Iterator[None]:
    """Let LMDB make or open its files so that a full disk is an OSError that leaves nothing by half.

    LMDB leaves holes in its lock file. To write to them, mapped and on a full disk, would end the process. So a new
    one is made whole, a cache line for each of ``readers`` (None: no lock). Half of the data's first pages is deleted.
    """
    new, lock = not (folder / DATA).exists(), refuse_link(folder / "lock.mdb")
    if readers is not None and not lock.exists():
        part = beside(lock)
        try:
            part.write_bytes(bytes(64 * (readers + 3)))
            os.link(part, lock)  # unlike a rename, it never replaces the lock that another process has made
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OSError(error.errno, os.strerror(error.errno), str(lock)) from error
        finally:
            remove_leftovers(lock)
    try:
        yield
    except lmdb.Error:
        if new:
            (folder / DATA).unlink(missing_ok=True)
        raise


def damaged(folder: Path, found: str) -> ValueError:
    """Return the error for a file that is not as it was written."""
    return ValueError(
        f"{folder / DATA} is damaged or no catalogue: {found}. Restore the folder from a copy, or remove it and build "
        "the catalogue again."
    )


@contextmanager
def damage_named(folder: Path) -> Iterator[None]:
    """Turn a ``ValueError`` about what a catalogue holds into :func:`damaged`."""
    try:
        yield
    except ValueError as error:
        raise damaged(folder, str(error)) from error


def no_catalogue(folder: Path, unfinished: bool) -> ValueError:
    """Return the error for a folder without a finished catalogue."""
    if unfinished:
        return ValueError(
            f"the catalogue in {folder} is unfinished: its build was cut off. Run the same build again to complete it."
        )
    return ValueError(
        f"there is no catalogue in {folder}. Make one: ItemCatalog.build(…, path={str(folder)!r}), or tsporec compress "
        f"--output {folder}."
    )


def check_pages(folder: Path) -> None:
    """Check the structure of the whole file without LMDB, which trusts it. A damaged page is a ``ValueError``."""
    from lmdb import verify

    while True:
        before = _descriptions(folder / DATA)
        try:
            problems = verify.verify(str(folder))  # type: ignore[no-untyped-call]
        except verify.VerifyError as error:
            problems = [str(error)]
        if not problems:
            return
        if _descriptions(folder / DATA) == before:  # else a writer has committed meanwhile
            raise damaged(folder, "; ".join(problems[:3]))


def check_flags(folder: Path) -> None:
    """Refuse kinds of keys that no catalogue has. LMDB ends the process over some that it did not write itself."""
    for page in _descriptions(folder / DATA):
        free, items = (int.from_bytes(page[at : at + 2], sys.byteorder) for at in (44, 92))
        if page and (free, items) != (8, 0):  # free pages have integer keys
            raise damaged(folder, f"its tables have flags {free} and {items}, expected 8 and 0")


def _descriptions(data: Path) -> tuple[bytes, bytes]:
    """Return the start of the two pages that describe the file; a commit changes one of them."""
    with data.open("rb") as file:
        first = file.read(256)
        file.seek(int.from_bytes(first[40:44], sys.byteorder))  # the size of a page
        return first, file.read(256)
