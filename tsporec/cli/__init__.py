"""The command line: ``tsporec demo | train | evaluate | split | show | compress | card | push | doctor``.

``app`` lists the commands. Each has a file of its name, but ``hub`` holds ``card`` and ``push``, and ``data`` holds
``split`` and reads a user's files. ``options`` holds what several commands use.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ModuleNotFoundError:
        from tsporec._internal.extras import install_line

        sys.exit(f"the command line needs typer and rich. Run: {install_line('cli')}")
    from tsporec.cli.app import run

    run()
