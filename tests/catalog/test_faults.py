"""Whatever happens to a writer or to a file: the last complete state is there, and faults are named."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import signal
import threading
import time

import numpy as np
import pytest

from tests.catalog.test_catalog import TiedScorer, expected, make_items, same
from tsporec._internal import files
from tsporec.budget import Budget
from tsporec.catalog.catalog import ItemCatalog
from tsporec.catalog.store.layout import CURRENT, JOURNAL, LOCK
from tsporec.catalog.store.lock import StoreLock
from tsporec.data.items import Item

OPTIONS = {"shard_items": 20, "chunk_items": 10}
ITEMS = make_items(60)


def build(path, tokenizer, items=ITEMS, **options):
    return ItemCatalog.build(
        items, path=path, tokenizer=tokenizer, selector=TiedScorer(), budget=Budget(tokens=4), **{**OPTIONS, **options}
    )


def check(catalog, items, tokenizer):
    catalog.verify()
    assert list(catalog) == [item.id for item in items]
    assert same(catalog.lookup(list(catalog)), expected(items, tokenizer, Budget(tokens=4)))


# -- kill -9


class Killer:
    """Kills this process at the n-th call to the file system, before it, or in a write halfway through."""

    CALLS = ("open", "write", "fsync", "replace", "ftruncate")

    def __init__(self, at: int, share: float = 1.0) -> None:
        self.left, self.share = at, share
        for name in self.CALLS:
            setattr(os, name, self.watch(name, getattr(os, name)))

    def watch(self, name, call):
        def watched(*args, **kwargs):
            self.left -= 1
            if self.left == 0:
                if name == "write":
                    call(args[0], bytes(args[1])[: int(self.share * len(args[1]))])
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return watched


def in_child(work, at: int, share: float) -> bool:
    """Run ``work`` in a fork that is killed at call ``at``; whether it was."""
    child = os.fork()
    if child == 0:
        try:
            Killer(at, share)
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def count_calls(work, monkeypatch) -> int:
    calls = 0

    def counted(call):
        def count(*args, **kwargs):
            nonlocal calls
            calls += 1
            return call(*args, **kwargs)

        return count

    with monkeypatch.context() as patch:
        for name in Killer.CALLS:
            patch.setattr(os, name, counted(getattr(os, name)))
        work()
    return calls


def points(calls: int, count: int) -> list[tuple[int, float]]:
    rng = random.Random(0)
    return [(rng.randint(1, calls), rng.random()) for _ in range(count)]


def test_a_build_killed_at_random_points_goes_on(tokenizer, tmp_path, monkeypatch):
    calls = count_calls(lambda: build(tmp_path / "count", tokenizer), monkeypatch)
    resumed = 0
    for number, (at, share) in enumerate(points(calls, 50)):
        path = tmp_path / str(number)
        assert in_child(lambda path=path: build(path, tokenizer), at, share), f"not killed at call {at} of {calls}"
        if (path / CURRENT).exists():
            check(ItemCatalog.open(path), ITEMS, tokenizer)
            catalog = build(path, tokenizer, overwrite=True)
        else:
            with pytest.raises(ValueError, match="there is no catalogue"):
                ItemCatalog.open(path)
            catalog = build(path, tokenizer)
        check(catalog, ITEMS, tokenizer)
        assert catalog.report.items + catalog.report.resumed == len(ITEMS)
        resumed += catalog.report.resumed
        assert not [*path.rglob("*.tmp"), *path.glob(JOURNAL)]
    assert resumed > 0


def test_an_update_killed_at_random_points_leaves_one_state_or_the_other(tokenizer, tmp_path, monkeypatch):
    changed = [Item("item-3", {"title": "gel pen"}), Item("new", {"title": "stapler"})]
    after = [*(i for i in ITEMS if i.id not in ("item-3", "item-7")), *changed]

    def update(path):
        return ItemCatalog.open(path).update(changed, delete=["item-7"], tokenizer=tokenizer, selector=TiedScorer())

    build(tmp_path / "count", tokenizer)
    calls = count_calls(lambda: update(tmp_path / "count"), monkeypatch)
    for number, (at, share) in enumerate(points(calls, 15)):
        path = tmp_path / str(number)
        build(path, tokenizer)
        assert in_child(lambda path=path: update(path), at, share)
        catalog = ItemCatalog.open(path)
        check(catalog, ITEMS if catalog.snapshot == 1 else after, tokenizer)
        if catalog.snapshot == 1:
            catalog = update(path)
        check(catalog, after, tokenizer)


def test_a_build_with_workers_is_killed_by_the_clock(tokenizer, tmp_path):
    path = tmp_path / "store"
    for delay in (0.1, 0.3):
        child = os.fork()
        if child == 0:
            try:
                os.setpgid(0, 0)
                build(path, tokenizer, num_proc=2, start_method="fork", overwrite=True)
            finally:
                os._exit(0)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)  # its workers see to themselves, and the lock is free at once
        os.waitpid(child, 0)
        check(build(path, tokenizer, overwrite=True), ITEMS, tokenizer)
        for _ in range(100):
            try:
                os.killpg(child, 0)
            except ProcessLookupError:
                break
            time.sleep(0.1)
        else:
            pytest.fail("the workers of a killed build live on")


# -- going on


def interrupted(path, tokenizer, stop=45):
    def cut():
        yield from ITEMS[:stop]
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="source broke"):
        build(path, tokenizer, cut())


def test_an_unfinished_build_of_something_else_is_refused(tokenizer, tmp_path):
    path = tmp_path / "store"
    interrupted(path, tokenizer)
    with pytest.raises(ValueError, match="an unfinished build is: run the same build"):
        ItemCatalog.open(path)
    with pytest.raises(ValueError, match=r"unfinished build that differs in fields"):
        build(path, tokenizer, fields=["title"])
    other = [Item(item.id, {"title": "other"}) for item in ITEMS]
    with pytest.raises(ValueError, match="'item-0' differs from what it stored"):
        build(path, tokenizer, other)
    with pytest.raises(ValueError, match="only 30 came now"):
        build(path, tokenizer, ITEMS[:30])
    catalog = build(path, tokenizer)
    assert (catalog.report.resumed, catalog.report.items) == (40, 20)
    check(catalog, ITEMS, tokenizer)


def test_an_unfinished_build_can_be_dropped(tokenizer, tmp_path):
    path = tmp_path / "store"
    interrupted(path, tokenizer)
    other = [Item(item.id, {"title": "other"}) for item in ITEMS[:25]]
    check(build(path, tokenizer, other, resume=False), other, tokenizer)


def test_an_update_does_not_spoil_an_unfinished_rebuild(tokenizer, tmp_path):
    path = tmp_path / "store"
    catalog = build(path, tokenizer)

    def cut():
        yield from ITEMS[:45]
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        build(path, tokenizer, cut(), overwrite=True)
    with pytest.raises(ValueError, match="unfinished rebuild"):
        catalog.update(delete=["item-1"], tokenizer=tokenizer, selector=TiedScorer())
    check(ItemCatalog.open(path), ITEMS, tokenizer)
    ItemCatalog.prune(path)
    assert build(path, tokenizer, overwrite=True).report.resumed == 40


def test_a_finished_shard_that_is_damaged_is_made_again(tokenizer, tmp_path):
    path = tmp_path / "store"
    interrupted(path, tokenizer)
    shard = path / "shards" / "000001-00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    catalog = build(path, tokenizer)
    assert catalog.report.resumed == 20
    check(catalog, ITEMS, tokenizer)


# -- files


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["shards/000001-00001.safetensors", "index-000001.safetensors"])
def test_a_flipped_bit_is_found_by_checksum_and_named(tokenizer, tmp_path, name):
    catalog = build(tmp_path / "store", tokenizer)
    flip(catalog.path / name, -5)
    with pytest.raises(ValueError, match=rf"checksum of {name} differs"):
        ItemCatalog.open(catalog.path).verify()


@pytest.mark.parametrize("name", ["shards/000001-00001.safetensors", "index-000001.safetensors"])
def test_a_cut_or_missing_file_is_named_on_opening(tokenizer, tmp_path, name):
    catalog = build(tmp_path / "store", tokenizer)
    path = catalog.path / name
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match=rf"{name} has \d+ bytes, expected \d+: it was cut short"):
        ItemCatalog.open(catalog.path)
    path.unlink()
    with pytest.raises(ValueError, match=rf"{name} is missing"):
        ItemCatalog.open(catalog.path)


def test_manifests(tokenizer, tmp_path):
    catalog = build(tmp_path / "store", tokenizer)
    manifest, pointer = catalog.path / "manifest-000001.json", catalog.path / CURRENT
    whole = manifest.read_text()
    flip(manifest, 10)
    with pytest.raises(ValueError, match="another checksum than CURRENT"):
        ItemCatalog.open(catalog.path)
    manifest.write_text(whole.replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(ValueError, match=r"format version 2; this tsporec reads up to 1. Upgrade"):
        point_to(catalog.path)
    manifest.unlink()
    with pytest.raises(ValueError, match=r"manifest-000001\.json is missing"):
        ItemCatalog.open(catalog.path)
    pointer.write_text("{")
    with pytest.raises(ValueError, match="CURRENT is damaged"):
        ItemCatalog.open(catalog.path)
    pointer.unlink()
    with pytest.raises(ValueError, match="there is no catalogue"):
        ItemCatalog.open(catalog.path)


def point_to(folder):
    name = "manifest-000001.json"
    (folder / CURRENT).write_text(json.dumps({"manifest": name, "sha256": files.sha256(folder / name)}))
    return ItemCatalog.open(folder)


@pytest.mark.parametrize("data", [b"", b"1234567", b"\xff" * 8, (9).to_bytes(8, "little") + b"not json!"])
def test_what_is_not_safetensors_is_refused(tmp_path, data):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(ValueError, match=r"too few|damaged"):
        files.map_tensors(tmp_path / "file")


def test_a_full_disk_leaves_the_last_state(tokenizer, tmp_path, monkeypatch):
    catalog = build(tmp_path / "store", tokenizer)
    before = sorted(path.name for path in catalog.path.rglob("*"))

    def full(handle, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            files.write_whole(catalog.path / CURRENT, b"x")
    assert sorted(path.name for path in catalog.path.rglob("*")) == before
    check(ItemCatalog.open(catalog.path), ITEMS, tokenizer)


def test_a_disk_that_fills_up_at_any_write_leaves_the_last_state(tokenizer, tmp_path, monkeypatch):
    write, left = os.write, 0

    def fill_up(handle, data):
        nonlocal left
        left -= 1
        if left >= 0:
            return write(handle, data)
        write(handle, bytes(data[: len(data) // 2]))
        raise OSError(errno.ENOSPC, "No space left on device")

    few, changed = ITEMS[:30], [Item("item-3", {"title": "gel pen"})]
    after = [*(item for item in few if item.id != "item-3"), *changed]
    path = tmp_path / "store"
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fill_up)
        for room in range(100):
            left = room
            try:
                build(path, tokenizer, few)
                break
            except OSError:
                assert not list(path.rglob("*.tmp"))
                with pytest.raises(ValueError, match="there is no catalogue"):
                    ItemCatalog.open(path)
        assert room > 4  # finished shards need not be written again
        for room in range(100):
            left = room
            try:
                ItemCatalog.open(path).update(changed, tokenizer=tokenizer, selector=TiedScorer())
                break
            except OSError:
                check(ItemCatalog.open(path), few, tokenizer)
        assert room > 2
    check(ItemCatalog.open(path), after, tokenizer)


def test_a_limit_on_file_sizes_stops_a_build_that_then_goes_on(tokenizer, tmp_path):
    path = tmp_path / "store"
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (900, resource.RLIM_INFINITY))  # within the second shard
            build(path, tokenizer, [*ITEMS[:1], *make_items(60)[1:]])
        except OSError:
            os._exit(3)
        finally:
            os._exit(0)
    assert os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 3
    assert not list(path.rglob("*.tmp"))
    check(build(path, tokenizer), ITEMS, tokenizer)


# -- two writers


def test_the_second_writer_is_told_who_the_first_is(tokenizer, tmp_path):
    path = tmp_path / "store"
    catalog = build(path, tokenizer)
    with StoreLock(path) as lock:
        for write in (
            lambda: build(path, tokenizer, overwrite=True),
            lambda: catalog.update(delete=["item-1"], tokenizer=tokenizer, selector=TiedScorer()),
            lambda: ItemCatalog.prune(path),
        ):
            with pytest.raises(ValueError, match=f"written by writer {lock.id} .process {os.getpid()}"):
                write()
        check(ItemCatalog.open(path), ITEMS, tokenizer)  # readers are not held up
    assert build(path, tokenizer, overwrite=True).snapshot == 2


def test_a_dead_writers_lock_is_free(tmp_path):
    child = os.fork()
    if child == 0:
        StoreLock(tmp_path).__enter__()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert json.loads((tmp_path / LOCK).read_text())["pid"] == child
    with StoreLock(tmp_path):
        pass


def test_a_fork_does_not_take_the_lock_with_it(tmp_path):
    ready, done = os.pipe(), os.pipe()
    with StoreLock(tmp_path):
        child = os.fork()
        if child == 0:
            os.write(ready[1], b"1")
            os.read(done[0], 1)
            os._exit(0)
        os.read(ready[0], 1)
    with StoreLock(tmp_path):
        pass
    os.write(done[1], b"1")
    os.waitpid(child, 0)


def test_readers_see_whole_snapshots_while_a_writer_works(tokenizer, tmp_path):
    path = tmp_path / "store"
    build(path, tokenizer)
    stop, faults = threading.Event(), []

    def read():
        while not stop.is_set():
            try:
                catalog = ItemCatalog.open(path)
                assert len(list(catalog)) == len(catalog) == 60 + catalog.snapshot - 1
            except Exception as error:
                faults.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for n in range(8):
            new = [Item(f"new-{n}", {"title": "pen"})]
            ItemCatalog.open(path).update(new, tokenizer=tokenizer, selector=TiedScorer())
    finally:
        stop.set()
        reader.join()
    assert not faults
    assert np.array_equal(ItemCatalog.open(path).lookup(["new-0"]).ids, ItemCatalog.open(path)["new-7"])


def test_a_dead_worker_is_an_error_and_the_build_goes_on(tokenizer, tmp_path):
    path = tmp_path / "store"
    with pytest.raises(RuntimeError, match="a worker process died"):
        ItemCatalog.build(
            ITEMS, path=path, tokenizer=tokenizer, selector=DeadlyScorer(), budget=Budget(tokens=4),
            num_proc=2, start_method="fork", **OPTIONS,
        )  # fmt: skip
    check(build(path, tokenizer), ITEMS, tokenizer)


class DeadlyScorer(TiedScorer):
    def score(self, tokens):
        os.kill(os.getpid(), signal.SIGKILL)
