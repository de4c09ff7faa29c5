"""Item ids as arrays: hashed, compared and stored without a Python object each.

An id is either an integer (int64) or a string (its UTF-8 bytes); a catalogue has one kind. In memory N ids are
64-bit words side by side, the short ones filled up with zeros, and their lengths in bytes, so that both kinds go
through the same few numpy calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

ItemId: TypeAlias = int | str
LONGEST = 1024  # bytes of an id

_FIRST, _STEP = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xFF51AFD7ED558CCD)
_LAST, _SHIFT = np.uint64(0xC4CEB9FE1A85EC53), np.uint64(32)

_HEADS = np.array([(1 << 8 * size) - 1 for size in range(9)], dtype=np.uint64)  # the first bytes of a word


@dataclass(frozen=True, eq=False)
class Keys:
    """N item ids.

    Parameters
    ----------
    words : uint64 ``[N, W]``
        The bytes of each id, zeros after its end. An integer is one word, in two's complement.
    lengths : int64 ``[N]``
        Bytes of each id; 8 for integers.
    id_type : str
        ``"int"`` or ``"str"``.
    """

    words: NDArray[np.uint64]
    lengths: NDArray[np.int64]
    id_type: str

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def from_ids(cls, ids: Any, id_type: str | None = None) -> Keys:
        """Keys of a list, array or tensor of integers or of strings; a single id is refused.

        Parameters
        ----------
        ids : sequence, or integer array or tensor ``[N]``
        id_type : str, optional
            The kind expected; by default the kind of the first id.

        Raises
        ------
        ValueError
            If an id is of another kind, is empty, is longer than 1,024 bytes, or does not fit into int64.
        """
        if isinstance(ids, str | bytes) or not hasattr(ids, "__len__"):
            raise ValueError(f"expected a list or array of item ids, found {ids!r}; put a single id into a list.")
        if not isinstance(ids, list | tuple):
            ids = np.asarray(ids)
            if ids.ndim != 1:
                raise ValueError(f"expected item ids [N], found an array of shape {ids.shape}.")
            if np.issubdtype(ids.dtype, np.integer) and (ids.dtype != np.uint64 or not len(ids) or ids.max() < 2**63):
                return cls._from_numbers(ids.astype(np.int64), id_type)
            ids = ids.tolist()
        kinds = set(map(type, ids))
        if not kinds:
            return cls._from_numbers(np.zeros(0, np.int64), None) if id_type != "str" else cls._from_strings([])
        if all(issubclass(kind, str) for kind in kinds) and id_type != "int":
            return cls._from_strings(ids)
        if all(issubclass(kind, int | np.integer) and kind is not bool for kind in kinds) and id_type != "str":
            try:
                return cls._from_numbers(np.array(ids, dtype=np.int64), None)
            except OverflowError:
                raise ValueError(f"an integer id must fit into int64; found {max(ids, key=abs)}.") from None
        raise _wrong_kind(ids, id_type)

    @classmethod
    def _from_numbers(cls, numbers: NDArray[np.int64], id_type: str | None) -> Keys:
        if id_type == "str":
            raise _wrong_kind(numbers.tolist(), id_type)
        return cls(numbers.view(np.uint64)[:, None], np.full(len(numbers), 8, dtype=np.int64), "int")

    @classmethod
    def _from_strings(cls, ids: Sequence[str]) -> Keys:
        encoded: Sequence[str | bytes] = ids  # numpy takes ASCII as it is, several times faster
        if not "".join(ids).isascii():
            encoded = [text.encode("utf-8", "surrogatepass") for text in ids]
        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        if len(ids) and not 0 < lengths.min() <= lengths.max() <= LONGEST:
            bad = int(np.flatnonzero((lengths == 0) | (lengths > LONGEST))[0])
            raise ValueError(f"an item id has 1 to {LONGEST} bytes; found one of {lengths[bad]}: {ids[bad][:40]!r}.")
        width = -(-int(lengths.max(initial=1)) // 8)
        padded = np.array(encoded, dtype=f"S{8 * width}")
        return cls(padded.view("<u8").reshape(len(ids), width), lengths, "str")

    def take(self, rows: NDArray[Any]) -> Keys:
        """The keys at ``rows`` (positions or a mask)."""
        return Keys(self.words[rows], self.lengths[rows], self.id_type)

    def to_ids(self) -> list[Any]:
        """The ids as Python integers or strings."""
        if self.id_type == "int":
            numbers: list[int] = self.words[:, 0].view(np.int64).tolist()
            return numbers
        data = np.ascontiguousarray(self.words).view(np.uint8)
        return [
            row[:size].tobytes().decode("utf-8", "surrogatepass") for row, size in zip(data, self.lengths, strict=True)
        ]

    def equal(self, other: Keys) -> NDArray[np.bool_]:
        """Bool ``[N]``: row by row the same id."""
        width = min(self.words.shape[1], other.words.shape[1])
        same: NDArray[np.bool_] = (self.words[:, :width] == other.words[:, :width]).all(axis=1)
        same &= self.lengths == other.lengths  # a longer id has nonzero bytes that the narrower words lack
        return same

    def hashes(self) -> NDArray[np.uint64]:
        """uint64 ``[N]``; part of the format. Whatever else is in the batch, an id has one hash.

        Per word ``h = (h ^ word) * step; h ^= h >> 32``, from ``length * first``, and a last multiply and shift:
        the rounds of MurmurHash3's finaliser.
        """
        state = self.lengths.astype(np.uint64) * _FIRST
        for column in range(self.words.shape[1]):
            mixed = (state ^ self.words[:, column]) * _STEP
            mixed ^= mixed >> _SHIFT
            state = mixed if self.id_type == "int" else np.where(self.lengths > 8 * column, mixed, state)
        state *= _LAST
        state ^= state >> _SHIFT
        return state

    def packed(self) -> NDArray[np.uint8]:
        """uint8 ``[B]``: the bytes of all ids, one after the other, and zeros as wide as the longest behind them."""
        data = np.ascontiguousarray(self.words).view(np.uint8)
        inside = data[np.arange(data.shape[1]) < self.lengths[:, None]]
        return np.concatenate([inside, np.zeros(data.shape[1], np.uint8)])


def from_packed(data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Keys:
    """String keys whose bytes are ``data[starts:starts + lengths]``; ``data`` goes on behind: words are read."""
    width = -(-int(lengths.max(initial=1)) // 8)
    words = windows(data, 8 * width)[starts].view("<u8").reshape(-1, width)
    words &= _HEADS[np.clip(lengths[:, None] - 8 * np.arange(width), 0, 8)]
    return Keys(words, lengths, "str")


def windows(column: NDArray[Any], width: int) -> NDArray[np.void]:
    """Every run of ``width`` neighbours of ``column``, as one opaque item: numpy then copies it whole."""
    size = column.itemsize
    return np.ndarray((len(column) - width + 1,), f"V{width * size}", column, 0, (size,))


def concatenate(parts: Sequence[Keys]) -> Keys:
    """The keys of all ``parts``, which are of one kind, in order."""
    width = max(part.words.shape[1] for part in parts)
    words = [np.pad(part.words, ((0, 0), (0, width - part.words.shape[1]))) for part in parts]
    return Keys(np.concatenate(words), np.concatenate([part.lengths for part in parts]), parts[0].id_type)


def _wrong_kind(ids: Sequence[Any], id_type: str | None) -> ValueError:
    names = {"int": "integers", "str": "strings", None: "all integers or all strings"}
    wanted = id_type or ("str" if isinstance(ids[0], str) else "int")
    allowed: tuple[type, ...] = (str,) if wanted == "str" else (int, np.integer)
    bad = next((one for one in ids if not isinstance(one, allowed) or isinstance(one, bool)), ids[0])
    return ValueError(
        f"the item ids must be {names[id_type]}; found {bad!r} ({type(bad).__name__}). Convert them "
        "before they come here."
    )
