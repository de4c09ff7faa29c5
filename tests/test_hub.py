from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tsporec import hub
from tsporec.ragged import RaggedTokens
from tsporec.selector import SelectorConfig, TokenSelector
from tsporec.synthetic import word_tokenizer


@pytest.fixture
def folder(tmp_path):
    config = SelectorConfig(gram_buckets=64, surface_buckets=64, dim=4, hidden=4, training={"data": "none"})
    return TokenSelector(config).save_pretrained(tmp_path / "mine", card="# A card\n")


def letter_tokenizer():
    """Byte-level BPE of the letters of "gel pen" and the word " pen"."""
    vocabulary = {entry: i for i, entry in enumerate([*"Ġgelpn", "Ġp", "Ġpe", "Ġpen"])}
    core = Tokenizer(models.BPE(vocabulary, [("Ġ", "p"), ("Ġp", "e"), ("Ġpe", "n")]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=core)


GOLDEN = sorted((Path(__file__).parent / "golden").glob("selector-v*"))


@pytest.mark.parametrize("folder", GOLDEN, ids=lambda path: path.name)
def test_every_format_loads_to_the_bit(folder):
    expected = json.loads((folder / "expected.json").read_text())
    words = word_tokenizer(["blue", "gel", "pen", "fine", "point", "pack", "of", "twelve"])
    selector = TokenSelector.from_pretrained(folder)
    selector = selector.for_tokenizer(letter_tokenizer() if len(selector.lexicon) else words)
    assert selector.fingerprint == expected["fingerprint"]  # of all weights
    scores = selector.score(RaggedTokens.from_lists(expected["ids"]))
    np.testing.assert_allclose(scores, np.float32(expected["scores"]), rtol=1e-5)
    assert selector.config.training == {"summary": "A golden file."}


def test_the_current_format_is_written_as_its_golden_file(tmp_path):
    assert [int(path.name[-1]) for path in GOLDEN] == list(range(1, hub.FORMAT_VERSION + 1))
    assert sorted(hub.MIGRATIONS) == list(range(1, hub.FORMAT_VERSION))
    again = TokenSelector.from_pretrained(GOLDEN[-1]).save_pretrained(tmp_path)
    assert (again / hub.WEIGHTS).read_bytes() == (GOLDEN[-1] / hub.WEIGHTS).read_bytes()
    written, golden = (json.loads((path / hub.CONFIG).read_text()) for path in (again, GOLDEN[-1]))
    assert {**written, "library_version": golden["library_version"]} == golden


def edit(folder, **changes):
    path = folder / hub.CONFIG
    config = json.loads(path.read_text())
    config.update(changes)
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def test_round_trip_keeps_config_and_card(folder):
    again = TokenSelector.from_pretrained(folder)
    assert again.config.training == {"data": "none"}
    assert (folder / hub.CARD).read_text() == "# A card\n"


def test_missing_file(folder):
    (folder / hub.WEIGHTS).unlink()
    with pytest.raises(ValueError, match=r"has no model\.safetensors"):
        TokenSelector.from_pretrained(folder)


def test_cut_weights(folder):
    data = (folder / hub.WEIGHTS).read_bytes()
    (folder / hub.WEIGHTS).write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"sha256 .* damaged"):
        TokenSelector.from_pretrained(folder)


def test_pickle_in_place_of_safetensors_is_refused(folder):
    import hashlib

    torch.save({"idf": torch.zeros(3)}, folder / hub.WEIGHTS)
    edit(folder, weights_sha256=hashlib.sha256((folder / hub.WEIGHTS).read_bytes()).hexdigest())
    with pytest.raises(ValueError, match=r"not a safetensors file .*pickled weights are refused"):
        TokenSelector.from_pretrained(folder)


def test_configs_that_cannot_be_read(folder):
    edit(folder, format_version=99)
    with pytest.raises(ValueError, match="format version 99, this library reads up to 3"):
        TokenSelector.from_pretrained(folder)
    edit(folder, format_version=None)
    with pytest.raises(ValueError, match="has no format_version"):
        TokenSelector.from_pretrained(folder)
    (folder / hub.CONFIG).write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        TokenSelector.from_pretrained(folder)


def test_weights_that_do_not_fit(folder):
    edit(folder, dim=8)
    with pytest.raises(ValueError, match="weights do not fit the config: "):
        TokenSelector.from_pretrained(folder)
    edit(folder, dim=4, colour="blue")
    with pytest.raises(ValueError, match=r"unknown config keys \['colour'\]"):
        TokenSelector.from_pretrained(folder)


def test_no_such_selector():
    with pytest.raises(ValueError, match="neither a folder here nor in the cache"):
        TokenSelector.from_pretrained("nobody/nothing-at-all", local_files_only=True)
    with pytest.raises(ValueError, match="no folder here and no selector on the Hub that you may read"):
        TokenSelector.from_pretrained("not/a/valid/id")


@pytest.mark.parametrize("name", ["tsporec/../mine", "tsporec/.", "tsporec/", "tsporec//mine", "tsporec/mine/x"])
def test_the_box_is_not_left_by_a_name(folder, monkeypatch, tmp_path, name):
    monkeypatch.setattr(hub, "BOX", folder.parent / "box")
    (folder.parent / "box").mkdir()
    monkeypatch.chdir(folder.parent / "box")
    assert hub.find_local(name) is None


def test_the_box_comes_first(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "BOX", folder.parent)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tsporec" / "mine").mkdir(parents=True)
    assert hub.find_local("tsporec/mine") == folder
    assert hub.find_local("./tsporec/mine") == Path("tsporec/mine")
    assert hub.find_local(Path("tsporec/mine")) == Path("tsporec/mine")
    assert hub.find_local("other/mine") is None
