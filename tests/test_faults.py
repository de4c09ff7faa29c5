"""Whatever happens to what writes files: the last good state is there, and a rerun ends at the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("accelerate")
pytest.importorskip("datasets")
pytest.importorskip("lmdb")

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the program reads /proc")
def test_the_program_finds_nothing(tmp_path):
    """In a process of its own, because it forks: training has a test in learning/test_pipeline.py."""
    given = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.faults", "--works", "collect,build,update,save", "--kills", "3"]
    command += ["--faults", "kill,clock,damage"]  # the others need the right to mount, or take long
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "faults.json")], capture_output=True, text=True, env=given, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    works = json.loads((tmp_path / "faults.json").read_text())["works"]
    assert all(work["kill"]["kills"] == 3 for work in works.values())
