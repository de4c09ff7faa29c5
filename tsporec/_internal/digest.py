"""Digests: short names computed from content, so that equal things have equal names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def digest(*parts: Any) -> str:
    """Compute 32 hex digits of the sha256 of ``parts``: arrays by dtype, shape and bytes, other values as JSON."""
    state = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            state.update(f"{part.dtype.str}{part.shape}".encode())
            state.update(np.ascontiguousarray(part).tobytes())
        else:
            state.update(json.dumps(part, sort_keys=True, ensure_ascii=True).encode())
        state.update(b"\0")
    return state.hexdigest()[:32]


def fingerprint_of(given: object) -> str:
    """Return the ``fingerprint`` of a scorer or a reward; one that has none is a ValueError."""
    found = getattr(given, "fingerprint", None)
    if not isinstance(found, str) or not found:
        raise ValueError(
            f"{type(given).__name__} has no fingerprint, so what is made with it could be taken for another's; give it "
            "an attribute `fingerprint`, a str that changes with what it returns. Scorers that derive from BaseScorer "
            "have one."
        )
    return found


def short_digests(parts: Iterable[bytes]) -> NDArray[np.uint64]:
    """Compute 8 bytes of BLAKE2b of each part, a short name for it: uint64 ``[N]``."""
    return np.frombuffer(b"".join(hashlib.blake2b(part, digest_size=8).digest() for part in parts), dtype="<u8")
