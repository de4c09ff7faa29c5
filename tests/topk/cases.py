"""Random input of the top-k operation, and the compiler's report: shared by the tests and `benchmarks.gpu`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
KINDS = ("normal", "few", "equal", "special")
SPECIALS = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e-40]
MASKS = ((False, False), (True, False), (False, True), (True, True))  # protected, forbidden

Problem: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]
Variant: TypeAlias = tuple[torch.dtype, str, tuple[bool, bool]]


def variants() -> Iterator[Variant]:
    """Every dtype with every kind of score and of masks: 48."""
    for dtype in DTYPES:
        for kind in KINDS:
            for masked in MASKS:
                yield dtype, kind, masked


def problem(
    rng: np.random.Generator,
    lengths: np.ndarray,
    variant: Variant = (torch.float32, "normal", (False, False)),
    where: str = "cpu",
) -> Problem:
    """Make (scores, cu_seqlens, k, protected, forbidden) of segments with these lengths."""
    dtype, kind, masked = variant
    cu = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    total = int(cu[-1])
    scores = {
        "normal": lambda: rng.standard_normal(total, dtype=np.float32),
        "few": lambda: rng.integers(-1, 3, total),
        "equal": lambda: np.zeros(total),
        "special": lambda: rng.choice(SPECIALS, total),
    }[kind]()
    k = rng.integers(-1, max(lengths, default=0) + 3, len(lengths)).astype(np.int32)
    masks = [
        torch.from_numpy(rng.random(total) < rng.choice([0, 0.1, 0.9])).to(where) if wanted else None
        for wanted in masked
    ]
    values = torch.from_numpy(np.asarray(scores, np.float32)).to(where, dtype)
    return (values, torch.from_numpy(cu).to(where), torch.from_numpy(k).to(where), masks[0], masks[1])


def compiler_report(text: str) -> dict[str, dict[str, int]]:
    """Read registers and bytes of stack and spills of each kernel from what ptxas prints with -v."""
    report = {}
    for part in text.split("Compiling entry function ")[1:]:
        (name,) = re.findall(r"^'(\w+)'", part)
        counts = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", part)[0]
        registers = re.findall(r"Used (\d+) registers", part)[0]
        keys = ("stack", "spill_stores", "spill_loads", "registers")
        report[name] = dict(zip(keys, map(int, (*counts, registers)), strict=True))
    return report
