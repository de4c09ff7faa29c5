"""Work in steps, each in a folder that is whole or not there: what was done is not done again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tsporec._internal.files import write_whole


def step(folder: Path, make: Callable[[Path], Any], key: str | None = None) -> None:
    """Make ``folder`` by ``make(part)``, unless it is there; made from another ``key``, it is refused."""
    if not folder.exists():
        part = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        make(part)
        if key is not None:
            claim(part, key)
        os.replace(part, folder)
    if key is not None:
        claim(folder, key)


def measured(path: Path, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``measure`` gives, kept as JSON at ``path``."""
    if not path.exists():
        found = measure()
        write_whole(path, (json.dumps(found) + "\n").encode())
    known: dict[str, Any] = json.loads(path.read_text())
    return known


def claim(output: Path, key: str) -> None:
    """Say in ``output`` what it is made from; one that was made from another ``key`` is a ValueError."""
    found = measured(output / "run.json", lambda: {"made_from": key})
    if found["made_from"] != key:
        raise ValueError(f"{output} holds a run with other arguments; give another folder, or delete it to start anew.")
