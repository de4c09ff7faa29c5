"""Fits that stop at once, and graphs that are not compiled: what pages print of qualities is not compared."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from tests.conftest import make_fits_quick


@pytest.fixture
def quick(monkeypatch):
    make_fits_quick(monkeypatch)
    # Inductor is run in tests/selector/test_model.py.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
