"""Names that every docstring example may use without importing them."""

from __future__ import annotations

import gc
import os
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def names_in_examples(doctest_namespace: dict[str, Any]) -> None:
    """``np`` and ``torch``."""
    doctest_namespace |= {"np": np, "torch": torch}


@pytest.fixture(scope="module", autouse=True)
def frozen() -> None:
    """Leave what was made so far, imported modules above all, out of garbage collections.

    Collections visit every object that is left: they slow down a long run, and copy the memory of a forked child.
    """
    gc.collect()
    gc.freeze()
