"""Compile `topk.cu` for one architecture with NVRTC, once: later processes read the cubin from disk.

The file on disk is named by what determines it (source, architecture, NVRTC version) and starts with the SHA-256 of
the rest, so that a torn or damaged entry is seen and built again. No GPU is needed to compile.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

from tsporec._internal.files import write_whole

__all__ = ["SOURCE", "cache_folder", "compile_source", "cubin", "nvrtc_version"]

SOURCE = Path(__file__).with_name("topk.cu")
DIGEST_BYTES = 32


def cache_folder() -> Path:
    """Folder of the compiled kernels: `tsporec/kernels` under $XDG_CACHE_HOME, or under ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tsporec" / "kernels"


def nvrtc_version() -> str:
    """Version of the NVRTC library that would compile, as "13.0"."""
    from cuda.bindings import nvrtc

    _, major, minor = nvrtc.nvrtcVersion()
    return f"{major}.{minor}"


def compile_source(source: str, architecture: str, log: Any = None) -> bytes:
    """Compile CUDA C++ to a cubin.

    Parameters
    ----------
    source : str
    architecture : str
        As "sm_90".
    log : file, optional
        Where the compiler's report goes: registers, stack and spills of each kernel.

    Returns
    -------
    bytes
    """
    from cuda.core import Program, ProgramOptions

    options = ProgramOptions(arch=architecture, std="c++17", ptxas_options=["-v"] if log is not None else None)
    return bytes(Program(source, "c++", options).compile("cubin", logs=log).code)


def cubin(architecture: str, folder: Path | None = None) -> bytes:
    """Cubin of `topk.cu` for `architecture`, from the cache or compiled.

    Parameters
    ----------
    architecture : str
        As "sm_90".
    folder : path, optional
        `cache_folder()` by default. If it cannot be written to, nothing is cached.

    Returns
    -------
    bytes
    """
    source = SOURCE.read_text(encoding="utf-8")
    name = hashlib.sha256("\0".join([source, architecture, nvrtc_version()]).encode()).hexdigest()[:32]
    path = (folder or cache_folder()) / f"{name}.{architecture}.cubin"
    code = _read(path)
    if code is None:
        code = compile_source(source, architecture)
        with contextlib.suppress(OSError):
            _write(path, code)
    return code


def _read(path: Path) -> bytes | None:
    """What `_write` wrote, or None if it is absent or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, code = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    return code if hashlib.sha256(code).digest() == digest else None


def _write(path: Path, code: bytes) -> None:
    write_whole(path, hashlib.sha256(code).digest() + code)
