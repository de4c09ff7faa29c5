"""Whatever happens to a writer or to the file: the last committed state is there, and faults are named."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import threading
import time
import traceback

import pytest

from tests.catalog.test_catalog import TiedScorer, expected, make_items, same
from tsporec.budget import Budget
from tsporec.catalog import store as stores
from tsporec.catalog.catalog import ItemCatalog
from tsporec.catalog.integrity import DATA
from tsporec.catalog.store import Store, writer_lock
from tsporec.data.items import Item

OPTIONS = {"commit_items": 10, "chunk_items": 5}
ITEMS = make_items(60)
CHANGED = [Item("item-3", {"title": "gel pen"}), *(Item(f"new-{n}", {"title": "stapler"}) for n in range(30))]
AFTER = [*(item for item in ITEMS if item.id not in ("item-3", "item-7")), *CHANGED]


def build(path, tokenizer, items=ITEMS, selector=None, **options):
    return ItemCatalog.build(
        items, path=path, tokenizer=tokenizer, selector=selector or TiedScorer(), budget=4, **{**OPTIONS, **options}
    )


def update(path, tokenizer, items=CHANGED, delete=("item-7",), **options):
    return ItemCatalog.open(path).update(
        items, delete=delete, tokenizer=tokenizer, selector=TiedScorer(), **{**OPTIONS, **options}
    )


def check(catalog, items, tokenizer):
    catalog.verify()
    ids = [item.id for item in items]
    assert len(catalog) == len(ids)
    assert list(catalog) == sorted(ids)
    assert same(catalog.lookup(ids), expected(items, tokenizer, Budget(tokens=4)))


def in_child(work) -> int:
    """Run ``work`` in a fork; its exit code, 0 for none and 1 for an exception, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = work() or 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# -- kill -9


def kill_at(at: int) -> None:
    """Kill this process at the ``at``-th event: a transaction begins, a record is put, a transaction is committed."""
    left = at

    def count():
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    from tsporec.catalog import changes

    write = Store.write

    def counted(put):
        def counted_put(self, *args):
            count()
            return put(self, *args)

        return counted_put

    @contextlib.contextmanager
    def counted_write(self):
        count()
        with write(self) as txn:
            yield txn
        count()

    changes.Build.put, changes.Update.put = counted(changes.Build.put), counted(changes.Update.put)
    Store.write = counted_write


def test_a_build_killed_at_random_points_goes_on(tokenizer, tmp_path):
    resumed = 0
    for number in range(25):
        path, at = tmp_path / str(number), random.Random(number).randint(1, 76)

        def killed(path=path, at=at):
            kill_at(at)
            build(path, tokenizer)

        assert in_child(killed) == -signal.SIGKILL, f"not killed at call {at}"
        try:
            check(ItemCatalog.open(path), ITEMS, tokenizer)
        except ValueError as error:
            assert "unfinished" in str(error) or "there is no catalogue" in str(error)  # noqa: PT017
            catalog = build(path, tokenizer)
            assert catalog.report.items + catalog.report.resumed == len(ITEMS)
            resumed += catalog.report.resumed
            check(catalog, ITEMS, tokenizer)
    assert resumed > 0


def test_an_update_killed_at_random_points_leaves_one_state_or_the_other(tokenizer, tmp_path):
    build(tmp_path / "store", tokenizer)
    gc.collect()
    states = set()
    for number in range(18):
        path = shutil.copytree(tmp_path / "store", tmp_path / str(number))

        def killed(path=path, number=number):
            kill_at(random.Random(number).randint(1, 40) if number % 3 else 41)
            update(path, tokenizer)

        assert in_child(killed) == -signal.SIGKILL
        before = "new-0" not in ItemCatalog.open(path)
        states.add(before)
        check(ItemCatalog.open(path), ITEMS if before else AFTER, tokenizer)
        check(update(path, tokenizer, delete=["item-7"] if before else []), AFTER, tokenizer)
    assert states == {True, False}


def test_writers_killed_by_the_clock(tokenizer, tmp_path):
    path = tmp_path / "store"
    build(path, tokenizer)
    rng = random.Random(0)
    for number in range(20):
        child = os.fork()
        if child == 0:
            try:
                for n in range(1000):
                    update(path, tokenizer, [Item(f"n-{n}", {"title": f"pen {number}"})], [])
            finally:
                os._exit(1)
        time.sleep(0.01 + 0.1 * rng.random())
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        catalog = ItemCatalog.open(path)
        catalog.verify()
        assert len(catalog) == len(list(catalog)) >= 60


def test_a_killed_build_takes_its_workers_with_it(tokenizer, tmp_path):
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
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        check(build(path, tokenizer, overwrite=True), ITEMS, tokenizer)  # it waits until the workers are gone
        for _ in range(100):
            try:
                os.killpg(child, 0)
            except ProcessLookupError:
                break
            time.sleep(0.1)
        else:
            pytest.fail("the workers of a killed build live on")


class DeadlyScorer(TiedScorer):
    def score(self, tokens):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_dead_worker_is_an_error_and_the_build_goes_on(tokenizer, tmp_path):
    path = tmp_path / "store"
    with pytest.raises(RuntimeError, match="a worker process died"):
        build(path, tokenizer, selector=DeadlyScorer(), num_proc=2, start_method="fork")
    check(build(path, tokenizer), ITEMS, tokenizer)


# -- going on


def cut_off(path, tokenizer, items=ITEMS, stop=45, **options):
    def source():
        yield from items[:stop]
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="source broke"):
        build(path, tokenizer, source(), **options)


def test_an_unfinished_build_does_not_open_and_goes_on(tokenizer, tmp_path):
    path = tmp_path / "store"
    cut_off(path, tokenizer)
    with pytest.raises(ValueError, match=r"unfinished: its build was cut off\. Run the same build again"):
        ItemCatalog.open(path)
    with pytest.raises(ValueError, match="is unfinished"):
        ItemCatalog.open(path).update([], tokenizer=tokenizer, selector=TiedScorer())
    with pytest.raises(ValueError, match=r"unfinished build that differs in fields"):
        build(path, tokenizer, fields=["title"])
    cut_off(path, tokenizer, stop=52)
    catalog = build(path, tokenizer)
    assert (catalog.report.resumed, catalog.report.items) == (50, 10)
    check(catalog, ITEMS, tokenizer)


def test_what_changed_meanwhile_is_done_again_and_what_is_gone_is_removed(tokenizer, tmp_path):
    path = tmp_path / "store"
    cut_off(path, tokenizer)
    items = [Item("item-0", {"title": "other"}), *reversed(ITEMS[20:])]
    catalog = build(path, tokenizer, items)
    assert (catalog.report.resumed, catalog.report.items) == (25, 16)
    check(catalog, items, tokenizer)


def test_an_id_that_comes_twice_is_found_after_going_on_too(tokenizer, tmp_path):
    path = tmp_path / "store"
    cut_off(path, tokenizer)
    for extra in (ITEMS[3], ITEMS[58], Item("item-3", {"title": "other"})):
        with pytest.raises(ValueError, match=f"'{extra.id}' comes more than once"):
            build(path, tokenizer, [*ITEMS, extra])
    check(build(path, tokenizer), ITEMS, tokenizer)


def test_an_unfinished_build_can_be_dropped(tokenizer, tmp_path):
    path = tmp_path / "store"
    cut_off(path, tokenizer)
    catalog = build(path, tokenizer, ITEMS[:25], resume=False, selector=TiedScorer(3))
    assert (len(catalog), catalog.report.resumed) == (25, 0)


def test_a_rebuild_that_is_cut_off_leaves_the_catalogue(tokenizer, tmp_path):
    path = tmp_path / "store"
    catalog = build(path, tokenizer)
    cut_off(path, tokenizer, [Item(item.id, {"title": "other"}) for item in ITEMS], overwrite=True)
    check(ItemCatalog.open(path), ITEMS, tokenizer)
    check(update(path, tokenizer), AFTER, tokenizer)
    again = build(path, tokenizer, [Item(item.id, {"title": "other"}) for item in ITEMS], overwrite=True)
    assert again.report.resumed == 45
    assert list(again) == list(catalog)
    check(catalog, ITEMS, tokenizer)


def test_a_build_without_tokens_is_not_in_the_way(tokenizer, tmp_path):
    path = tmp_path / "store"
    for options in ({}, {"commit_items": 100}):
        with pytest.raises(ValueError, match="no item has a token"):
            build(path, tokenizer, fields=["brand"], **options)
        with pytest.raises(ValueError, match="there is no catalogue"):
            ItemCatalog.open(path)
    check(build(path, tokenizer), ITEMS, tokenizer)


# -- a full disk


def test_a_file_that_may_not_grow_leaves_the_last_state(tokenizer, tmp_path):
    """With every limit on the size of a file: an OSError, and the same call goes on later."""
    path, stopped = tmp_path / "store", 0

    def limited(work, pages):
        def run():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (pages * 4096, resource.RLIM_INFINITY))
            try:
                work()
            except OSError as error:
                return 3 if str(path) in str(error) else 4
            return 0

        return in_child(run)

    for pages in range(1, 40, 2):
        code = limited(lambda: build(path, tokenizer), pages)
        assert code in (0, 3)
        if code == 0:
            break
        stopped += 1
    assert stopped > 2
    check(ItemCatalog.open(path), ITEMS, tokenizer)
    gc.collect()
    size, stopped = (path / DATA).stat().st_size // 4096, 0
    for pages in range(size, size + 40, 3):
        code = limited(lambda: update(path, tokenizer), pages)
        assert code in (0, 3)
        if code == 0:
            break
        stopped += 1
        check(ItemCatalog.open(path), ITEMS, tokenizer)
        gc.collect()
    assert stopped > 0
    check(ItemCatalog.open(path), AFTER, tokenizer)


@pytest.fixture
def disk(request, tmp_path):
    """A disk of the size that the parameter names."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={request.param}", "tmpfs", str(tmp_path)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    yield tmp_path
    gc.collect()
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


@pytest.mark.parametrize("disk", ["160k"], indirect=True)
def test_a_full_disk_leaves_the_last_state(tokenizer, disk):
    build(disk / "store", tokenizer)
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    with pytest.raises(OSError, match=r"No space left on device.*data\.mdb"):
        update(disk / "store", tokenizer, [Item(f"more-{n}", {"title": "pen"}) for n in range(3000)], [])
    check(ItemCatalog.open(disk / "store"), ITEMS, tokenizer)
    filler.unlink()
    check(update(disk / "store", tokenizer), AFTER, tokenizer)


@pytest.mark.parametrize("disk", ["512k"], indirect=True)
def test_a_disk_that_fills_while_a_catalogue_is_made_ends_no_process(tokenizer, disk):
    def limited():
        try:
            build(disk / "store", tokenizer)
        except OSError:
            return 3
        return 0

    for pages in range(16, 24):  # 17 for the locks, 2 for the first pages of the data
        with (disk / "filler").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - 4096 * pages)
        assert in_child(limited) in (0, 3), pages
        (disk / "filler").unlink()
        assert in_child(lambda: build(disk / "store", tokenizer) and 0) == 0
        shutil.rmtree(disk / "store")


# -- damage


def outcomes(path, tokenizer, **options) -> int:
    """Use a file that may be damaged, in a process of its own: 0 if all is well, 3 if an error names the file."""

    def use():
        try:
            catalog = ItemCatalog.open(path, **options)
            ids = list(catalog)
            catalog.lookup(ids, missing="empty")
            catalog.describe()
            catalog.verify()
            code = 0 if same(catalog.lookup(sorted(i.id for i in ITEMS)), want) else 4
            update(path, tokenizer).verify()
            return code
        except ValueError as error:
            return 3 if str(path) in str(error) else 5

    want = expected(sorted(ITEMS, key=lambda item: item.id), tokenizer, Budget(tokens=4))
    return in_child(use)


@pytest.mark.parametrize("verify", [False, True])
def test_damage_is_found_or_harmless_and_never_ends_the_process(tokenizer, tmp_path, monkeypatch, verify):
    if verify:  # as with a file that is too large to be checked whenever it is opened
        monkeypatch.setattr(stores, "CHECKED", 0)
    build(tmp_path / "store", tokenizer)
    gc.collect()
    whole, rng = (tmp_path / "store" / DATA).read_bytes(), random.Random(0)
    path, found = tmp_path / "copy", []
    path.mkdir()
    for number in range(60):
        data = bytearray(whole)
        if number % 4 == 0:
            del data[rng.randrange(len(data)) :]
        elif number % 4 == 1:
            start = rng.randrange(len(data))
            data[start : start + 64] = rng.randbytes(min(64, len(data) - start))
        else:
            page = rng.randrange(len(data) // 4096) * 4096  # its head says what is in it
            for _ in range(rng.randint(1, 4)):
                data[page + rng.randrange(64 if number % 4 == 2 else 4096)] = rng.choice([0, 255, rng.randrange(256)])
        (path / DATA).write_bytes(data)
        (path / "lock.mdb").unlink(missing_ok=True)
        found.append(outcomes(path, tokenizer, verify=verify))
    assert set(found) <= {0, 3}
    assert found.count(3) > 20


def test_a_changed_record_is_found_by_its_checksum(tokenizer, tmp_path):
    catalog = build(tmp_path / "store", tokenizer)
    record = catalog._view.get([b"item-5"])[0]
    path = tmp_path / "copy"
    path.mkdir()
    data = (catalog.path / DATA).read_bytes()
    (path / DATA).write_bytes(data.replace(record, record[:-3] + bytes([record[-3] ^ 1]) + record[-2:]))
    with pytest.raises(ValueError, match=r"copy/data\.mdb is damaged.*checksum of the record of b'item-5'"):
        ItemCatalog.open(path).verify()


@pytest.mark.parametrize("data", [b"1234567", b"\xff" * 9000, bytes(8192)])
def test_what_is_no_catalogue_is_refused(tokenizer, tmp_path, data):
    (tmp_path / DATA).write_bytes(data)
    for use in (lambda: ItemCatalog.open(tmp_path), lambda: build(tmp_path, tokenizer)):
        with pytest.raises(ValueError, match=r"data\.mdb is damaged or no catalogue"):
            use()


def test_another_database_is_no_catalogue(tmp_path):
    import lmdb

    with lmdb.open(str(tmp_path)) as env, env.begin(write=True) as txn:
        txn.put(b"key", b"value")
    with pytest.raises(ValueError, match="there is no catalogue"):
        ItemCatalog.open(tmp_path)
    with pytest.raises(ValueError, match="there is no catalogue"):
        ItemCatalog.open(tmp_path / "nowhere")


# -- several writers and readers


def test_the_second_writer_is_told_who_the_first_is(tokenizer, tmp_path, monkeypatch):
    path = tmp_path / "store"
    build(path, tokenizer)
    monkeypatch.setattr(stores, "PATIENCE", 0)
    with writer_lock(path):
        for write in (lambda: build(path, tokenizer, overwrite=True), lambda: update(path, tokenizer)):
            with pytest.raises(ValueError, match=f"is in use by process {os.getpid()} on "):
                write()
        check(ItemCatalog.open(path), ITEMS, tokenizer)  # readers are not held up
    check(update(path, tokenizer), AFTER, tokenizer)


@pytest.mark.parametrize("name", ["lock.mdb", "writer.lock", "writer.txt"])
def test_links_are_not_written_through(tokenizer, tmp_path, name):
    path, other = tmp_path / "store", tmp_path / "precious"
    build(path, tokenizer)
    gc.collect()  # the environment is closed
    other.write_text("precious")
    (path / name).unlink(missing_ok=True)
    (path / name).symlink_to(other)
    with pytest.raises(ValueError, match=f"{name} is a link"):
        update(path, tokenizer)
    assert other.read_text() == "precious"
    (path / name).unlink()
    check(update(path, tokenizer), AFTER, tokenizer)


def test_readers_see_whole_states_while_a_writer_works(tokenizer, tmp_path):
    path = tmp_path / "store"
    first = build(path, tokenizer)
    stop, faults = threading.Event(), []

    def read():
        while not stop.is_set():
            try:
                catalog = ItemCatalog.open(path)
                for one in (catalog, first):
                    assert len(list(one)) == len(one) == len(one.lookup(list(one)))
                assert len(first) == 60
            except Exception as error:
                faults.append(error)

    readers = [threading.Thread(target=read) for _ in range(4)]
    [reader.start() for reader in readers]
    try:
        for n in range(20):
            update(path, tokenizer, [Item(f"new-{n}", {"title": "pen"})], [])
        build(path, tokenizer, overwrite=True)
    finally:
        stop.set()
        [reader.join() for reader in readers]
    assert not faults
    check(ItemCatalog.open(path), ITEMS, tokenizer)


def test_a_fork_opens_the_catalogue_again_and_its_parent_keeps_its_state(tokenizer, tmp_path):
    path = tmp_path / "store"
    old = build(path, tokenizer)
    update(path, tokenizer)

    def child():
        assert len(old) == len(AFTER)  # the newest state
        check(old, AFTER, tokenizer)
        for n in range(5):  # whose pages are not those that the parent reads
            update(path, tokenizer, [Item(item.id, {"title": f"pen {n}"}) for item in AFTER], [])
        grandchild = in_child(lambda: 0 if len(old) == len(AFTER) else 1)
        return grandchild or int(len(ItemCatalog.open(path)) != len(AFTER))

    assert in_child(child) == 0
    check(old, ITEMS, tokenizer)
    assert same(
        ItemCatalog.open(path).lookup(["new-1"]), expected([Item("", {"title": "pen 4"})], tokenizer, Budget(tokens=4))
    )
    check(pickle.loads(pickle.dumps(build(path, tokenizer, overwrite=True))), ITEMS, tokenizer)


def test_threads_may_look_up_while_another_forks(tokenizer, tmp_path):
    catalog = build(tmp_path / "store", tokenizer)
    stop = threading.Event()

    def read():
        while not stop.is_set():
            catalog.lookup(["item-1", "item-2"])

    readers = [threading.Thread(target=read) for _ in range(4)]
    [reader.start() for reader in readers]
    try:
        assert {in_child(lambda: int(len(list(catalog)) != 60)) for _ in range(20)} == {0}
    finally:
        stop.set()
        [reader.join() for reader in readers]


def test_a_folder_that_was_removed_and_made_again(tokenizer, tmp_path):
    path = tmp_path / "store"
    old = build(path, tokenizer)
    shutil.rmtree(path)
    check(build(path, tokenizer, AFTER), AFTER, tokenizer)
    assert len(old.lookup(list(old))) == 60


def test_a_folder_that_may_not_be_written_is_read(tokenizer, tmp_path, monkeypatch):
    path = tmp_path / "store"
    build(path, tokenizer)
    gc.collect()
    names = sorted(file.name for file in path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        catalog = ItemCatalog.open(path)
    check(catalog, ITEMS, tokenizer)
    with pytest.raises(OSError, match=r"data\.mdb"):
        catalog.update([], delete=["item-1"], tokenizer=tokenizer, selector=TiedScorer())
    assert sorted(file.name for file in path.iterdir()) == names

    def write():
        nonlocal catalog
        catalog = None  # the child has no environment of it
        gc.collect()
        update(path, tokenizer)

    assert in_child(write) == 0
    check(catalog, AFTER, tokenizer)  # it cannot hold a state, so it shows the newest


# -- the memory map


def test_a_map_that_is_full_grows(tokenizer, tmp_path, monkeypatch):
    path = tmp_path / "store"
    monkeypatch.setattr(stores, "RESERVED", 1 << 15)
    check(build(path, tokenizer), ITEMS, tokenizer)
    catalog, items = ItemCatalog.open(path), make_items(3000)
    larger = update(path, tokenizer, items, [], commit_items=100_000)
    check(larger, items, tokenizer)
    with pytest.raises(ValueError, match=r"outgrown the memory map.*Open it again"):
        catalog.lookup(["item-1"])
    gc.collect()
    assert (
        in_child(
            lambda: len(update(path, tokenizer, make_items(9000), [], chunk_items=1000, commit_items=5000)) // 9000 - 1
        )
        == 0
    )
    assert len(ItemCatalog.open(path)) == 9000
