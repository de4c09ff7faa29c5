"""The order of the house, folder by folder: every import points down this list."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "tsporec"
ORDER = [
    "cli",
    "learning",
    "evaluation",
    "recommenders",
    "tokenizer",
    "collators",
    "catalog",
    "selector",
    "selection",
    "scorers",
    "language_model",
    "topk",
    "data",
    "tokens",
    "budget",
    "metrics",
    "_version",
    "_internal",
]
"""The order of docs/design.md, from the top of the house to the ground. A folder may import itself and what is behind.

``tokenizer`` stands above ``collators``, whose spans it finds, and ``language_model`` above ``topk``, ``data`` and
``tokens``, since it runs packed texts.
"""


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


def folder(path: Path) -> str:
    """The entry at the top of the package that ``path`` belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def test_every_entry_has_a_place():
    assert {folder(path) for path in FILES} == set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    here = folder(path)
    below = ORDER[ORDER.index(here) :]
    for name in imports(path):
        assert name.split(".")[1] in below, f"{here} imports {name}, which stands above it"


@pytest.mark.parametrize("path", sorted(ROOT.glob("*/**/__init__.py")), ids=lambda p: p.parent.name)
def test_every_folder_names_what_is_inside(path):
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert text.count(".") >= 2
    modules = {module.stem for module in path.parent.glob("*.py")} - {"__init__", "__main__"}
    missing = [name for name in modules if not re.search(rf"\b{name}\b", text)]
    assert not missing, f"the docstring of {path} does not name {missing}"


def test_importing_the_package_is_light():
    code = (
        "import sys, torch, numpy; before = set(sys.modules); import tsporec;"
        "print({m.split('.')[0] for m in set(sys.modules) - before});"
        "from tsporec import SelectorCollator, TokenSelector, select; print('transformers' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "{'tsporec'}\nFalse\n"


def test_the_public_names_are_there():
    import tsporec

    for name in tsporec.__all__:
        assert getattr(tsporec, name) is not None
    assert set(dir(tsporec)) == {*tsporec.__all__, "__version__"}
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        tsporec.nothing  # noqa: B018
