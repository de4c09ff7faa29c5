"""The command line: ``tsporec demo | train | evaluate | show | compress | card | push``.

``app`` holds the commands, ``catalog`` those on a compressed catalogue, ``hub`` those that share a selector, and
``demo`` the demonstration. ``options`` holds what several of them use.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ModuleNotFoundError:
        sys.exit('the command line needs typer and rich. Run: pip install "tsporec[cli]"')
    from tsporec.cli.app import run

    run()
