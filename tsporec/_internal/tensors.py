"""Tensors in one file: safetensors with a checksum in its metadata, so that damage is found when it is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from tsporec._internal.digest import digest
from tsporec._internal.files import write_whole

_CHECKSUM = "digest"


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, and the digest of their names and bytes; the file is whole or absent."""
    from safetensors.torch import save

    named = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_whole(path, save(named, {_CHECKSUM: _digest(named)}))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read what :func:`write_tensors` wrote. A missing or damaged file is a ValueError that names it.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "weights.safetensors"
    >>> write_tensors(path, {"w": torch.ones(2)})
    >>> read_tensors(path)
    {'w': tensor([1., 1.])}
    """
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            named, known = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
        if known.get(_CHECKSUM) not in (None, _digest(named)):
            raise ValueError("the checksum of its tensors differs")
    except Exception as error:  # safetensors has its own exceptions
        raise ValueError(
            f"{path} is missing or damaged ({error}). Restore it, or delete {path.parent} and run again."
        ) from error
    return named


def _digest(tensors: Mapping[str, Tensor]) -> str:
    return digest(*(part for name in sorted(tensors) for part in (name, tensors[name].numpy())))
