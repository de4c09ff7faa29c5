"""The CUDA path without a GPU: compiled by NVRTC, run by g++ on a stand-in driver, raced under ThreadSanitizer."""

from __future__ import annotations

import ctypes
import faulthandler
import io
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from tests.conftest import DEVICES, needs_gpu
from tests.topk.cases import compiler_report, problem, variants
from tests.topk.cuda_driver import SHIM, StandIn, build, compiler
from tsporec.topk import cuda, kernels, pad_kept, reference, topk_gather, topk_mask, topk_select

LENGTHS = ((5, 150), (60, 200), (256, 80), (500, 30))  # the longest of so many segments
FEW = (torch.float32, "few", (False, False))
BARRIER = re.compile(r"__sync(?:threads|warp)\(.*\);")


@pytest.fixture(autouse=True)
def one_thread():
    """Torch's threads only wait for each other on tensors as small as these."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def nvrtc():
    pytest.importorskip("cuda.core", reason="cuda-core is not installed", exc_type=ImportError)
    try:
        kernels.compile_kernels("sm_90", io.StringIO())
    except Exception as error:
        pytest.skip(f"NVRTC does not compile: {error}")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return build(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory, nvrtc):
    """A cache folder with the kernels for the stand-in's architecture, so that it compiles once."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        kernels.compile_kernels("sm_90")
    return folder


@pytest.fixture
def driver(library, cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    stand_in = StandIn(library)
    stand_in.install(monkeypatch)
    return stand_in


def check_against_reference(args):
    kept, new_cu = cuda.select(*args)
    expected, expected_cu = reference.select(*args)
    assert kept.dtype == torch.int64
    assert new_cu.dtype == torch.int32
    assert torch.equal(kept, expected)
    assert torch.equal(new_cu, expected_cu)
    assert torch.equal(cuda.mask(*args), reference.mask(*args))


def test_kernels_are_bit_exact_through_the_launcher(driver):
    """Each dtype, kind and mask with one of the lengths, so that each kind meets every length: 5,520 segments."""
    rng = np.random.default_rng(0)
    for i, variant in enumerate(variants()):
        longest, segments = LENGTHS[(i + i // 4) % 4]
        driver.schedule = i % 3
        check_against_reference(problem(rng, rng.integers(0, longest + 1, segments), variant))
    assert set(driver.launched) == set(kernels.NAMES)


def test_rows_beyond_48_kb_of_shared_memory_and_beyond_all_of_it(driver):
    rng = np.random.default_rng(1)
    for length in (20_000, 50_000):  # cached by opt-in; read again and again
        check_against_reference(problem(rng, np.append(rng.integers(0, 301, 3), length), FEW))


def test_nothing_to_select(driver):
    cu = torch.zeros(1, dtype=torch.int32)
    none = torch.zeros(0, dtype=torch.int32)
    check_against_reference((torch.zeros(0), cu, none, None, None))
    check_against_reference(
        (torch.zeros(0), torch.zeros(4, dtype=torch.int32), torch.ones(3, dtype=torch.int32), None, None)
    )
    check_against_reference(
        (torch.zeros(4), torch.tensor([0, 4], dtype=torch.int32), torch.zeros(1, dtype=torch.int32), None, None)
    )


def test_strided_input(driver):
    cu, k = torch.tensor([0, 4, 10], dtype=torch.int32), torch.tensor([2, 9, 3], dtype=torch.int32)[::2]
    check_against_reference((torch.randn(20)[::2], cu, k, None, None))


@pytest.mark.parametrize("offsets", [[0, 3, 2, 5], [0, 3, 3, 4], [1, 3, 3, 5], [0, 9, 9, 5], [0, -4, 3, 5]])
@pytest.mark.parametrize("masked", [False, True])
def test_wrong_offsets_are_refused_and_read_nothing_they_should_not(driver, offsets, masked):
    scores = torch.randn(5)
    forbidden = torch.zeros(5, dtype=torch.bool) if masked else None
    cu, k = torch.tensor(offsets, dtype=torch.int32), torch.ones(3, dtype=torch.int32)
    with pytest.raises(ValueError, match="does not run from 0 to the 5 tokens"):
        cuda.select(scores, cu, k, None, forbidden)
    cuda.mask(scores, cu, k, None, forbidden)


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100", "sm_120"])
def test_nvrtc_compiles_without_spills(nvrtc, architecture):
    report = io.StringIO()
    assert kernels.compile_kernels(architecture, report).code.startswith(b"\x7fELF")
    check_report(report.getvalue())


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_nvcc_reports_no_spills(tmp_path, architecture):
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not installed")
    command = [
        "nvcc",
        f"-arch={architecture}",
        "-cubin",
        "-Xptxas",
        "-v",
        "-o",
        str(tmp_path / "out"),
        str(kernels.SOURCE),
    ]
    check_report(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stderr)


def check_report(text):
    report = compiler_report(text)
    assert set(report) == set(kernels.NAMES)
    assert not any(counts[kind] for counts in report.values() for kind in ("stack", "spill_stores", "spill_loads"))


@pytest.fixture(scope="module")
def switchable(tmp_path_factory):
    """topk.cu with a switch: barrier i is left out while `missing_barrier`, set by the environment, is i."""
    numbers = itertools.count()
    source = BARRIER.sub(lambda call: f"if (missing_barrier != {next(numbers)}) {call[0]}", kernels.SOURCE.read_text())
    assert next(numbers) == 5
    path = tmp_path_factory.mktemp("switchable") / "switchable.cu"
    switch = 'extern "C" { int missing_barrier = getenv("MISSING_BARRIER") ? atoi(getenv("MISSING_BARRIER")) : -1; }'
    path.write_text(f"{switch}\n{source}")
    return path


def is_caught(library, missing, args, monkeypatch):
    """Whether a missing barrier gives a wrong result, or none, under some schedule.

    It runs in a process of its own, for it may write anywhere.
    """
    expected, _ = reference.select(*args)  # here: torch's threads do not live on in a forked child
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return status != 0
    faulthandler.disable()
    signal.alarm(60)
    wrong = True
    try:
        ctypes.c_int.in_dll(library, "missing_barrier").value = missing
        wrong = is_wrong(StandIn(library), args, expected, monkeypatch)
    finally:
        os._exit(wrong)


def is_wrong(stand_in, args, expected, monkeypatch):
    for stand_in.schedule in (0, 1, 2):
        with monkeypatch.context() as patched:
            stand_in.install(patched)
            try:
                kept, _ = cuda.select(*args)
            except RuntimeError:  # threads that wait for each other in vain, or a write out of bounds
                return True
            if not torch.equal(kept, expected):
                return True
    return False


def test_every_barrier_is_needed(tmp_path, switchable, cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    # Long segments only, several for each block, so that one may overwrite what is still being read of another.
    rng = np.random.default_rng(0)
    lengths = rng.integers(300, 900, 20)
    cu = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    args = (torch.randn(int(cu[-1])), cu, torch.from_numpy((lengths // 3).astype(np.int32)))
    library = build(tmp_path, switchable, ("-O0",))
    assert not is_caught(library, -1, args, monkeypatch)
    missed = [barrier for barrier in range(5) if not is_caught(library, barrier, args, monkeypatch)]
    assert not missed, "no schedule shows that these barriers are missing"


@pytest.fixture(scope="module")
def races(tmp_path_factory, switchable):
    """races.cpp around topk.cu, built for ThreadSanitizer; called with the number of a barrier to leave out."""
    program = tmp_path_factory.mktemp("races") / "races"
    flags = ["-std=c++17", "-O1", "-g", "-fsanitize=thread", "-DSHIM_THREADS", "-Wno-unknown-pragmas", "-pthread"]
    built = subprocess.run(
        [compiler(), *flags, f'-DSOURCE="{switchable}"', str(SHIM / "races.cpp"), "-o", str(program)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    if "cannot find" in built.stderr and "tsan" in built.stderr:
        pytest.skip("ThreadSanitizer is not installed")
    assert built.returncode == 0, built.stderr

    def run(missing):
        environment = {**os.environ, "MISSING_BARRIER": str(missing)}
        ran = subprocess.run([program], capture_output=True, text=True, timeout=300, env=environment)
        if "unexpected memory mapping" in ran.stderr:
            pytest.skip("ThreadSanitizer does not run on this kernel's memory layout")
        return ran

    return run


@pytest.mark.skipif(sys.platform != "linux", reason="ThreadSanitizer is used on Linux only")
def test_thread_sanitizer_is_clean(races):
    ran = races(-1)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "0 failures" in ran.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="ThreadSanitizer is used on Linux only")
def test_thread_sanitizer_sees_a_missing_barrier(races):
    assert "data race" in races(0).stderr


def test_compiled_kernels_are_kept(tmp_path, nvrtc, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code = kernels.compile_kernels("sm_90").code
    (kept,) = [path for path in (tmp_path / "tsporec").rglob("*") if path.is_file()]
    assert kept.read_bytes() == code == kernels.compile_kernels("sm_90").code
    (tmp_path / "file").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert kernels.compile_kernels("sm_90").code == code


def test_without_kernels_torch_runs_and_warns_once(monkeypatch):
    monkeypatch.setattr(kernels, "_loaded", {})
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    rng = np.random.default_rng(0)
    args = problem(rng, rng.integers(0, 31, 9), FEW)
    with pytest.warns(RuntimeWarning, match=r"slower torch path runs there \(pip install"):
        check_against_reference(args)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_against_reference(args)


def test_cuda_core_has_what_the_stand_in_replaces(nvrtc):
    from cuda.bindings import driver
    from cuda.core import Device, Kernel, ObjectCode, launch

    assert callable(launch)
    assert callable(driver.cuKernelSetAttribute)
    for kind, names in ((Kernel, ["handle"]), (ObjectCode, ["get_kernel"]), (Device, ["set_current", "properties"])):
        assert set(names) <= set(dir(kind))


@pytest.mark.parametrize("device", DEVICES)
def test_operators_give_what_the_oracle_gives(device):
    rng = np.random.default_rng(0)
    scores, cu, k, protected, forbidden = problem(
        rng, rng.integers(0, 400, 50), (torch.float16, "few", (True, True)), device
    )
    masks = (protected, forbidden)
    kept, new_cu = topk_select(scores, cu, k, *masks)
    assert all(map(torch.equal, (kept, new_cu), reference.select(scores, cu, k, *masks)))
    payload = torch.randn(len(scores), 3, device=device, requires_grad=True)
    cut, _ = topk_gather(scores, cu, k, [payload], *masks)
    cut.sum().backward()
    assert torch.equal(payload.grad[:, 0] == 1, topk_mask(scores, cu, k, *masks))
    compiled = torch.compile(
        lambda scores: pad_kept(topk_mask(scores, cu, k, *masks), cu, [payload.detach()], width=400),
        fullgraph=True, backend="aot_eager",
    )  # fmt: skip
    (padded,), attention = compiled(scores)
    assert torch.equal(padded[attention.bool()], cut)


@pytest.mark.gpu
@needs_gpu
def test_a_real_device_is_bit_exact():
    assert kernels.kernels_on(torch.device("cuda")) is not None, "the kernels did not build"
    rng = np.random.default_rng(0)
    for variant in variants():
        for longest, segments in LENGTHS:
            check_against_reference(problem(rng, rng.integers(0, longest + 1, segments), variant, "cuda"))


@pytest.mark.gpu
@needs_gpu
def test_a_real_device_follows_the_current_stream():
    rng = np.random.default_rng(0)
    args = problem(rng, rng.integers(0, 201, 1000), where="cuda")
    expected, _ = reference.select(*args)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        late = torch.zeros_like(args[0])
        torch.cuda._sleep(10_000_000)
        late.copy_(args[0])
        found, _ = cuda.select(late, *args[1:])
    stream.synchronize()
    assert torch.equal(found, expected)
