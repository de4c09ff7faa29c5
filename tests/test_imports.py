"""The floors of the house: imports point down, or sideways without a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "tsporec"
FLOORS = [
    {
        "extras",
        "files",
        "fingerprint",
        "progress",
        "ragged",
        "text",
        "items",
        "splits",
        "readers",
        "metrics",
        "pieces",
        "results",
        "spelling",
        "steps",
    },
    {"language_model", "scorers", "budget", "spans", "positions", "topk"},
    {
        "selection",
        "words",
        "lexicon",
        "features",
        "network",
        "texts",
        "card",
        "hub",
        "selector_config",
        "selector",
        "memory",
    },
    {
        "collator",
        "mixed",
        "in_model",
        "columns",
        "packed",
        "tokenizer",
        "catalog",
        "catalog_collator",
        "ray_build",
        "store",
    },
    {"recommenders"},
    {"preference"},
    {"pipeline", "evaluation", "show", "synthetic"},
    {"demo", "cli_options", "cli_hub", "cli"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def imports(path: Path) -> set[str]:
    """The modules of this package that a file imports, at its top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == "tsporec":
                found |= {f"tsporec.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("tsporec.")}


FILES = [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert room in FLOOR, f"{room} has no floor; give it one in FLOORS"
    for name in imports(path):
        other = name.split(".")[1]
        if other not in ("__version__", room):
            assert FLOOR[other] <= FLOOR[room], f"{room} (floor {FLOOR[room]}) imports {other} (floor {FLOOR[other]})"


def test_there_is_no_circle():
    rooms: dict[str, set[str]] = {}
    for path in FILES:
        room = path.relative_to(ROOT).parts[0].removesuffix(".py")
        rooms.setdefault(room, set()).update(n.split(".")[1] for n in imports(path) if n.split(".")[1] in FLOOR)
        rooms[room].discard(room)
    list(TopologicalSorter(rooms).static_order())


def test_importing_the_package_is_light():
    code = (
        "import sys, torch, numpy; before = set(sys.modules); import tsporec;"
        "print(' '.join(sorted({m.split('.')[0] for m in set(sys.modules) - before})))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert out == ["tsporec"]
    code = (
        "import sys; from tsporec import SelectorCollator, TokenSelector, select; print('transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_the_public_names_are_there():
    import tsporec

    for name in tsporec.__all__:
        assert getattr(tsporec, name) is not None
    assert set(dir(tsporec)) == {*tsporec.__all__, "__version__"}
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        tsporec.nothing  # noqa: B018
