"""Selectors over HTTP: the installed huggingface_hub, in a process of its own, against a Hub on loopback.

A process of its own because HF_ENDPOINT and HF_HUB_OFFLINE are read when huggingface_hub is imported.
"""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import socket
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

from tests.conftest import make_tokenizer
from tests.selector.hub_server import TOKEN, HubServer, Repo
from tsporec.selector import files, hub
from tsporec.selector.card import model_card
from tsporec.selector.item_weights import ItemWeights
from tsporec.selector.model import SelectorConfig, TokenSelector
from tsporec.tokens.pieces import read_pieces
from tsporec.tokens.ragged import RaggedTokens

NAME = "me/mine"
NAMES = (files.CONFIG, files.WEIGHTS, files.ITEM_WEIGHTS)


@pytest.fixture(scope="module")
def server():
    with HubServer() as running:
        yield running


@pytest.fixture(scope="module")
def remote(server, tmp_path_factory):
    """Run a function where HF_ENDPOINT is the server; its errors are raised here."""
    changed = {
        "HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HOME": str(tmp_path_factory.mktemp("hf")),
    }  # fmt: skip
    before = {key: os.environ.get(key) for key in changed}
    os.environ.update(changed)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(fingerprint, hub.DEFAULT).result()  # starts the process
        for key, value in before.items():
            os.environ.pop(key)
            os.environ.update({} if value is None else {key: value})
        yield lambda function, *args, **options: pool.submit(function, *args, **options).result()


@pytest.fixture
def folder(tmp_path):
    return make(0).save_pretrained(tmp_path / "mine")


@pytest.fixture
def repo(server, folder):
    """A repository that holds the selector of ``folder``."""
    server.repos = {NAME: Repo()}
    server.cuts = 0
    server.requests.clear()
    server.repos[NAME].commit({name: (folder / name).read_bytes() for name in (*NAMES, files.CARD)})
    return server.repos[NAME]


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def make(seed: int) -> TokenSelector:
    """A selector with a network and item weights, or (seed 2) neither."""
    torch.manual_seed(seed)
    selector = TokenSelector(SelectorConfig(gram_buckets=4096, surface_buckets=64, dim=16, hidden=4))
    if seed != 2:
        torch.nn.init.normal_(selector.network.out.weight)
        pieces = read_pieces(make_tokenizer("bpe"))
        selector.item_weights = ItemWeights.zeros(RaggedTokens.from_lists([[50, 60], [70]]), pieces)
        torch.nn.init.normal_(selector.item_weights.weight)
    return selector


def fingerprint(name, **options):
    return TokenSelector.from_pretrained(name, **options).fingerprint


def push_selector(seed, **options):
    return make(seed).push_to_hub(NAME, token=TOKEN, **options)


def expected_card(folder: Path, name: str) -> str:
    return model_card(files.read_config(folder / files.CONFIG), name)


def halves(cache: Path) -> list[Path]:
    """What a download that broke off would leave."""
    return [path for path in cache.rglob("*.incomplete") if path.is_file()]


def sign(content: dict[str, bytes]) -> dict[str, bytes]:
    """The files with a config that vouches for the weights as they are."""
    config = json.loads(content[files.CONFIG])
    config["weights_sha256"] = hashlib.sha256(content[files.WEIGHTS]).hexdigest()
    return {**content, files.CONFIG: json.dumps(config).encode()}


# -- fetching


def test_fetched_by_branch_and_by_commit(remote, repo, cache, tmp_path):
    first = repo.branches["main"]
    weights = make(1).save_pretrained(tmp_path / "next")
    repo.commit({name: (weights / name).read_bytes() for name in NAMES}, branch="next")
    expected = {seed: make(seed).fingerprint for seed in (0, 1)}
    assert remote(fingerprint, NAME, cache_dir=cache) == expected[0]
    assert remote(fingerprint, NAME, cache_dir=cache, revision="next") == expected[1]
    assert remote(fingerprint, NAME, cache_dir=cache, revision=first) == expected[0]
    with pytest.raises(ValueError, match=r"config\.json of me/mine could not be fetched \(RevisionNotFoundError"):
        remote(fingerprint, NAME, cache_dir=cache, revision="never")


def test_all_files_are_of_one_commit(remote, repo, server, cache):
    remote(fingerprint, NAME, cache_dir=cache)
    fetched = [request for request in server.requests if request.startswith("GET")]
    assert fetched == [
        f"GET /{NAME}/resolve/main/{files.CONFIG}",
        *(f"GET /{NAME}/resolve/{repo.branches['main']}/{name}" for name in NAMES[1:]),
    ]


def test_the_cache_serves_where_the_hub_is_not_asked(remote, repo, server, cache):
    with pytest.raises(ValueError, match="neither a folder here nor in the cache"):
        remote(fingerprint, NAME, cache_dir=cache, local_files_only=True)
    assert not server.requests
    found = remote(fingerprint, NAME, cache_dir=cache)
    count = len(server.requests)
    assert remote(fingerprint, NAME, cache_dir=cache, local_files_only=True) == found
    assert len(server.requests) == count
    # Here HF_HUB_OFFLINE is 1.
    assert fingerprint(NAME, cache_dir=cache) == found
    assert len(server.requests) == count


def test_bundled_selectors_and_folders_come_before_the_hub(remote, repo, server, folder, cache):
    options = {"revision": "never", "token": "hf_wrong", "force_download": True, "cache_dir": cache}
    assert remote(fingerprint, hub.DEFAULT, **options) == fingerprint(hub.DEFAULT)
    assert remote(fingerprint, folder, **options) == make(0).fingerprint
    assert not server.requests


def test_the_cache_serves_where_the_hub_is_not_reached(remote, repo, server, cache):
    found = remote(fingerprint, NAME, cache_dir=cache)
    code = (
        "import sys, time; from tsporec import TokenSelector\n"
        "time.sleep = lambda seconds: None  # the client waits between tries\n"
        "for cache in sys.argv[1:]:\n"
        f"    try: print(TokenSelector.from_pretrained({NAME!r}, cache_dir=cache).fingerprint)\n"
        "    except ValueError as error: print(error)"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, but nobody listens: refused
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
        environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
        command = [sys.executable, "-c", code, str(cache), str(cache / "none")]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    served, refused = run.stdout.splitlines()[:2]
    assert served == found
    expected = f"{NAME} is neither a folder here nor in the cache, and the Hub was not asked or not reached"
    # Older clients do not connect again after they failed to connect.
    assert refused.startswith(expected) or "client has been closed" in refused


def test_a_private_one_needs_a_token(remote, repo, cache):
    repo.private = True
    with pytest.raises(ValueError, match="no selector on the Hub that you may read"):
        remote(fingerprint, NAME, cache_dir=cache, token=False)
    assert remote(fingerprint, NAME, cache_dir=cache, token=TOKEN) == make(0).fingerprint
    with pytest.raises(ValueError, match="no selector on the Hub that you may read"):
        remote(fingerprint, "me/other", cache_dir=cache)


def test_a_download_that_breaks_off_is_tried_again(remote, repo, server, cache):
    server.cuts = 1
    assert remote(fingerprint, NAME, cache_dir=cache) == make(0).fingerprint
    assert server.cuts == 0
    assert not halves(cache)


def test_a_download_that_stays_broken_leaves_nothing(remote, repo, server, cache):
    server.cuts = 100
    with pytest.raises(ValueError, match=f"{NAME} could not be fetched"):
        remote(impatient, NAME, cache_dir=cache)
    assert not halves(cache)
    assert not list(cache.rglob(files.WEIGHTS))
    server.cuts = 0
    assert remote(fingerprint, NAME, cache_dir=cache) == make(0).fingerprint


def impatient(name, **options):
    """As :func:`fingerprint`, but without the client's waiting between tries."""
    import time

    waits, time.sleep = time.sleep, lambda seconds: None
    try:
        return fingerprint(name, **options)
    finally:
        time.sleep = waits


def test_a_wrong_checksum(remote, repo, folder, cache):
    damaged = bytearray((folder / files.WEIGHTS).read_bytes())
    damaged[-1] ^= 1
    repo.commit({files.WEIGHTS: bytes(damaged)})
    with pytest.raises(ValueError, match=r"its config says .* force_download=True"):
        remote(fingerprint, NAME, cache_dir=cache)
    repo.commit({files.WEIGHTS: (folder / files.WEIGHTS).read_bytes()})
    assert remote(fingerprint, NAME, cache_dir=cache, force_download=True) == make(0).fingerprint


@pytest.mark.parametrize("missing", NAMES)
def test_a_missing_file(remote, repo, missing, cache):
    del repo.commits[repo.branches["main"]][missing]
    with pytest.raises(ValueError, match=f"{missing} of me/mine could not be fetched"):
        remote(fingerprint, NAME, cache_dir=cache)


def test_a_pickle_in_place_of_safetensors(remote, repo, server, folder, cache):
    stream = io.BytesIO()
    torch.save({"idf": torch.zeros(3)}, stream)
    content = {name: (folder / name).read_bytes() for name in NAMES}
    repo.commit(sign({**content, files.WEIGHTS: stream.getvalue()}))
    with pytest.raises(ValueError, match="pickled weights are refused"):
        remote(fingerprint, NAME, cache_dir=cache)
    # Nor is one looked for where the safetensors are missing.
    commit = repo.commit({"pytorch_model.bin": stream.getvalue()})
    del repo.commits[commit][files.WEIGHTS]
    with pytest.raises(ValueError, match=r"model\.safetensors of me/mine could not be fetched"):
        remote(fingerprint, NAME, cache_dir=cache)
    assert not any("pytorch_model" in request for request in server.requests)


def test_files_are_asked_for_by_their_own_names_and_no_others(remote, repo, server, folder, cache, tmp_path):
    config = {**json.loads((folder / files.CONFIG).read_text()), "auto_map": {"AutoModel": "../../evil.TokenSelector"}}
    repo.commit({"../../evil.py": b"raise SystemExit", "modeling.py": b"raise SystemExit"})
    assert remote(fingerprint, NAME, cache_dir=cache) == make(0).fingerprint
    assert {request.rsplit("/", 1)[1] for request in server.requests} == set(NAMES)
    assert not list(tmp_path.rglob("evil*"))
    repo.commit({files.CONFIG: json.dumps(config).encode()})
    with pytest.raises(ValueError, match="unknown config keys"):
        remote(fingerprint, NAME, cache_dir=cache)


@pytest.mark.parametrize("name", ["../me/mine", "me/../mine", "me/mine/../../x", "/etc/mine", "me\\mine/x"])
def test_unsafe_names_are_refused_unasked(remote, repo, server, name, cache):
    with pytest.raises(ValueError, match="no folder here and no selector on the Hub"):
        remote(fingerprint, name, cache_dir=cache)
    assert not server.requests


# -- pushing


def test_pushed_and_fetched_again(remote, server, folder, cache):
    server.repos = {}
    address = remote(hub.push, folder, NAME, token=TOKEN, commit_message="First", private=True)
    repo = server.repos[NAME]
    assert address == f"{server.url}/{NAME}/commit/{repo.branches['main']}"
    assert repo.private
    assert repo.messages == ["First"]
    content = repo.commits[repo.branches["main"]]
    assert sorted(content) == sorted([files.CARD, *NAMES])
    card = content[files.CARD].decode()
    assert f'selector = TokenSelector.from_pretrained("{NAME}").for_tokenizer(tokenizer)\n' in card
    assert "for the words of 2 items" in card
    assert remote(fingerprint, NAME, cache_dir=cache, token=TOKEN) == make(0).fingerprint


def test_pushed_to_a_branch_or_as_a_pull_request(remote, repo, server):
    main = repo.branches["main"]
    remote(push_selector, 1, revision="next")
    assert repo.branches["next"] != main
    address = remote(push_selector, 2, create_pr=True)
    assert address == f"{server.url}/{NAME}/discussions/1"
    assert repo.branches["main"] == main


def test_a_card_with_another_name_is_made_anew(remote, repo, folder):
    (folder / files.CARD).write_text(expected_card(folder, "me/other"))
    remote(hub.push, folder, NAME, token=TOKEN)
    assert repo.commits[repo.branches["main"]][files.CARD].decode() == expected_card(folder, NAME)


def test_only_the_selector_is_pushed_and_an_edited_card_stays(remote, repo, folder):
    (folder / "secret.txt").write_text("no")
    (folder / files.CARD).write_text("---\nlicense: mit\n---\n\nMine.\n")
    remote(hub.push, folder, NAME, token=TOKEN)
    content = repo.commits[repo.branches["main"]]
    assert "secret.txt" not in content
    assert content[files.CARD].decode().endswith("Mine.\n")


def test_a_kept_card_gets_the_name_of_the_repository(remote, repo, folder):
    """One that was edited, or made by another version, in the two places where it still has none."""
    card = (
        (folder / files.CARD).read_text().replace("A token selector.", "A selector of another version, by USER/NAME.")
    )
    (folder / files.CARD).write_text(card)
    remote(hub.push, folder, NAME, token=TOKEN)
    expected = card.replace("USER/NAME", NAME)
    assert repo.commits[repo.branches["main"]][files.CARD].decode() == expected


def test_a_short_name_is_of_the_user(remote, repo, server, folder):
    remote(hub.push, folder, "short", token=TOKEN, revision="next")
    pushed = server.repos["me/short"]
    assert pushed.commits[pushed.branches["next"]][files.CARD].decode() == expected_card(folder, "me/short")


def test_a_pull_request_is_pushed_to(remote, repo, server, folder):
    remote(hub.push, folder, NAME, token=TOKEN, revision="refs/pr/1")
    assert files.WEIGHTS in repo.commits[repo.branches["refs/pr/1"]]
    assert not any("/branch/" in request for request in server.requests)


def test_what_is_damaged_or_not_allowed_is_not_pushed(remote, repo, server, folder):
    with pytest.raises(ValueError, match=f"{NAME} was not pushed"):
        remote(hub.push, folder, NAME, token="hf_read")
    with pytest.raises(ValueError, match="is no folder"):
        remote(hub.push, NAME, NAME, token=TOKEN)
    server.requests.clear()
    fits = (folder / files.CONFIG).read_text()
    (folder / files.CONFIG).write_text(fits.replace('"hidden": 4', '"hidden": 8'))
    with pytest.raises(ValueError, match="weights do not fit the config"):
        remote(hub.push, folder, NAME, token=TOKEN)
    (folder / files.CONFIG).write_text(fits)
    (folder / files.WEIGHTS).write_bytes(b"")
    with pytest.raises(ValueError, match="its config says"):
        remote(hub.push, folder, NAME, token=TOKEN)
    assert not server.requests
    with pytest.raises(ValueError, match="was not pushed"):
        make(0).push_to_hub(NAME)  # HF_HUB_OFFLINE is 1 here
