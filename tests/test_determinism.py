"""The same text gives the same scores: in any batch, with any threads, on every CPU that torch can emulate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.conftest import random_tokens
from tsporec import TokenSelector
from tsporec.selector.config import SelectorConfig


def trained(tokenizer, hidden):
    """A selector whose network says something of every token."""
    rng = np.random.default_rng(1)
    config = SelectorConfig(dim=16, hidden=hidden, gram_buckets=512, surface_buckets=512)
    selector = TokenSelector(config).for_tokenizer(tokenizer)
    selector.fit(random_tokens(rng, 50, len(tokenizer), 40))
    with torch.no_grad():
        for weight in selector.parameters():  # torch's own random numbers differ between instruction sets
            weight.copy_(torch.from_numpy(rng.normal(0, 0.5, weight.shape)))
    return selector


@pytest.mark.parametrize("hidden", [3, 5, 7, 11, 32])
def test_a_text_alone_and_in_a_batch(tokenizer, hidden):
    selector = trained(tokenizer, hidden)
    tokens = random_tokens(np.random.default_rng(0), 60, len(tokenizer), 150)
    whole = selector.score(tokens)
    for i in range(len(tokens)):
        part = whole[tokens.cu_seqlens[i] : tokens.cu_seqlens[i + 1]]
        np.testing.assert_array_equal(selector.score(tokens.take([i])), part)


def test_threads_and_instruction_sets_give_the_same_bits():
    """Of scores, selections and preferences: in this process, and in two that are started with other settings.

    ``python -m benchmarks.parity`` compares more, in more settings.
    """
    pytest.importorskip("datasets")
    pytest.importorskip("lmdb")
    from benchmarks import parity

    parts = ["scores", "preferences"]
    children = [
        parity.start(["--cell", "--parts", ",".join(parts)], ATEN_CPU_CAPABILITY=capability, OMP_NUM_THREADS=threads)
        for capability, threads in (("default", 1), ("avx2", 2))
    ]
    found = [parity.cell(parts), *map(parity.finish, children)]
    # A centroid score that lies at the edge between two rounded values may fall to either side.
    digests = [{name: one[name] for name in one if not name.endswith("centroid")} for one in found]
    assert digests[0] == digests[1] == digests[2]
