"""The fuzzer finds what it says it finds, and finds nothing in a few inputs of each target."""

from __future__ import annotations

import os
import random
import signal
import sys
import time

import pytest

from benchmarks import fuzz
from benchmarks.fuzz_targets import TARGETS, Target

pytest.importorskip("lmdb")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")


@pytest.mark.parametrize("name", TARGETS)
def test_a_few_inputs_give_documented_errors_alone(name, tmp_path):
    TARGETS[name].prepare()
    found = [fuzz.try_input(TARGETS[name], 1, number, tmp_path) for number in range(60)]
    assert [finding for _, finding in found if finding] == []
    assert any(refused for refused, _ in found) == bool(TARGETS[name].documented)


def crash(rng, folder):
    os.kill(os.getpid(), signal.SIGKILL)


def hang(rng, folder):
    time.sleep(60)


def fill(rng, folder):
    bytearray(1 << 34)


def odd(rng, folder):
    way = rng.randrange(1000)
    raise (ValueError("no name"), UnicodeError("of x"), KeyError("of x"))[way] if way < 3 else ValueError("of x")


@on_linux
@pytest.mark.parametrize(
    ("attempt", "fault", "limit"),
    [(crash, "ended with code -9", 2.0), (hang, "took more", 0.1), (fill, "MemoryError", 2.0)],
)
def test_crashes_hangs_and_bombs_are_findings(monkeypatch, attempt, fault, limit):
    """A process that sleeps is given ten times the limit."""
    monkeypatch.setattr(fuzz, "HANG", limit)
    part = fuzz.fuzz_apart(Target("bad", attempt), 0, 7, 0)
    assert part["inputs"] == 1
    assert part["findings"]["7"].startswith(fault)


@on_linux
def test_a_second_run_goes_on_and_tries_findings_again(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "KEPT", 5)
    target, path = Target("odd", odd, (ValueError,), "of x"), tmp_path / "fuzz.json"
    first = fuzz.run([target], 0.01, 0, path)["targets"]["odd"]
    assert 0 < first["refused"] <= first["inputs"] - first["found"]
    assert 0 < first["found"] == len(first["open"]) <= 5
    known = {"ValueError without 'of x': no name", "UnicodeError without 'of x': of x", "KeyError: 'of x'"}
    assert set(first["open"].values()) <= known
    second = fuzz.run([Target("odd", lambda *_: None)], 0.003, 0, path)
    assert second["targets"]["odd"]["inputs"] > first["inputs"]
    assert not second["targets"]["odd"]["open"]
    assert "| odd |" in fuzz.table(second)
    with pytest.raises(ValueError, match="has another seed"):
        fuzz.run([target], 0.001, 1, path)


def test_an_input_is_made_again_from_its_number():
    def draws(number):
        drawn = []
        fuzz.try_input(Target("one", lambda rng, _: drawn.append(rng.random())), 0, number, None)
        return drawn

    assert draws(3) == draws(3) != draws(4)
    assert random.Random("0 one 3").random() == draws(3)[0]
