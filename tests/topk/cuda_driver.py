"""A stand-in for the CUDA driver: topk.cu built by g++, run on the very argument bytes that cuda-core makes.

It replaces the few names of cuda-core and torch.cuda that the launcher uses and that need a GPU; tensors are on the
CPU. Compiling, launch configurations and the encoding of arguments stay cuda-core's own.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tsporec.topk import kernels

SHIM = Path(__file__).parent / "cuda_shim"
FAULTS = {1: "no such kernel", 2: "threads wait for each other in vain", 3: "a write beyond shared memory"}


def compiler() -> str:
    """g++, or a skip."""
    found = shutil.which("g++")
    if found is None:
        pytest.skip("g++ is not installed")
    return found


def build(folder: Path, source: Path = kernels.SOURCE, flags: tuple[str, ...] = ("-O1",)) -> ctypes.CDLL:
    """The shim around `source` as a loaded library."""
    library = folder / f"{source.stem}-{abs(hash((source, flags)))}.so"
    command = [compiler(), "-std=c++17", "-Wno-unknown-pragmas", "-shared", "-fPIC", *flags]
    subprocess.run(
        [*command, f'-DSOURCE="{source}"', str(SHIM / "run.cpp"), "-o", str(library)], check=True, timeout=300
    )
    return ctypes.CDLL(str(library))


class StandIn:
    """Launches kernels of a built shim; counts them by name."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.schedule = 0
        self.launched: dict[str, int] = {}

    def run(self, name: str, grid: int, block: int, shared_bytes: int, arguments: tuple) -> None:
        """Encode the arguments as cuda-core does, and hand the bytes to the kernel."""
        from cuda.core._kernel_arg_handler import ParamHolder

        holder = ParamHolder(arguments)
        self.launched[name] = self.launched.get(name, 0) + 1
        fault = self.library.shim_launch(
            name.encode(),
            grid,
            block,
            shared_bytes,
            ctypes.c_void_p(holder.ptr),
            self.schedule,
            sum(self.launched.values()),
        )
        if fault:
            raise RuntimeError(f"{name}: {FAULTS[fault]}")

    def install(self, monkeypatch: pytest.MonkeyPatch, processors: int = 1, shared_limit: int = 160 << 10) -> None:
        """Make the launcher take this for the driver of every device."""
        import cuda.core as core
        from cuda.bindings import driver

        limits: dict[int, int] = {}  # bytes of shared memory that a kernel asked for, by its handle

        def get_kernel(name: str) -> SimpleNamespace:
            return SimpleNamespace(name=name, handle=driver.CUkernel(1 + kernels.NAMES.index(name)))

        def set_attribute(attribute, value, kernel, device) -> tuple[driver.CUresult]:
            assert attribute == driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            assert isinstance(kernel, driver.CUkernel)
            assert isinstance(device, int)
            if value > shared_limit:
                return (driver.CUresult.CUDA_ERROR_INVALID_VALUE,)
            limits[int(kernel)] = value
            return (driver.CUresult.CUDA_SUCCESS,)

        def compile_kernels(architecture: str) -> SimpleNamespace:
            assert compiled(architecture).code.startswith(b"\x7fELF")
            return SimpleNamespace(get_kernel=get_kernel)

        compiled = kernels.compile_kernels
        properties = SimpleNamespace(multiprocessor_count=processors, max_shared_memory_per_block_optin=shared_limit)

        def launch(stream, config, kernel, *arguments) -> None:
            assert stream.__cuda_stream__() == (0, 77)
            assert config.shmem_size <= limits.get(int(kernel.handle), 48 << 10)
            self.run(kernel.name, config.grid[0], config.block[0], config.shmem_size, arguments)

        monkeypatch.setattr(driver, "cuKernelSetAttribute", set_attribute)
        monkeypatch.setattr(kernels, "compile_kernels", compile_kernels)
        monkeypatch.setattr(
            core, "Device", lambda index: SimpleNamespace(set_current=lambda: None, properties=properties)
        )
        monkeypatch.setattr(core, "launch", launch)
        monkeypatch.setattr(torch.cuda, "device", lambda index: nullcontext())
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda index: SimpleNamespace(cuda_stream=77))
        monkeypatch.setattr(kernels, "_loaded", {})
