"""Any source of items as a stream of chunks, so that only the chunks in progress are in memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.digest import short_digests
from tsporec.data.items import FIELDS, Item, item_text
from tsporec.data.readers import find_format, read_items
from tsporec.data.readers.plain import ENDINGS, IDS, read_records, table_rows
from tsporec.tokens.ragged import RaggedTokens


@dataclass(frozen=True, eq=False)
class Chunk:
    """N items: their ids, and their texts or, if they are tokenised already, tokens without special tokens.

    >>> len(Chunk(["a", "b"], texts=["blue gel pen", ""]))
    2
    """

    ids: Any
    texts: list[str] | None = None
    tokens: RaggedTokens | None = None

    def __post_init__(self) -> None:
        given = [len(part) for part in (self.texts, self.tokens) if part is not None]
        if given != [len(self.ids)]:
            raise ValueError(f"a Chunk of {len(self.ids)} ids needs as many texts or token segments; found {given}.")

    def __len__(self) -> int:
        return len(self.ids)

    def digests(self) -> NDArray[np.uint64]:
        """Return the digest of each text, or of its int32 token ids: uint64 ``[N]``."""
        if self.tokens is not None:
            return short_digests(row.astype("<i4", copy=False).tobytes() for row in self.tokens)
        return short_digests(text.encode("utf-8", "surrogatepass") for text in self.texts or ())

    def take(self, rows: NDArray[np.int64]) -> Chunk:
        """Return the items at positions ``rows``."""
        ids = [self.ids[row] for row in rows.tolist()]
        texts = None if self.texts is None else [self.texts[row] for row in rows.tolist()]
        return Chunk(ids, texts, None if self.tokens is None else self.tokens.take(rows))


Items: TypeAlias = str | Path | Iterable[Item] | Iterable[Mapping[str, Any]] | Iterable[Chunk]


def read_chunks(source: Any, fields: Sequence[str], id_field: str | None, size: int) -> Iterator[Chunk]:
    """Yield chunks of at most ``size`` items.

    A path is a file that :func:`tsporec.data.readers.read_items` knows, or a folder of json, csv and parquet files,
    which are read in the order of their names. Any other ``source`` is a DataFrame, or an iterable of Items, of
    mappings such as the rows of a ``datasets.Dataset``, or of Chunks, which are passed on as they are. The text
    ``fields`` of a mapping are cleaned and joined; its id is in ``id_field``, by default ``item_id`` or ``id``. A field
    that no row has is a warning; of the default ones, one is enough.

    Raises
    ------
    ValueError
        If an element is none of these, or a row has no id.

    Examples
    --------
    >>> [chunk.texts for chunk in read_chunks([{"id": 1, "title": "gel  pen"}], ["title"], None, 100)]
    [['gel pen']]
    """
    rows = _read_path(Path(source)) if isinstance(source, str | Path) else table_rows(source)
    names = IDS if id_field is None else (id_field,)
    if isinstance(rows, Mapping) or not isinstance(rows, Iterable):
        raise ValueError(f"items must be a path or an iterable of items or rows, found {type(rows).__name__}.")
    ids: list[Any] = []
    texts: list[str] = []
    absent, has = set(fields), frozenset[str]()
    for number, row in enumerate(rows, start=1):
        if isinstance(row, Item):
            has = frozenset(row.fields)
            ids.append(row.id)
            texts.append(item_text(row, fields))
        elif isinstance(row, Mapping):
            found = next((row[name] for name in names if row.get(name) is not None), None)
            if found is None:
                raise ValueError(
                    f"row {number} has no {' or '.join(map(repr, names))}; found {sorted(row)}. Name the column of ids "
                    "with id_field=… (--id-field)."
                )
            ids.append(found)
            texts.append(item_text(Item.from_raw("", {name: row.get(name) for name in fields}), fields))
            has = frozenset(row)
        elif not isinstance(row, Chunk):
            raise ValueError(
                f"element {number} is {type(row).__name__}; expected an Item, a mapping with {' or '.join(names)}, or "
                "a Chunk."
            )
        absent = set() if isinstance(row, Chunk) else absent - has
        if ids and (len(ids) == size or isinstance(row, Chunk)):
            yield Chunk(ids, texts)
            ids, texts = [], []
        if isinstance(row, Chunk):
            yield row
    if ids:
        yield Chunk(ids, texts)
    if has and absent and tuple(fields) != FIELDS:
        told = f"none of {number:,} items has the text fields {sorted(absent)}; the last one has {sorted(has)}."
        warnings.warn(told, stacklevel=1)


def check_again(source: Any) -> None:
    """Refuse a source of items that can be read only once."""
    if not isinstance(source, str | Path) and isinstance(source, Iterable) and iter(source) is iter(source):
        raise ValueError(
            f"items is a {type(source).__name__}, which can be read only once, and without a selector the words of all "
            "items are counted first. Give a file, a list or another iterable that starts anew each time; or "
            "selector='tsporec/base', which is used as it is."
        )


def _read_path(path: Path) -> Iterable[Any]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.name.removesuffix(".gz").endswith(ENDINGS))
        if not files:
            raise ValueError(f"{path} has no {', '.join(ENDINGS)} file.")
        return chain.from_iterable(map(_read_path, files))
    if find_format(path) == "plain":
        return (record for _, record in read_records(path))
    return read_items(path)
