"""The batches of the examples, uncompressed, are those that the recommenders' own code makes.

``tests/golden/NAME.json`` holds what that code made, and at which commit; ``python -m tests.upstream.cases`` made it.
"""

from __future__ import annotations

import json

import pytest

from tests.upstream.cases import GOLDEN, INPUTS, ours, word_tokenizer


@pytest.mark.parametrize("name", INPUTS)
def test_our_batch_is_theirs(name):
    pytest.importorskip({"sdpo": "trl", "tallrec": "peft"}.get(name, "torch"))
    golden = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    assert ours(name, golden["inputs"], word_tokenizer(golden["vocabulary"], name != "sdpo")) == golden["batch"]
