"""The catalogue's format: stores written by the first version open, and are still written byte by byte."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tsporec._internal import files
from tsporec.budget import Budget
from tsporec.catalog.catalog import ItemCatalog
from tsporec.catalog.store.build import Work, build
from tsporec.catalog.store.compress import Chunk, Compressor
from tsporec.catalog.store.layout import CURRENT, Recipe
from tsporec.tokens.ragged import RaggedTokens

GOLDEN = Path(__file__).parent.parent / "golden" / "catalog-v1"
IDS = {"strings": ["B01", "ü", "x" * 20, "empty"], "integers": [5, -3, 2**40, 0]}
TOKENS = RaggedTokens.from_lists([[3, 1, 4, 1, 5, 9, 2, 6], [70, 71], [8], []])


class Scorer:
    fingerprint = "golden"

    def score(self, tokens):
        return (tokens.ids * 7 % 11).astype(np.float32)


@pytest.mark.parametrize("name", IDS)
def test_a_store_of_format_1_opens(name):
    catalog = ItemCatalog.open(GOLDEN / name)
    catalog.verify()
    assert list(catalog) == IDS[name]
    assert catalog.lookup(IDS[name]).to_lists() == [[3, 1, 9, 6], [70, 71], [8], []]
    assert catalog.lookup(IDS[name], k=2).to_lists() == [[3, 6], [70, 71], [8], []]
    assert catalog.ranks(IDS[name][0]).tolist() == [0, 3, 2, 1]
    assert list(catalog.changed([Chunk(IDS[name], tokens=TOKENS)])) == []


@pytest.mark.parametrize("name", IDS)
def test_format_1_is_written_as_it_was(name, tmp_path):
    kind = "str" if name == "strings" else "int"
    recipe = Recipe("golden-tokenizer", "golden", 100, {"tokens": 4}, ("title",), kind)
    compressor = Compressor(None, Scorer(), Budget(tokens=4), 100, kind)
    build(tmp_path, [Chunk(IDS[name], tokens=TOKENS)], compressor, recipe, Work())
    for file in ("index-000001.safetensors", "shards/000001-00000.safetensors"):
        assert (tmp_path / file).read_bytes() == (GOLDEN / name / file).read_bytes()
    then, now = (json.loads((at / "manifest-000001.json").read_bytes()) for at in (GOLDEN / name, tmp_path))
    assert {**now, "library_version": then["library_version"]} == then


def test_a_newer_format_is_refused(tmp_path):
    store = shutil.copytree(GOLDEN / "strings", tmp_path / "store")
    manifest = store / "manifest-000001.json"
    manifest.write_text(manifest.read_text().replace('"format_version": 1', '"format_version": 2'))
    (store / CURRENT).write_text(json.dumps({"manifest": manifest.name, "sha256": files.sha256(manifest)}))
    with pytest.raises(ValueError, match=r"format version 2; this tsporec reads up to 1. Upgrade"):
        ItemCatalog.open(store)
