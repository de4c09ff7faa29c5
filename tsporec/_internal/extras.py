"""Import optional dependencies where they are used; a missing one is an error with the command that installs it."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def require(module: str, *, extra: str) -> ModuleType:
    """Import ``module``; if it is not installed, raise an ImportError with the command that installs its extra."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        raise ImportError(f"{missing!r} is not installed and is needed here. Run: {install_line(extra)}.") from error


def install_line(extra: str) -> str:
    """Return the command that installs an extra, from the index and from a checkout.

    >>> install_line("cli")
    'pip install "tsporec[cli]" (in a checkout: pip install -e ".[cli]")'
    """
    return f'pip install "tsporec[{extra}]" (in a checkout: pip install -e ".[{extra}]")'
