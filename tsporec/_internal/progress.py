"""One progress bar for everything: on stderr, and silent where stderr is no terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def progress(iterable: Iterable[T], *, total: int | None = None, description: str = "") -> Iterable[T]:
    """``iterable`` with a bar on stderr; ``disable=None`` turns it off where that is no terminal."""
    from tqdm.auto import tqdm  # comes with transformers and huggingface-hub

    bar: Iterable[T] = tqdm(iterable, total=total, desc=description, disable=None, leave=False)
    return bar
