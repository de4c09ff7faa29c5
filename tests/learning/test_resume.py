"""Steps are done once, folders are held by one process, and leftovers are removed."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from tsporec.learning.resume import keep, result, step, working_in


def hold(folder: Path, ready) -> None:
    """Work in ``folder`` until killed."""
    with working_in(folder, {}):
        ready.send(os.getpid())
        signal.pause()


def test_a_second_process_is_refused_and_the_lock_dies_with_the_first(tmp_path):
    processes = multiprocessing.get_context("forkserver")
    ours, theirs = processes.Pipe()
    first = processes.Process(target=hold, args=(tmp_path / "run", theirs))
    first.start()
    pid = ours.recv()
    with pytest.raises(ValueError, match=f"in use by process {pid} on "), working_in(tmp_path / "run", {}):
        pass
    os.kill(pid, signal.SIGKILL)
    first.join()
    with working_in(tmp_path / "run", {}):
        pass


def test_leftovers_are_removed_when_work_goes_on(tmp_path):
    (tmp_path / ".selector.part").mkdir(parents=True)
    (tmp_path / ".selector.part" / "half").write_text("")
    (tmp_path / "rounds").mkdir()
    (tmp_path / "rounds" / ".round.json.0123abcd.tmp").write_text("{")
    kept = {".yours.tmp", ".model.safetensors.0123abcd.tmp"}  # the second is what a killed save of a selector needs
    for name in kept:
        (tmp_path / "rounds" / name).write_text("")
    with working_in(tmp_path, {}):
        assert {path.name for path in (tmp_path / "rounds").iterdir()} == kept
        step(tmp_path / "selector", lambda part: None)
        assert not (tmp_path / ".selector.part").exists()


def test_other_arguments_are_refused_and_named(tmp_path):
    one = {"budgets": (8,), "seed": 0, "reward": None, "network": {"dim": 8, "layers": 1}}
    two = {"budgets": (8, 16), "seed": 0, "reward": "mine", "network": {"dim": 16, "layers": 1}}
    found = (
        r"holds a run with other arguments: budgets was \[8\], is now \[8, 16\]; reward was null, is now mine; "
        r"network.dim was 8, is now 16\. Give another folder"
    )
    with working_in(tmp_path / "a", one):
        pass
    with working_in(tmp_path / "a", one):
        pass
    with pytest.raises(ValueError, match=found), working_in(tmp_path / "a", two):
        pass
    step(tmp_path / "b", lambda part: None, one)
    with pytest.raises(ValueError, match=found):
        step(tmp_path / "b", lambda part: None, two)


def test_a_step_is_whole_or_absent_and_made_once(tmp_path):
    def fails(part: Path) -> None:
        (part / "half").write_text("")
        raise KeyboardInterrupt

    def works(part: Path) -> None:
        assert list(part.iterdir()) == []
        (part / "whole").write_text("")

    with pytest.raises(KeyboardInterrupt):
        step(tmp_path / "a.b", fails)
    assert not (tmp_path / "a.b").exists()
    step(tmp_path / "a.b", works)
    step(tmp_path / "a.b", fails)
    assert [path.name for path in (tmp_path / "a.b").iterdir()] == ["whole"]


def test_damaged_results_are_named(tmp_path):
    path = tmp_path / "found.json"
    assert result(path) is None
    assert keep(path, {"ndcg": 0.25}) == result(path) == {"ndcg": 0.25}
    whole = path.read_text()
    for damaged in ("{", "[]", whole.replace("0.25", "0.35"), "null", "\xff"):
        path.write_text(damaged, encoding="latin-1")
        with pytest.raises(ValueError, match=r"found\.json is damaged .*delete it"):
            result(path)
