"""Import optional dependencies where they are used; a missing one is an error with the command that installs it."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def require(module: str, *, extra: str) -> ModuleType:
    """Import ``module``; if it is not installed, raise an ImportError with the ``pip install`` line of its extra."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        raise ImportError(
            f'{missing!r} is not installed and is needed here. Run: pip install "tsporec[{extra}]"'
        ) from error
