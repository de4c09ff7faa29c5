"""The kernels of `topk.cu` on one GPU: loaded once for each device, launched on torch's current stream.

`cuda-core` is imported only when the first GPU tensor comes.
"""

from __future__ import annotations

import threading
import warnings
from typing import Any

import torch

from tsporec.topk import cubin

BLOCK_THREADS = 256
NAMES = ("topk_plan", "topk_plan_masked", "topk_warp_32", "topk_warp_16", "topk_block_32", "topk_block_16")

_lock = threading.Lock()
_modules: dict[int, KernelModule | None] = {}


class KernelModule:
    """The kernels, loaded on the device with this index.

    ``processors`` is the number of streaming multiprocessors. ``shared_limit`` is the number of bytes of shared memory
    that a block may opt in to.
    """

    def __init__(self, index: int) -> None:
        import cuda.core as core

        self._core = core
        self.index = index
        with torch.cuda.device(index):
            device = core.Device(index)
            device.set_current()
            major, minor = torch.cuda.get_device_capability(index)
            # The kernels stay valid as long as the code object they were loaded from.
            self._code = core.ObjectCode.from_cubin(cubin.cubin(f"sm_{major}{minor}"))
            self._kernels = {name: self._code.get_kernel(name) for name in NAMES}
            self.processors = int(device.properties.multiprocessor_count)
            self.shared_limit = int(device.properties.max_shared_memory_per_block_optin)
            for name in ("topk_block_32", "topk_block_16"):
                self._kernels[name].attributes.max_dynamic_shared_size_bytes = self.shared_limit

    def launch(self, name: str, blocks: int, arguments: tuple[Any, ...], shared_bytes: int = 0) -> None:
        """Queue the kernel ``name`` on torch's current stream of the device.

        ``blocks`` is the number of blocks of BLOCK_THREADS threads, ``shared_bytes`` the dynamic shared memory of each.
        ``arguments`` are pointers (int) and numpy scalars as wide as the kernel declares them.
        """
        config = self._core.LaunchConfig(grid=blocks, block=BLOCK_THREADS, shmem_size=shared_bytes)
        with torch.cuda.device(self.index):
            stream = _Stream(int(torch.cuda.current_stream(self.index).cuda_stream))
            self._core.launch(stream, config, self._kernels[name], *arguments)


class _Stream:
    """A torch stream in the protocol of cuda-core."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._handle


def kernel_module(device: torch.device) -> KernelModule | None:
    """Get the kernels of a device, built at the first call. If that fails: None, with one warning for each device."""
    index = torch.cuda.current_device() if device.index is None else device.index
    with _lock:
        if index not in _modules:
            try:
                _modules[index] = KernelModule(index)
            except Exception as error:  # any fault of driver or compiler: the torch path still works
                _modules[index] = None
                hint = 'pip install "tsporec[cuda]"' if isinstance(error, ImportError) else "see the error"
                warnings.warn(
                    f"the top-k kernels are not available on cuda:{index}, so the slower torch path runs there "
                    f"({hint}): {type(error).__name__}: {error}",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return _modules[index]
