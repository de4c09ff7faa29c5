"""The examples run. Blocks of the README and the docs: ``tests/docs``."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest

from tsporec.recommenders.embedding import EmbeddingConfig

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


@pytest.fixture
def run(monkeypatch):
    """Run an example by its name: the options go to its ``main``."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return lambda name, **options: runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](**options)


def test_every_example_is_run_here():
    called = re.findall(r'"(\w+)"', Path(__file__).read_text().split("def test_three_stages")[-1])
    assert {path.stem for path in EXAMPLES.glob("*.py")} - {*called} == {"tiny"}


def test_three_stages_of_a_generative_recommender(run):
    pytest.importorskip("accelerate", reason="a Trainer needs accelerate")
    pytest.importorskip("datasets", reason="preferences are kept as a dataset")
    smaller = {"steps": 220, "rows": 16, "rated": 48, "kinds_of_items": 4, "cuts": (3, 8), "candidates": 8, "rounds": 2}
    found = run("generative_stages", **smaller)
    assert found["learned"] >= 0.4  # 0.7 and more with torch 2.13; torch 2.6 trains to other weights
    assert max(found["head"], found["tfidf"], found["untrained"]) < 0.3


@pytest.mark.parametrize("name", ["hllm_packed", "minionerec_sft", "chat_template", "short_prompts"])
def test_short_items_are_fewer_tokens(run, name):
    if name == "minionerec_sft":
        pytest.importorskip("accelerate", reason="a Trainer needs accelerate")
    whole, short = list(run(name).values())[:2]
    assert short < 0.7 * whole


def test_trainer(run):
    pytest.importorskip("accelerate", reason="a Trainer needs accelerate")
    whole, short = (found["tokens in a batch"] for found in run("trainer", users=32).values())
    assert short < whole / 2


def test_tallrec_keeps_every_answer(run):
    pytest.importorskip("peft", reason="peft is not installed")
    assert list(run("tallrec_binary").values()) == [0.0, 1.0]


@pytest.mark.parametrize("packing", [False, True])
def test_trl_sft_loses_no_row_and_fills_its_packs(run, packing):
    pytest.importorskip("trl", "1.16", reason="an older TRL truncates in its collator")
    whole, short = run("trl_sft", users=72, packing=packing).values()
    assert short["rows"] == short["rows with their answer"] == 72
    assert whole["rows with their answer"] < 0.8 * 72
    if packing:
        assert short["full"] > 0.9
        assert short["sequences"] < 0.6 * whole["sequences"]


def test_trl_dpo_loses_no_row(run):
    pytest.importorskip("trl", "1.16", reason="an older TRL truncates in its collator")
    whole, short = run("trl_dpo", users=24).values()
    assert short["rows"] == 24 > whole["rows"]
    assert short["longest prompt"] < 160


def test_own_data(run):
    pytest.importorskip("accelerate", reason="a Trainer needs accelerate")
    verdict = run("own_data", seeds=1, recommender=EmbeddingConfig(eval_every=5, patience=1))  # fits stop at once
    assert verdict.scorer == "selector"
    assert verdict.tokens < 0.3


def test_own_scorer(run):
    found = run("own_scorer")
    assert found["names first"] > max(found["head"], found["tfidf"])


def test_own_reward(run):
    pytest.importorskip("accelerate", reason="a Trainer needs accelerate")
    found = run("own_reward")
    assert found["after"] > found["before"] + 0.1


def test_the_service_answers_over_loopback(run, capsys):
    pytest.importorskip("fastapi", reason="FastAPI is not installed")
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    found = run("serve", requests=80)
    assert found["requests"] == 80
    printed = capsys.readouterr().out
    assert "404" in printed
    assert "'nothing'" in printed


def test_the_notebook_prints_what_it_shows(monkeypatch, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    path = EXAMPLES / "tour.ipynb"
    assert path.stat().st_size < 200_000
    monkeypatch.syspath_prepend(str(EXAMPLES))
    namespace = {}
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"tour.ipynb {cell['id']}", "exec"), namespace)
            shown = [text for output in cell["outputs"] for text in output.get("text", [])]
            assert capsys.readouterr().out == "".join(shown)
    assert namespace["picture"].source.count("<svg") == 1
