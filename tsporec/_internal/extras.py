"""Optional dependencies: found where they are used, and named with the command that installs them."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def require(module: str, *, extra: str) -> ModuleType:
    """Import ``module``, or say which extra brings it.

    Raises
    ------
    ImportError
        If it is not installed; the message is the ``pip install`` line to run.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        raise ImportError(
            f'{missing!r} is not installed and is needed here. Run: pip install "tsporec[{extra}]"'
        ) from error
