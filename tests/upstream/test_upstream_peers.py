"""The collator tests of transformers and TRL pass on wrapped collators where they pass at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.upstream import upstream

HERE = Path(__file__).parent


@pytest.mark.parametrize(("name", "least"), [("transformers", 79), ("trl", 25)])
def test_what_passes_plain_passes_wrapped(name, least):
    found = subprocess.run(
        [sys.executable, HERE / "peers.py", upstream.checkout(name)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HERE.parent.parent)},
    ).stdout
    print(found)
    counts = json.loads(found[found.index("\n{\n") :])
    assert counts["pass plain only"] == []
    assert counts["pass wrapped"] >= least
    assert counts["tokens that went through selection"] > 0
