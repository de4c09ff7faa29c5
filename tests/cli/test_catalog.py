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
    assert "100.0% of the items keep tokens that no other item keeps" in done.output.replace("\n", " ")
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


def test_own_files_and_ratios(tokenizer, tmp_path):
    """A csv with item_id is read as the other commands read it."""
    (tmp_path / "items.csv").write_text("item_id,title\n" + "".join(f'B{i},"{text}"\n' for i, text in enumerate(TEXTS)))
    tokenizer.save_pretrained(tmp_path / "model")
    arguments = ["compress", "--items", tmp_path / "items.csv", "--model", tmp_path / "model", "--ratio", 0.5]
    done = CliRunner().invoke(app, list(map(str, [*arguments, "--output", tmp_path / "catalog"])))
    assert done.exit_code == 0, done.output
    catalog = ItemCatalog.open(tmp_path / "catalog", tokenizer=tokenizer)
    assert list(catalog) == [f"B{i}" for i in range(6)]
    lengths = [len(row) for row in tokenizer(TEXTS, add_special_tokens=False)["input_ids"]]
    assert [len(row) for row in catalog.lookup(list(catalog)).to_lists()] == [-(-length // 2) for length in lengths]
    kept = ["--keep", "numbers", "--budget", 6, "--output", tmp_path / "numbers"]
    done = CliRunner().invoke(app, list(map(str, [*arguments[:5], *kept])))
    assert done.exit_code == 0, done.output
    assert "of the 11 tokens that --keep names are kept" in done.output.replace("\n", " ")
    found = ItemCatalog.open(tmp_path / "numbers", tokenizer=tokenizer)
    assert "1000" in found.text("B2")
    found = found.update([{"id": "new", "title": f"{TEXTS[2]} of 2024"}], tokenizer=tokenizer)
    assert "1000" in found.text("new")
    assert "2024" in found.text("new")
    both = CliRunner().invoke(app, list(map(str, [*arguments, "--budget", 4, "--output", tmp_path / "other"])))
    assert "--ratio stands in place of --budget" in both.stderr
