"""The API page has every public name: each module stands there or is named here as internal."""

from __future__ import annotations

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

import tsporec

ROOT = Path(__file__).parent.parent.parent
LISTED = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api.md").read_text(), flags=re.MULTILINE)
INTERNAL = {
    "tsporec._version",
    # Parts of what is public; some give one name to the page.
    *(
        f"tsporec.catalog.{name}"
        for name in ("changes", "compress", "integrity", "records", "sources", "store", "writer")
    ),
    "tsporec.collators.columns",
    *(
        f"tsporec.data.readers.{name}"
        for name in ("amazon", "common", "hllm", "mind", "minionerec", "plain", "recbole")
    ),
    "tsporec.data.stored_lists",
    *(f"tsporec.learning.{name}" for name in ("batches", "resume")),
    "tsporec.recommenders.training",
    *(f"tsporec.selector.{name}" for name in ("item_index", "network", "resolve", "text_rows", "vocabulary")),
    *(f"tsporec.tokens.{name}" for name in ("spelling", "words")),
    *(f"tsporec.topk.{name}" for name in ("checks", "cuda", "kernels", "ops")),
}


def modules() -> set[str]:
    """Return the modules with content, without the command line and what is private by its name."""
    found = set()
    for path in (ROOT / "tsporec").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        defines = len(ast.parse(path.read_text()).body) > 1  # more than a docstring
        if defines and not name.startswith(("tsporec.cli", "tsporec._internal")) and name != "tsporec":
            found.add(name)
    return found


def test_every_module_is_on_the_page_or_internal():
    assert modules() - INTERNAL == set(LISTED) & modules()
    assert modules() >= INTERNAL, "names of modules that are gone"


@pytest.mark.parametrize("name", LISTED)
def test_what_is_listed_exists_and_is_explained(name):
    try:
        found = import_module(name)
    except ModuleNotFoundError:
        module, attribute = name.rsplit(".", 1)
        assert hasattr(import_module(module), attribute)
        return
    for public, value in vars(found).items():
        own = inspect.isfunction(value) or inspect.isclass(value)
        if own and value.__module__ == name and not public.startswith("_"):
            assert inspect.getdoc(value), f"{name}.{public} has no docstring, so the page leaves it out"


def test_the_names_of_the_package_have_their_homes_on_the_page():
    homes = {tsporec._HOMES[name] for name in tsporec.__all__}
    assert homes <= set(LISTED)
    introduction = (ROOT / "docs" / "api.md").read_text().split("\n## ")[0]
    assert set(re.findall(r"`(\w+)`", introduction)) == set(tsporec.__all__)
