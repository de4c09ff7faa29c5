"""What may be wrong with a catalogue's file: checks, and errors that name the file and the remedy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tsporec._internal.extras import require

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


def damaged(folder: Path, found: str) -> ValueError:
    """Return the error for a file that is not as it was written."""
    return ValueError(
        f"{folder / DATA} is damaged or no catalogue: {found}. Restore the folder from a copy, or remove it and build "
        "the catalogue again."
    )


def no_catalogue(folder: Path, unfinished: bool) -> ValueError:
    """Return the error for a folder without a finished catalogue."""
    if unfinished:
        return ValueError(
            f"the catalogue in {folder} is unfinished: its build was cut off. Run the same build again to complete it."
        )
    return ValueError(f"there is no catalogue in {folder}. Make one: ItemCatalog.build(…, path={str(folder)!r}).")


def check_pages(folder: Path, last_commit: Callable[[], int] = lambda: 0) -> None:
    """Check the structure of the whole file without LMDB, which trusts it; once more if a writer has changed it.

    Raises
    ------
    ValueError
        If a page is missing or not as LMDB writes it.
    """
    from lmdb import verify

    while True:
        before = last_commit()
        try:
            problems = verify.verify(str(folder))  # type: ignore[no-untyped-call]
        except verify.VerifyError as error:
            problems = [str(error)]
        if not problems:
            return
        if last_commit() == before:
            raise damaged(folder, "; ".join(problems[:3]))
