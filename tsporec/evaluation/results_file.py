"""Write results files: numbers with the commit, seed, versions and hardware that they were measured with."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from tsporec._internal.files import write_whole

_PACKAGES = ("tsporec", "torch", "transformers", "tokenizers", "numpy", "python")


def environment(seed: int) -> dict[str, Any]:
    """Return commit, seed, versions and hardware as they are now. Call it when a run starts."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "commit": _commit(),
        "seed": seed,
        "versions": {name: _version(name) for name in _PACKAGES},
        "hardware": {"cpu": _cpu(), "cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpu": gpu},
    }


def write_results(path: str | Path, results: dict[str, Any], origin: dict[str, Any]) -> Path:
    """Write ``results`` and ``origin`` to ``path`` as JSON; the file is whole or absent.

    ``origin`` is what :func:`environment` returned *before* the run: after it the tree may be at another commit.

    >>> import tempfile
    >>> write_results(Path(tempfile.mkdtemp()) / "demo.json", {"ndcg@10": 0.1}, environment(seed=0)).name
    'demo.json'
    """
    path = Path(path)
    write_whole(path, (json.dumps({"environment": origin, **results}, indent=1) + "\n").encode())
    return path


def _version(name: str) -> str:
    if name == "python":
        return platform.python_version()
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        from tsporec._version import __version__

        return __version__ if name == "tsporec" else "not installed"


def _commit() -> str:
    """Return the commit of the source tree that this package runs from, with "-dirty" if files were changed."""
    here = Path(__file__).parent
    try:
        run = {"cwd": here, "capture_output": True, "text": True, "timeout": 10}
        if subprocess.run(["git", "ls-files", "--error-unmatch", __file__], **run).returncode:  # type: ignore[call-overload]
            return "not a checkout"
        found = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=12"], **run)  # type: ignore[call-overload]
        return str(found.stdout.strip()) or "not a checkout"
    except (OSError, subprocess.TimeoutExpired):
        return "not a checkout"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
