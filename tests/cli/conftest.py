"""A small catalogue in files, and how tests run the command line on it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from tests.conftest import TEXTS, make_causal_lm, make_fits_quick
from tsporec.cli.app import app

runner = CliRunner()


@pytest.fixture(scope="session")
def files(tmp_path_factory, tokenizer):
    """A small catalogue in plain files and a tiny model in a folder."""
    folder = tmp_path_factory.mktemp("cli")
    items = [{"id": str(i), "title": TEXTS[i % 6], "description": TEXTS[(i + 1) % 6]} for i in range(12)]
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    rows = [f"u{u},{(u + step) % 12},{step}" for u in range(20) for step in range(4)]
    (folder / "interactions.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    make_causal_lm(len(tokenizer)).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder


def run(*arguments):
    return runner.invoke(app, [str(a) for a in arguments])


def evaluate_arguments(files):
    return [
        "evaluate", "--items", files / "items.jsonl", "--interactions", files / "interactions.csv",
        "--model", files / "model",
    ]  # fmt: skip


def train_arguments(files):
    return [
        "train", "--items", files / "items.jsonl", "--interactions", files / "interactions.csv",
        "--model", files / "model", "--budget", 3, "--item-rounds", 1, "--layers", 1,
    ]  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Recommenders whose fits stop at once."""
    make_fits_quick(monkeypatch)
