"""``tsporec compress`` and ``tsporec show --catalog``."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from tests.conftest import TEXTS
from tsporec.catalog.catalog import ItemCatalog
from tsporec.cli.app import app


def test_compress_makes_a_catalogue_and_says_what_it_saves(tokenizer, tmp_path):
    (tmp_path / "items.jsonl").write_text(
        "".join(json.dumps({"id": i, "title": t}) + "\n" for i, t in enumerate(TEXTS))
    )
    tokenizer.save_pretrained(tmp_path / "model")
    arguments = ["compress", "--items", tmp_path / "items.jsonl", "--model", tmp_path / "model", "--budget", 4]
    arguments += ["--output", tmp_path / "catalog"]
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    assert "6 items (0 empty, 0 resumed)" in done.output
    assert "24 after" in done.output
    assert len(ItemCatalog.open(tmp_path / "catalog")) == 6
    shown = ["show", "--catalog", tmp_path / "catalog", "--model", tmp_path / "model"]
    catalog = ItemCatalog.open(tmp_path / "catalog", tokenizer=tokenizer)
    done = CliRunner().invoke(app, list(map(str, [*shown, "--count", 2])))
    assert done.exit_code == 0, done.output
    assert done.output == f"0\n{catalog.text(0)}\n\n1\n{catalog.text(1)}\n\n"
    done = CliRunner().invoke(app, list(map(str, [*shown, "--item", 3, "--budget", 2])))
    assert done.output == f"3\n{catalog.text(3, 2)}\n\n"
    done = CliRunner().invoke(app, list(map(str, [*shown, "--item", 99])))
    assert done.exit_code == 2
    assert "no item 99 in" in done.output
    done = CliRunner().invoke(app, list(map(str, [*shown, "--item", "pen"])))
    assert "whole numbers; found --item 'pen'" in done.output.replace("\n", " ")
    done = CliRunner().invoke(app, list(map(str, [*shown, "--items", tmp_path / "items.jsonl"])))
    assert "either --items or --catalog" in done.output
    again = CliRunner().invoke(app, list(map(str, arguments)))
    assert again.exit_code == 2
    assert "holds a catalogue already" in again.output
    assert "--overwrite" in again.output
