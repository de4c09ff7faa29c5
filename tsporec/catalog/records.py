"""The format of a catalogue: item ids as LMDB keys, kept tokens as records, and the recipe that made them.

A record is a header of 16 bytes and a pair for each kept token, in text order. All numbers are little-endian:

    crc32 of the key and of all that follows   uint32
    digest of the text                         uint64
    tokens of the whole text                   uint32
    token id                                   uint16, or uint32 if the vocabulary has more than 65,536 ids
    rank of the token, 0 for the best          uint8, uint16 or uint32, whichever holds the budget
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.types import is_whole
from tsporec.budget import Budget
from tsporec.tokens.ragged import RaggedTokens, check_ids, lengths_to_offsets

ItemId: TypeAlias = int | str
LONGEST_ID = 510
"""Bytes of the longest id: LMDB's limit for a key, less one for the name of a table."""

HEADER = np.dtype([("crc", "<u4"), ("digest", "<u8"), ("length", "<u4")])
_SIGN = np.uint64(1 << 63)


@dataclass(frozen=True)
class Recipe:
    """The arguments that decide the kept tokens of a text. A catalogue holds records of one recipe.

    Parameters
    ----------
    tokenizer, selector : str
        Fingerprints.
    vocabulary : int
        The largest token id plus one.
    budget : Budget, or dict of its fields
    fields : tuple of str
        Names of the item fields that make the text.
    id_type : str
        ``"int"`` or ``"str"``.
    granularity : "token" or "word"
    keep : tuple of str
        Regular expressions of what is kept first.
    frequencies : str
        Where the selector's word frequencies are from, for people to read. The fingerprint of the selector decides.
    """

    tokenizer: str
    selector: str
    vocabulary: int
    budget: Budget
    fields: tuple[str, ...]
    id_type: str
    granularity: str = "token"
    keep: tuple[str, ...] = ()
    frequencies: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name in ("fields", "keep"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if isinstance(self.budget, dict):
            object.__setattr__(self, "budget", Budget(**self.budget))
        names = (self.tokenizer, self.selector, self.frequencies, *self.fields, *self.keep)
        whole = is_whole(self.vocabulary) and 1 <= self.vocabulary <= 1 << 31
        if not whole or not all(isinstance(name, str) for name in names) or self.id_type not in ("int", "str"):
            raise ValueError(
                f"a recipe has names, a vocabulary of 1 to 2**31 ids, and item ids of 'int' or 'str'; found {self}."
            )
        if self.granularity not in ("token", "word"):
            raise ValueError(f"granularity must be 'word' or 'token'; found {self.granularity!r}.")

    def differences(self, other: Recipe) -> list[str]:
        """Name the fields in which ``other`` differs, with both values."""
        told = [f.name for f in fields(self) if f.compare or self.selector != other.selector]
        pairs = [(name, getattr(self, name), getattr(other, name)) for name in told]
        return [f"{name} ({mine!r} here, {theirs!r} given)" for name, mine, theirs in pairs if mine != theirs]

    @property
    def token_dtype(self) -> np.dtype[Any]:
        """Dtype of one kept token: fields ``id`` and ``rank``."""
        most = self.budget.tokens or 1 << 32
        rank = "u1" if most <= 1 << 8 else "<u2" if most <= 1 << 16 else "<u4"
        return np.dtype([("id", "<u2" if self.vocabulary <= 1 << 16 else "<u4"), ("rank", rank)])


def encode_ids(ids: Any, id_type: str | None = None) -> list[bytes]:
    r"""Return the LMDB key of each id: UTF-8 for text, 8 bytes whose order is that of the numbers for integers.

    All ids are of ``id_type``, by default the kind of the first. An id of another kind, an empty one, one of more than
    510 bytes, or one that does not fit into int64 is a ``ValueError``.

    >>> encode_ids(["B01", "ü"]), encode_ids([-1, 0])
    ([b'B01', b'\xc3\xbc'], [b'\x7f\xff\xff\xff\xff\xff\xff\xff', b'\x80\x00\x00\x00\x00\x00\x00\x00'])
    """
    if isinstance(ids, str | bytes) or not hasattr(ids, "__len__"):
        raise ValueError(f"expected a list or array of item ids, found {ids!r}; put a single id into a list.")
    if not isinstance(ids, list | tuple):
        ids = np.asarray(ids)
        if ids.ndim != 1:
            raise ValueError(f"expected item ids [N], found an array of shape {ids.shape}.")
        ids = ids.tolist()
    kind = id_type or type_of_ids(ids)
    if not all(kind == _kind(one) for one in set(map(type, ids))):
        bad = next(one for one in ids if _kind(type(one)) != kind)
        raise ValueError(
            f"item ids of a catalogue are all integers or all strings; here they must be "
            f"{'integers' if kind == 'int' else 'strings'}; found {bad!r} ({type(bad).__name__})."
        )
    if kind == "int":
        try:
            numbers = np.array(ids, dtype=np.int64)
        except OverflowError:
            raise ValueError(f"an integer id must fit into int64; found {max(ids, key=abs)}.") from None
        data = (numbers.view(np.uint64) ^ _SIGN).astype(">u8").tobytes()
        return [data[at : at + 8] for at in range(0, len(data), 8)]
    keys = [one.encode("utf-8", "surrogatepass") for one in ids]
    sizes = set(map(len, keys))
    if sizes and not 0 < min(sizes) <= max(sizes) <= LONGEST_ID:
        bad, key = next(pair for pair in zip(ids, keys, strict=True) if not 0 < len(pair[1]) <= LONGEST_ID)
        raise ValueError(
            f"an item id has 1 to {LONGEST_ID} bytes of UTF-8; found {bad[:40]!r} of {len(key)}. Give a shorter id, "
            "such as a digest of it."
        )
    return keys


def type_of_ids(ids: Sequence[Any]) -> str:
    """Return ``"int"`` or ``"str"``, the kind of the first id (``"str"`` if there is none)."""
    kind = _kind(type(ids[0])) if len(ids) else "str"
    if kind is None:
        raise ValueError(f"an item id is an integer or a string; found {ids[0]!r} ({type(ids[0]).__name__}).")
    return kind


def _kind(one: type) -> str | None:
    if issubclass(one, str):
        return "str"
    return "int" if issubclass(one, int | np.integer) and one is not bool else None


def decode_ids(keys: Sequence[bytes], id_type: str) -> list[Any]:
    """Return the ids again. A key that is no id of this kind is a ``ValueError``."""
    if id_type == "str":
        return [key.decode("utf-8", "surrogatepass") for key in keys]
    if any(len(key) != 8 for key in keys):
        raise ValueError("a key of an integer id has 8 bytes")
    return [int.from_bytes(key, "big") - (1 << 63) for key in keys]


def encode_records(
    keys: Sequence[bytes],
    digests: NDArray[np.uint64],
    lengths: NDArray[np.integer],
    kept: RaggedTokens,
    ranks: NDArray[np.int32],
    token_dtype: np.dtype[Any],
) -> list[bytes]:
    """Return a record for each of N items.

    ``digests [N]`` and ``lengths [N]`` are of the whole texts. ``kept`` has N segments of K tokens with ``ranks [K]``.
    """
    tokens = np.empty(len(ranks), dtype=token_dtype)
    tokens["id"], tokens["rank"] = kept.ids, ranks
    headers = np.zeros(len(keys), dtype=HEADER)
    headers["digest"], headers["length"] = digests, lengths
    # [N] headers and [K] kept tokens -> one bytes object for each item
    heads, body = headers.tobytes(), tokens.tobytes()
    ends = (kept.cu_seqlens.astype(np.int64) * token_dtype.itemsize).tolist()
    records = []
    for number, key in enumerate(keys):
        at = number * HEADER.itemsize
        data = heads[at + 4 : at + HEADER.itemsize] + body[ends[number] : ends[number + 1]]
        records.append(crc32(data, crc32(key)).to_bytes(4, "little") + data)
    return records


def decode_records(
    records: Sequence[bytes], recipe: Recipe, k: int | None = None
) -> tuple[RaggedTokens, NDArray[np.integer]]:
    """Return the kept tokens of N records, or the best ``k`` of each, and the rank of every token.

    An empty record gives an empty segment. A record that was cut short, or has a token id outside the vocabulary, is a
    ``ValueError``.
    """
    token_dtype = recipe.token_dtype
    sizes = np.fromiter(map(len, records), dtype=np.int64, count=len(records)) - HEADER.itemsize
    sizes[sizes == -HEADER.itemsize] = 0
    if (sizes < 0).any() or (sizes % token_dtype.itemsize).any():
        raise ValueError("a record was cut short")
    tokens = np.frombuffer(b"".join([record[HEADER.itemsize :] for record in records]), dtype=token_dtype)
    ids, ranks, cu = tokens["id"].astype(np.int32), tokens["rank"], lengths_to_offsets(sizes // token_dtype.itemsize)
    check_ids(ids, recipe.vocabulary, "the vocabulary", "the record is not as it was written")
    if k is not None:
        # ranks [2, 0, 1 | 0] and k = 2 -> kept [False, True, True | True]; cu [0, 3, 4] -> [0, 2, 3]
        kept = ranks < k
        ids, ranks, cu = ids[kept], ranks[kept], np.concatenate([[0], np.cumsum(kept)])[cu]
    return RaggedTokens(ids, cu), ranks


def headers_of(records: Sequence[bytes]) -> NDArray[Any]:
    """Return the header of each record, of dtype ``HEADER``; zeros stand for what a record lacks."""
    size = HEADER.itemsize
    return np.frombuffer(b"".join([record[:size].ljust(size, b"\0") for record in records]), dtype=HEADER)


def is_intact(key: bytes, record: bytes) -> bool:
    """Return whether the record's checksum is that of its key and content."""
    return crc32(record[4:], crc32(key)) == int.from_bytes(record[:4], "little")
