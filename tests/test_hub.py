from __future__ import annotations

import json

import pytest
import torch

from tsporec import hub
from tsporec.selector import SelectorConfig, TokenSelector


@pytest.fixture
def folder(tmp_path):
    config = SelectorConfig(gram_buckets=64, surface_buckets=64, dim=4, hidden=4, training={"data": "none"})
    return TokenSelector(config).save_pretrained(tmp_path / "mine", card="# A card\n")


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
    with pytest.raises(ValueError, match="format version 99, this library reads up to 1"):
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
    with pytest.raises(ValueError, match="no folder here and no selector on the Hub"):
        TokenSelector.from_pretrained("not/a/valid/id")
