"""Compile `topk.cu` with NVRTC, once for each architecture: later processes read the cubin from disk.

A cached file's name is the digest of source, architecture and NVRTC version. The file starts with the SHA-256 of the
rest, so a damaged file is found and built again. Compiling needs no GPU.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

from tsporec._internal.files import write_whole

SOURCE = Path(__file__).with_name("topk.cu")
_DIGEST_BYTES = 32


def cache_folder() -> Path:
    """Name the folder of compiled kernels: `tsporec/kernels` under $XDG_CACHE_HOME, or under ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tsporec" / "kernels"


def nvrtc_version() -> str:
    """Read the version of the NVRTC library, for example "13.0"."""
    from cuda.bindings import nvrtc

    _, major, minor = nvrtc.nvrtcVersion()
    return f"{major}.{minor}"


def compile_source(source: str, architecture: str, log: Any = None) -> bytes:
    """Compile CUDA C++ to a cubin for an architecture such as "sm_90".

    A file given as ``log`` gets the compiler's report: registers, stack and spills of each kernel.
    """
    from cuda.core import Program, ProgramOptions

    options = ProgramOptions(arch=architecture, std="c++17", ptxas_options=["-v"] if log is not None else None)
    return bytes(Program(source, "c++", options).compile("cubin", logs=log).code)


def cubin(architecture: str, folder: Path | None = None) -> bytes:
    """Read the cubin of `topk.cu` from the cache, or compile and cache it.

    The cache is ``folder``, by default `cache_folder()`. If it cannot be written to, nothing is cached.
    """
    source = SOURCE.read_text(encoding="utf-8")
    name = hashlib.sha256("\0".join([source, architecture, nvrtc_version()]).encode()).hexdigest()[:32]
    path = (folder or cache_folder()) / f"{name}.{architecture}.cubin"
    with contextlib.suppress(OSError):
        content = path.read_bytes()
        if hashlib.sha256(content[_DIGEST_BYTES:]).digest() == content[:_DIGEST_BYTES]:
            return content[_DIGEST_BYTES:]
    code = compile_source(source, architecture)
    with contextlib.suppress(OSError):
        write_whole(path, hashlib.sha256(code).digest() + code)
    return code
