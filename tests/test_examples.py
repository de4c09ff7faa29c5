"""What the README, the docs and the examples show runs."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "docs" / "index.md", ROOT / "docs" / "data.md"]


def snippets() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)):
            found.append((f"{page.name}-{number}", code))
    return found


@pytest.mark.parametrize(("name", "code"), snippets(), ids=[name for name, _ in snippets()])
def test_snippets_run(name, code, capsys):
    exec(compile(code, name, "exec"), {})
    printed = capsys.readouterr().out.strip()
    page = next(p for p in PAGES if p.name == name.rsplit("-", 1)[0]).read_text()
    if printed:
        assert printed in page, "the page says something else than the code prints"


def test_compile_and_export_as_the_page_shows():
    section = (ROOT / "docs" / "hub.md").read_text().split("## Compile and export")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    # The page promises one graph for every length. Inductor is run in tests/selector/test_model.py.
    quick = code.replace("fullgraph=True, dynamic=True", 'fullgraph=True, dynamic=True, backend="eager"')
    assert quick != code
    exec(compile(quick, "hub.md", "exec"), {})


def test_prompt_recommender():
    read = runpy.run_path(str(ROOT / "examples" / "prompt_recommender.py"))["main"](users=16)
    assert read["8 tokens an item"] < read["whole texts"] / 2


def test_three_stages_of_a_generative_recommender(monkeypatch):
    pytest.importorskip("accelerate", reason="a Trainer needs accelerate")
    pytest.importorskip("datasets", reason="preferences are kept as a dataset")
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    smaller = {"steps": 220, "rated": 48, "kinds_of_items": 4, "cuts": (3, 8), "candidates": 8, "rounds": 2}
    found = runpy.run_path(str(ROOT / "examples" / "generative_stages.py"))["main"](**smaller)
    assert found["learned"] >= 0.7
    assert max(found["head"], found["tfidf"], found["untrained"]) < 0.3


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("hllm_packed", {}),
        ("minionerec_sft", {}),
        ("tallrec_binary", {}),
        ("chat_template", {}),
        ("trl_dpo", {}),
        ("trl_sft", {}),
        ("trl_sft", {"padding_free": True}),
        ("trl_sft", {"packing": True}),
    ],
)
def test_adapters(name, options, monkeypatch):
    if name.startswith("trl"):
        pytest.importorskip("trl", reason="TRL is not installed")
    if name == "minionerec_sft":
        pytest.importorskip("accelerate", reason="a Trainer needs accelerate")
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    found = runpy.run_path(str(ROOT / "examples" / f"{name}.py"))["main"](**options)
    sizes = list(found.values())
    if name == "tallrec_binary":
        assert sizes == [0.0, 1.0]
    else:
        assert sizes[1] < 0.7 * sizes[0]
    assert found.get("candidates kept", True)
