"""Fits that stop at once, and graphs that are not compiled: what pages print of qualities is not compared."""

from __future__ import annotations

from dataclasses import fields
from functools import partial

import pytest
import torch

from tsporec.recommenders.embedding import EmbeddingConfig


@pytest.fixture
def quick(monkeypatch):
    quick = {"eval_every": 5, "patience": 1}
    defaults = tuple(quick.get(field.name, field.default) for field in fields(EmbeddingConfig))
    monkeypatch.setattr(EmbeddingConfig.__init__, "__defaults__", defaults)
    # Inductor is run in tests/selector/test_model.py.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
