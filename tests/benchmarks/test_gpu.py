"""The prepared GPU script runs to its end without a GPU too."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import gpu
from tests.topk.cuda_driver import compiler
from tsporec.topk import kernels


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: run `python -m benchmarks.gpu`")
def test_it_checks_and_times_the_stand_in(tmp_path, monkeypatch, capsys):
    pytest.importorskip("cuda.core", reason="cuda-core is not installed", exc_type=ImportError)
    compiler()
    monkeypatch.setattr(gpu, "SHAPES", {"short": (0, 40, 0, 5), "long": (257, 300, 0, 1)})
    assert gpu.main(["--output", str(tmp_path / "gpu.json")]) == 0
    printed = capsys.readouterr().out
    assert "There is no GPU here" in printed
    assert "| bfloat16 | long | 16 | 0 |" in printed
    written = json.loads((tmp_path / "gpu.json").read_text())
    assert written["driver"] == "stand-in"
    assert set(written["compiled"]["kernels"]) == set(kernels.NAMES)
    assert set(written["timed"]) >= {"float32", "float16", "bfloat16"}


def test_a_wrong_kernel_is_reported(monkeypatch):
    right = gpu.reference.mask
    monkeypatch.setattr(gpu.cuda, "select", gpu.reference.select)
    monkeypatch.setattr(gpu.cuda, "mask", lambda *inputs: ~right(*inputs))
    tallies = gpu.compared("cpu", {"short": (3, 40, 0, 5)})
    assert tallies["float32"]["short"] == {"segments": 16 * 5, "wrong": 16}
