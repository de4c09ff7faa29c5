"""What is shipped: its licence, its type marker, and requirements that stay as few as was promised."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

import tsporec

ROOT = Path(__file__).parent.parent
tomllib = pytest.importorskip("tomllib", reason="tomllib came with Python 3.11")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def name(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def test_the_core_needs_six_packages_and_no_pins():
    assert {name(entry) for entry in PROJECT["dependencies"]} == {
        "torch", "transformers", "safetensors", "huggingface-hub", "tokenizers", "numpy",
    }  # fmt: skip
    assert not any("==" in entry or "<" in entry for entry in PROJECT["dependencies"])


def test_every_requirement_has_a_lower_bound_that_the_matrix_installs():
    entries = {
        *PROJECT["dependencies"],
        *(entry for extra in PROJECT["optional-dependencies"].values() for entry in extra),
    }
    assert [e for e in entries if not re.fullmatch(r"[\w-]+(\[\w+\])?>=[\d.]+", e) and name(e) != "tsporec"] == []


def test_every_extra_a_message_names_exists():
    named: set[tuple[str, str]] = set()
    for path in (ROOT / "tsporec").rglob("*.py"):
        text = path.read_text()
        named |= set(re.findall(r"""(?:extra=|install_line\()["'](\w+)["']|tsporec\[(\w+)\]""", text))
    extras = {extra for pair in named for extra in pair if extra}
    assert extras <= set(PROJECT["optional-dependencies"])


def test_the_constraints_pin_every_requirement_by_version():
    pinned = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            package, version = line.split("==")
            pinned[name(package)] = version
    assert pinned["torch"] == "2.13.0"
    extras = PROJECT["optional-dependencies"]
    wanted = [
        *PROJECT["dependencies"],
        *extras["cli"],
        *extras["train"],
        *extras["viz"],
        *extras["docs"],
        *extras["dev"],
    ]
    assert {name(entry) for entry in wanted} - {"tsporec"} <= set(pinned)


@pytest.mark.parametrize(
    "path", ["README.md", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "SECURITY.md", ".ci/run", ".ci/matrix"]
)
def test_the_project_has_its_papers(path):
    assert (ROOT / path).read_text().strip()


def test_the_licence_is_apache():
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert (ROOT / "tsporec" / "py.typed").exists()


def test_the_readme_holds_the_two_commands():
    text = (ROOT / "README.md").read_text()
    assert 'pip install -c constraints.txt ".[cli]" && tsporec demo' in text
    assert 'pip install -c constraints.txt -e ".[dev]" && pytest' in text
    assert "RESULTS" not in text


def test_the_badges_are_true():
    folder = ROOT / "docs" / "figures" / "badges"
    badges = {path.stem: re.search(r"<title>\w+: (.*)</title>", path.read_text())[1] for path in folder.iterdir()}
    assert badges["python"].replace("&gt;", ">") == PROJECT["requires-python"]
    assert badges["licence"] == PROJECT["license"]
    assert badges["typed"] == "mypy strict"
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["strict"]
    assert "Typing :: Typed" in PROJECT["classifiers"]


def test_the_citation_is_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {tsporec.__version__}\n" in citation
    assert f"license: {PROJECT['license']}\n" in citation


def test_the_version_is_a_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+", tsporec.__version__)
    try:
        found = distribution("tsporec").version
    except PackageNotFoundError:
        pytest.skip("tsporec is not installed")
    assert found == tsporec.__version__
