from __future__ import annotations

import contextlib
import copy
import errno
import hashlib
import json
import os
import shutil
import signal
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tests.conftest import make_tokenizer
from tsporec._internal import files as whole_files
from tsporec.selector import files, hub
from tsporec.selector.card import model_card
from tsporec.selector.config import FORMAT_VERSION, SavedSelector
from tsporec.selector.model import SelectorConfig, TokenSelector
from tsporec.tokens.ragged import RaggedTokens


@pytest.fixture
def folder(tmp_path):
    config = SelectorConfig(gram_buckets=64, surface_buckets=64, dim=4, hidden=4, training={"data": "none"})
    selector = TokenSelector(config)
    torch.nn.init.ones_(selector.network.out.weight)
    return selector.save_pretrained(tmp_path / "mine", card="# A card\n")


def read(folder) -> SavedSelector:
    return files.read_config(folder / files.CONFIG)


def weights(selector) -> list[bytes]:
    return [part.numpy().tobytes() for _, part in sorted(selector.state_dict().items())]


def edit(folder, **changes):
    path = folder / files.CONFIG
    config = json.loads(path.read_text())
    config.update(changes)
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def sign(folder):
    """Make the config vouch for the weights as they are."""
    edit(folder, weights_sha256=hashlib.sha256((folder / files.WEIGHTS).read_bytes()).hexdigest())


def test_round_trip_keeps_config_and_card(folder):
    again = TokenSelector.from_pretrained(folder)
    assert again.config.training == {"data": "none"}
    assert (folder / files.CARD).read_text() == "# A card\n"


def test_missing_file(folder):
    (folder / files.WEIGHTS).unlink()
    with pytest.raises(ValueError, match=r"has no model\.safetensors"):
        TokenSelector.from_pretrained(folder)


def test_cut_weights(folder):
    data = (folder / files.WEIGHTS).read_bytes()
    (folder / files.WEIGHTS).write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"sha256 .* damaged"):
        TokenSelector.from_pretrained(folder)


def test_pickle_in_place_of_safetensors_is_refused(folder):
    torch.save({"idf": torch.zeros(3)}, folder / files.WEIGHTS)
    sign(folder)
    with pytest.raises(ValueError, match=r"not a safetensors file .*pickled weights are refused"):
        TokenSelector.from_pretrained(folder)


def test_configs_that_cannot_be_read(folder):
    edit(folder, format_version=99)
    with pytest.raises(ValueError, match=f"format version 99, this library reads up to {FORMAT_VERSION}"):
        TokenSelector.from_pretrained(folder)
    edit(folder, format_version=None)
    with pytest.raises(ValueError, match="has no format_version"):
        TokenSelector.from_pretrained(folder)
    (folder / files.CONFIG).write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        TokenSelector.from_pretrained(folder)


def test_weights_that_do_not_fit(folder):
    edit(folder, dim=8)
    with pytest.raises(ValueError, match="weights do not fit the config: "):
        TokenSelector.from_pretrained(folder)
    edit(folder, dim=4, colour="blue")
    with pytest.raises(ValueError, match=r"unknown config keys \['colour'\]"):
        TokenSelector.from_pretrained(folder)


# -- saving and describing


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("card", [None, "A surrogate: \ud800"])
def test_what_cannot_be_saved_leaves_the_folder_as_it_was(folder, card):
    before = contents(folder)
    selector = TokenSelector.from_pretrained(folder)
    torch.nn.init.ones_(selector.blend)
    if card is None:
        selector.config.training["seen"] = {1, 2}  # behind the config's back
    with pytest.raises((TypeError, ValueError)):
        selector.save_pretrained(folder, card=card)
    assert contents(folder) == before
    with pytest.raises(ValueError, match="training is a mapping of plain, finite values"):
        files.describe(folder, {"seen": {1, 2}})
    assert contents(folder) == before


def test_a_disk_that_fills_up_leaves_the_folder_as_it_was(folder, monkeypatch):
    before = contents(folder)
    selector = TokenSelector.from_pretrained(folder)
    torch.nn.init.ones_(selector.blend)
    written = []

    def full(handle):
        written.append(handle)
        if len(written) == 2:  # the config, behind the weights
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(whole_files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        selector.save_pretrained(folder)
    assert contents(folder) == before


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("renamed", range(5))
def test_a_save_killed_between_renames_leaves_the_old_or_the_new(folder, tmp_path, monkeypatch, renamed, fresh):
    """Card, config, weights, item weights: with the config the new selector is there."""
    old = TokenSelector.from_pretrained(folder)
    new = copy.deepcopy(old).for_tokenizer(make_tokenizer("wordlevel"))
    torch.nn.init.ones_(new.blend)
    new = new.with_item_weights(RaggedTokens.from_lists([[5, 6], [7, 8, 9]]))
    target = tmp_path / "new" if fresh else folder
    (folder / files.CARD).write_text(model_card(read(folder), "me/pens"))
    rename, left = os.replace, renamed

    def kill(source, target):
        nonlocal left
        left -= 1
        if left < 0:
            raise SystemExit
        rename(source, target)

    child = os.fork()
    if child == 0:
        whole_files.os.replace = kill
        whole_files.Path.unlink = lambda *_, **__: None  # as after kill -9
        with contextlib.suppress(SystemExit):
            new.save_pretrained(target)
        os._exit(0)
    os.waitpid(child, 0)
    if renamed < 2 and fresh:
        with pytest.raises(ValueError, match=r"has no config\.json"):
            TokenSelector.from_pretrained(target)
    else:
        assert weights(TokenSelector.from_pretrained(target)) == weights(old if renamed < 2 else new)
    new.save_pretrained(target)
    assert weights(TokenSelector.from_pretrained(target)) == weights(new)
    assert (target / files.CARD).read_text() == model_card(read(target), "USER/NAME" if fresh else "me/pens")
    assert not list(target.glob(".*.tmp"))


def test_a_selector_is_read_whole_while_another_process_saves(folder):
    old = TokenSelector.from_pretrained(folder)
    new = copy.deepcopy(old)
    torch.nn.init.ones_(new.blend)
    child = os.fork()
    if child == 0:
        for _ in range(10_000):
            new.save_pretrained(folder)
            old.save_pretrained(folder)
        os._exit(0)
    try:
        found = [weights(TokenSelector.from_pretrained(folder)) for _ in range(60)]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert {str(one) for one in found} <= {str(weights(old)), str(weights(new))}


def test_describing_keeps_the_name_and_an_edited_card(folder):
    assert not files.describe(folder, {"summary": "Pens."})
    assert (folder / files.CARD).read_text() == "# A card\n"
    assert read(folder).config.training == {"data": "none", "summary": "Pens."}
    (folder / files.CARD).write_text(model_card(read(folder), "me/pens"))
    assert files.describe(folder, {"summary": "More pens."})
    saved = read(folder)
    assert (folder / files.CARD).read_text() == model_card(saved, "me/pens")
    training = {**saved.config.training, "terms": "mine"}
    card = model_card(replace(saved, config=replace(saved.config, training=training)), "me/pens")
    (folder / files.CARD).write_text(card)
    assert files.describe(folder, {"terms": "mine"})  # as a call leaves it that was killed between card and config
    (folder / files.CARD).unlink()
    assert files.describe(folder, {})
    assert (folder / files.CARD).read_text() == model_card(read(folder))


def test_saving_again_keeps_the_name_and_an_edited_card(folder):
    selector = TokenSelector.from_pretrained(folder)
    selector.save_pretrained(folder)
    assert (folder / files.CARD).read_text() == "# A card\n"
    selector.save_pretrained(folder, card=model_card(read(folder), "me/pens"))
    selector.config.training["summary"] = "Pens."
    selector.save_pretrained(folder)
    assert (folder / files.CARD).read_text() == model_card(read(folder), "me/pens")
    (folder / files.CONFIG).write_text("{")
    selector.save_pretrained(folder)
    assert (folder / files.CARD).read_text() == model_card(read(folder), "me/pens")
    (folder / files.CARD).unlink()
    selector.save_pretrained(folder)
    assert (folder / files.CARD).read_text() == model_card(read(folder))


def test_a_folder_without_a_config_is_a_clear_error(tmp_path):
    with pytest.raises(ValueError, match=r"has no config\.json; expected .* config\.json and model\.safetensors"):
        files.describe(tmp_path, {})


def test_what_a_killed_save_has_left_is_removed_by_the_next(folder):
    left = folder / f".{files.WEIGHTS}.0123abcd.tmp"
    other = folder / ".notes.0123abcd.tmp"
    for path in (left, other):
        path.write_bytes(b"half")
    TokenSelector.from_pretrained(folder).save_pretrained(folder)
    assert not left.exists()
    assert other.exists(), "it is not ours"


def test_saves_where_the_system_opens_no_folders(folder, monkeypatch):
    """On Windows."""
    opened = os.open

    def refuse(path, *arguments):
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *arguments)

    monkeypatch.setattr(whole_files.os, "open", refuse)
    selector = TokenSelector.from_pretrained(folder)
    assert TokenSelector.from_pretrained(selector.save_pretrained(folder)).fingerprint == selector.fingerprint


# -- damage


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": True}, "has no format_version"),
        ({"weights_sha256": 3}, "weights_sha256 must be text"),
        ({"fitted_texts": -1}, "fitted_texts is a number of texts; found -1"),
        ({"training": [1]}, r"training is a mapping of plain, finite values .*; found: \[1\]"),
        ({"dim": -4}, "dim is a whole number of at least 1; found -4"),
        ({"training": {"a": [{"b": float("nan")}]}}, "training is a mapping of plain, finite values"),
        ({"dim": 4.0}, r"dim is a whole number of at least 1; found 4\.0"),
        ({"hidden": "4"}, "hidden is a whole number of at least 1; found '4'"),
        ({"gram_buckets": True}, "gram_buckets is a whole number"),
        ({"surface_buckets": 10**15}, "at most 134217728 weights; this config asks for more"),
        ({"surface_buckets": 65}, "the idf table does not fit the config of 65 buckets"),
        ({"dim": 2**70, "hidden": 2**70}, "this config asks for more"),
        ({"weighting": ["idf"]}, "weighting is one of idf, tfidf, placed; found"),
        ({"weighting": "bm25"}, "weighting is one of idf, tfidf, placed; found 'bm25'"),
        ({"dropout": 1}, "dropout is a number from 0 to below 1; found 1"),
        ({"dropout": float("nan")}, "dropout is a number from 0 to below 1; found nan"),
        ({"table": "surface"}, r"unknown config keys \['table'\]"),
        ({"has_network": 1}, "has_network true or false"),
    ],
)
def test_damaged_configs(folder, changes, message):
    edit(folder, **changes)
    with pytest.raises(ValueError, match=message):
        TokenSelector.from_pretrained(folder)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ("null", "training is a mapping"),
        ("[" * 10**5, "is not JSON"),
        ("1" * 10**4, "is not JSON"),
        ('{"a": ' + "[" * 200 + "]" * 200 + "}", "at most 16 levels deep"),
        ('{"a": ' * 200 + "0" + "}" * 200, "at most 16 levels deep"),
    ],
    ids=["null", "endless", "long", "deep lists", "deep mappings"],
)
def test_damaged_training(folder, training, message):
    edit(folder, training="HERE")
    text = (folder / files.CONFIG).read_text()
    (folder / files.CONFIG).write_text(text.replace('"HERE"', training))
    with pytest.raises(ValueError, match=message):
        TokenSelector.from_pretrained(folder)


@pytest.mark.parametrize(
    "options", [{"dim": np.int64(4)}, {"dropout": np.float32(0.5)}, {"training": {"a": np.int64(4)}}]
)
def test_numbers_of_numpy_are_refused(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))} is .*found"):
        SelectorConfig(**options)


def broken(value, depth):
    return value if depth == 0 else [broken(value, depth - 1)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
) | st.integers(0, 300).map(lambda depth: broken(0, depth))  # fmt: skip
HEADER = ["format_version", "library_version", "weights_sha256", "has_network", "item_weights", "fitted_texts"]
KEYS = [*(part.name for part in fields(SelectorConfig)), *HEADER]
once = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the folder is restored in each example


@once
@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), JSON, max_size=3), st.sets(st.sampled_from(KEYS)))
def test_no_damaged_config_raises_anything_but_a_value_error(folder, changes, gone):
    whole = (folder / files.CONFIG).read_text()
    config = {**json.loads(whole), **changes}
    (folder / files.CONFIG).write_text(json.dumps({k: v for k, v in config.items() if k not in gone or k in changes}))
    loads_or_is_refused(folder)
    (folder / files.CONFIG).write_text(whole)


@once
@given(st.integers(0, 500), st.binary(max_size=4), st.integers(0, 3))
def test_no_damaged_bytes_raise_anything_but_a_value_error(folder, at, put, cut):
    whole = (folder / files.CONFIG).read_bytes()
    (folder / files.CONFIG).write_bytes(whole[:at] + put + whole[at + cut :])
    loads_or_is_refused(folder)
    (folder / files.CONFIG).write_bytes(whole)


def loads_or_is_refused(folder):
    """Loading gives a selector that can be saved, described and told apart, or a ValueError."""
    try:
        selector = TokenSelector.from_pretrained(folder)
    except ValueError:
        return
    assert selector.fingerprint
    again = selector.save_pretrained(folder.parent / "again")
    files.describe(again, {})
    shutil.rmtree(again)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"idf.values": torch.zeros(0)}, "the idf table does not fit the config"),
        ({"idf.codes": torch.zeros(2, dtype=torch.int16)}, "the idf table does not fit the config"),
        ({"idf.others": torch.ones(8, dtype=torch.int64)}, "the idf table does not fit the config"),
        ({"idf.others": torch.full((8,), 255, dtype=torch.uint8)}, "the idf table does not fit the config"),
        ({"idf.others": None}, "the idf table does not fit the config"),
        ({"idf.values": None, "idf.others": None, "idf.codes": None}, "missing idf"),
        ({"blend": torch.zeros(15, dtype=torch.int64)}, r"blend is \[15\] of torch.int64, expected \[15\] of floats"),
        ({"blend": torch.zeros(2, 7)}, r"blend is \[2, 7\]"),
        ({"blend": None}, "missing blend"),
        ({"bland": torch.zeros(2)}, "unexpected bland"),
        ({"blend": torch.full((15,), torch.nan)}, "blend has values that are not finite"),
        ({"network.out.weight": torch.full((1, 4), torch.inf)}, r"network\.out\.weight has values that are not finite"),
        ({"idf.values": torch.full((1,), torch.nan)}, "idf has values that are not finite"),
        ({"idf.values": torch.zeros(1, dtype=torch.bfloat16)}, "the idf table does not fit the config"),
        ({"idf.values": torch.zeros(1, 64)}, "the idf table does not fit the config"),
        (
            {"idf.others": torch.ones(8, dtype=torch.uint8), "idf.codes": torch.full((8,), -1, dtype=torch.int16)},
            "the idf table does not fit the config",
        ),
        ({"idf.more": torch.zeros(2)}, "unexpected idf.more"),
    ],
)
def test_damaged_weights(folder, changes, message):
    weights = {**load_file(folder / files.WEIGHTS), **changes}
    save_file({key: value for key, value in weights.items() if value is not None}, folder / files.WEIGHTS)
    sign(folder)
    with pytest.raises(ValueError, match=message):
        TokenSelector.from_pretrained(folder)


@pytest.mark.parametrize("name", [files.CONFIG, files.WEIGHTS])
def test_files_are_bounded_before_they_are_read(folder, monkeypatch, name):
    monkeypatch.setitem(files.LARGEST, name, 100)
    with pytest.raises(ValueError, match=rf"{name} has \d+ bytes; expected at most 100"):
        TokenSelector.from_pretrained(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes")
def test_what_has_no_end_is_not_read(folder):
    path = folder / files.WEIGHTS
    left = path.with_name(f".{path.name}.00000000.tmp")
    os.mkfifo(left)
    path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="has sha256"):
        TokenSelector.from_pretrained(folder)
    left.unlink()
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=f"has no {path.name}"):
        TokenSelector.from_pretrained(folder)


def test_a_rule_has_no_network_to_load(tmp_path):
    folder = TokenSelector(SelectorConfig(surface_buckets=64)).save_pretrained(tmp_path)
    again = [TokenSelector.from_pretrained(folder).network.grams.weight for _ in range(2)]
    assert torch.equal(*again)
    edit(folder, has_network=True)
    with pytest.raises(ValueError, match=r"missing network\.classes\.weight"):
        TokenSelector.from_pretrained(folder)


@given(st.lists(st.sampled_from([0.0, 1.5, 2.25, 1 / 3]), min_size=1, max_size=40))
def test_frequencies_are_packed_without_loss(values):
    idf = torch.tensor(values)
    assert torch.equal(files._unpacked(files._packed(idf), len(idf), Path("x")), idf)


def test_no_such_selector():
    with pytest.raises(ValueError, match="neither a folder here nor in the cache"):
        TokenSelector.from_pretrained("nobody/nothing-at-all", local_files_only=True)
    with pytest.raises(ValueError, match="no folder here and no selector on the Hub that you may read"):
        TokenSelector.from_pretrained("not/a/valid/id")


@pytest.mark.parametrize("name", ["tsporec/../mine", "tsporec/.", "tsporec/", "tsporec//mine", "tsporec/mine/x"])
def test_the_bundled_selectors_are_not_left_by_a_name(folder, monkeypatch, tmp_path, name):
    monkeypatch.setattr(hub, "BUNDLED", folder.parent / "bundled")
    (folder.parent / "bundled").mkdir()
    monkeypatch.chdir(folder.parent / "bundled")
    assert hub.find_local(name) is None


def test_bundled_selectors_come_first(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "BUNDLED", folder.parent)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tsporec" / "mine").mkdir(parents=True)
    assert hub.find_local("tsporec/mine") == folder
    assert hub.find_local("./tsporec/mine") == Path("tsporec/mine")
    assert hub.find_local(Path("tsporec/mine")) == Path("tsporec/mine")
    assert hub.find_local("other/mine") is None
