"""The kernels of `topk.cu`: compiled with NVRTC once for each architecture, loaded once for each device.

Compiled kernels are kept on disk for later processes. `cuda-core` is imported only when the first GPU tensor comes.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from pathlib import Path
from typing import Any

import torch

from tsporec._internal.extras import install_line

SOURCE = Path(__file__).with_name("topk.cu")
BLOCK_THREADS = 256
NAMES = ("topk_plan", "topk_plan_masked", "topk_warp_32", "topk_warp_16", "topk_block_32", "topk_block_16")

_lock = threading.Lock()
_loaded: dict[int, Kernels | None] = {}


class Kernels:
    """The kernels, loaded on the device with this index.

    ``processors`` is the number of streaming multiprocessors. ``shared_limit`` is the number of bytes of shared memory
    that a block may opt in to.
    """

    def __init__(self, index: int) -> None:
        import cuda.core as core
        from cuda.bindings import driver

        self._core = core
        self.index = index
        with torch.cuda.device(index):
            device = core.Device(index)
            device.set_current()
            major, minor = torch.cuda.get_device_capability(index)
            # The kernels stay valid as long as the code object they were loaded from.
            self._code = compile_kernels(f"sm_{major}{minor}")
            self._kernels = {name: self._code.get_kernel(name) for name in NAMES}
            self.processors = int(device.properties.multiprocessor_count)
            self.shared_limit = int(device.properties.max_shared_memory_per_block_optin)
            # A kernel gets more than 48 KiB only if asked to. The attributes of cuda-core are read-only.
            dynamic_size = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            for name in ("topk_block_32", "topk_block_16"):
                handle = self._kernels[name].handle
                (status,) = driver.cuKernelSetAttribute(dynamic_size, self.shared_limit, handle, index)
                if status != driver.CUresult.CUDA_SUCCESS:
                    raise RuntimeError(f"{name} may not use {self.shared_limit} bytes of shared memory: {status.name}")

    def launch(self, name: str, blocks: int, arguments: tuple[Any, ...], shared_bytes: int = 0) -> None:
        """Queue the kernel ``name`` on torch's current stream, in ``blocks`` blocks of BLOCK_THREADS threads.

        ``arguments`` are tensors, None for a null pointer, and numpy scalars as wide as the kernel declares them.
        """
        config = self._core.LaunchConfig(grid=blocks, block=BLOCK_THREADS, shmem_size=shared_bytes)
        pointers = (a.data_ptr() if isinstance(a, torch.Tensor) else 0 if a is None else a for a in arguments)
        with torch.cuda.device(self.index):
            stream = _Stream(int(torch.cuda.current_stream(self.index).cuda_stream))
            self._core.launch(stream, config, self._kernels[name], *pointers)


class _Stream:
    """A torch stream in the protocol of cuda-core."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._handle


def kernels_on(device: torch.device) -> Kernels | None:
    """Get the kernels of a device, built at the first call. If that fails: None, with one warning for each device."""
    index = torch.cuda.current_device() if device.index is None else device.index
    with _lock:
        if index not in _loaded:
            try:
                _loaded[index] = Kernels(index)
            except Exception as error:  # any fault of driver or compiler: the torch path still works
                _loaded[index] = None
                hint = install_line("cuda") if isinstance(error, ImportError) else "see the error"
                warnings.warn(
                    f"the top-k kernels are not available on cuda:{index}, so the slower torch path runs there "
                    f"({hint}): {type(error).__name__}: {error}",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return _loaded[index]


def compile_kernels(architecture: str, log: Any = None) -> Any:
    """Compile the kernels for an architecture such as "sm_90", or read them from the cache. This needs no GPU.

    The cache is `tsporec/kernels` under $XDG_CACHE_HOME or ~/.cache. If it cannot be written to, nothing is cached. A
    file given as ``log`` gets the compiler's report: registers, stack and spills of each kernel.
    """
    from cuda.core import Program, ProgramOptions
    from cuda.core.utils import FileStreamProgramCache

    options = ProgramOptions(arch=architecture, std="c++17", ptxas_options=["-v"] if log is not None else None)
    program = Program(SOURCE.read_text(encoding="utf-8"), "c++", options)
    if log is None:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tsporec" / "kernels"
        with contextlib.suppress(OSError):
            return program.compile("cubin", cache=FileStreamProgramCache(folder))
    return program.compile("cubin", logs=log)
