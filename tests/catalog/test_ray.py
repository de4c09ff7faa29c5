"""The build by Ray Data on a local cluster, a worker killed in the middle."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

ray = pytest.importorskip("ray", reason="the extra ray is not installed")
pytest.importorskip("ray.data", reason="the extra ray is not installed")

from tests.catalog.test_catalog import TiedScorer, expected, make_items, same  # noqa: E402
from tsporec.budget import Budget  # noqa: E402
from tsporec.catalog.catalog import ItemCatalog  # noqa: E402
from tsporec.catalog.ray import build_with_ray  # noqa: E402

ITEMS = make_items(240)


class KilledOnce(TiedScorer):
    """Kills its worker process the first time it is asked in the middle of a build."""

    def __init__(self, flag: str) -> None:
        super().__init__()
        self.flag = flag

    def score(self, tokens):
        calls = Path(f"{self.flag}-{os.getpid()}")
        with calls.open("a") as file:
            file.write("x")
        if len(calls.read_text()) == 2 and not Path(self.flag).exists():
            Path(self.flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().score(tokens)


@pytest.fixture(scope="module")
def cluster():
    here = Path(__file__).parent
    roots = f"{here.parent}{os.pathsep}{here}"
    for _ in range(3):
        try:
            ray.init(
                num_cpus=3, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": roots}},
                log_to_driver=False,
            )  # fmt: skip
            break
        except Exception as error:  # it waits for thirty seconds, and raises nothing more precise
            ray.shutdown()
            if "timed out during startup" not in str(error):
                raise
    else:
        pytest.skip("Ray gave up starting on this busy machine, three times")
    yield
    ray.shutdown()


def test_a_killed_worker_loses_and_doubles_nothing(cluster, tokenizer, tmp_path):
    source = tmp_path / "items"
    source.mkdir()
    for part in range(6):
        rows = [{"id": i.id, **i.fields} for i in ITEMS[part * 40 : part * 40 + 40]]
        (source / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flag = tmp_path / "killed"
    catalog = build_with_ray(
        source, tokenizer=tokenizer, selector=KilledOnce(str(flag)), budget=Budget(tokens=4),
        path=tmp_path / "store", batch_items=20, workers=2,
    )  # fmt: skip
    assert flag.exists()
    pids = {p.name.split("-")[1] for p in tmp_path.glob("killed-*")}
    assert len(pids) >= 3  # two workers, and the one that took a dead one's place
    catalog.verify()
    assert len(catalog) == len(set(catalog)) == len(ITEMS)
    assert same(catalog.lookup([i.id for i in ITEMS]), expected(ITEMS, tokenizer, Budget(tokens=4)))


def test_a_build_goes_on_and_checks_what_build_checks(cluster, tokenizer, tmp_path):
    options = {"tokenizer": tokenizer, "selector": TiedScorer(), "budget": 4, "path": tmp_path / "store"}

    def cut():
        yield from ITEMS[:150]
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="source broke"):
        ItemCatalog.build(cut(), **options, chunk_items=50)
    rows = ray.data.from_items([{"id": item.id, **item.fields} for item in ITEMS])
    catalog = build_with_ray(rows, **options, batch_items=80, workers=1)
    assert (catalog.report.resumed, catalog.report.items) == (150, 90)
    assert same(catalog.lookup([i.id for i in ITEMS]), expected(ITEMS, tokenizer, Budget(tokens=4)))
    with pytest.raises(ValueError, match="holds a catalogue already"):
        build_with_ray(rows, **options)
    fitted = {"tokenizer": tokenizer, "budget": 4}
    counted = build_with_ray(rows, **fitted, path=tmp_path / "counted", batch_items=80)
    want = ItemCatalog.build(ITEMS, **fitted, path=tmp_path / "want")
    assert counted.recipe == want.recipe
    assert counted.recipe.frequencies == want.recipe.frequencies == "counted from 240 texts"
    assert same(counted.lookup(list(want)), want.lookup(list(want)))
    with pytest.raises(ValueError, match="no item has a token"):
        build_with_ray(rows, **{**options, "path": tmp_path / "other"}, fields=["brand"])
