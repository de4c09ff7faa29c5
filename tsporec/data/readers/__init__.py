"""Read catalogues and interactions: your own files and tables, and the files of public recommenders.

Each format has a module: ``plain`` (your own data), ``amazon``, ``hllm``, ``mind``, ``minionerec`` and ``recbole``;
``common`` holds their helpers. Every reader returns :class:`~tsporec.data.items.Item` objects or
:class:`~tsporec.data.items.Interactions`. The functions here find the reader by the format's name or by the file's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsporec.data.items import Interactions, Item
from tsporec.data.readers import amazon, hllm, mind, minionerec, plain, recbole


@dataclass(frozen=True)
class Format:
    """The readers of a format, and the files that it has, in words."""

    read_items: Callable[[Any], list[Item]]
    read_sequences: Callable[[Any], list[Interactions]]
    files: str


FORMATS = {
    "plain": Format(plain.read_items, plain.read_sequences, "your own .jsonl, .json, .csv, .tsv or .parquet"),
    "minionerec": Format(
        minionerec.read_items, minionerec.read_sequences, "X.item.json; X.inter.json or X.{train,valid,test}.csv"
    ),
    "recbole": Format(recbole.read_items, recbole.read_sequences, "X.item; X.inter"),
    "amazon2018": Format(
        amazon.item_reader(2018), amazon.sequence_reader(2018), "meta_X.json.gz; reviews X.json.gz, of 2018"
    ),
    "amazon2023": Format(
        amazon.item_reader(2023), amazon.sequence_reader(2023), "meta_X.jsonl.gz; reviews X.jsonl.gz, of 2023"
    ),
    "mind": Format(mind.read_items, mind.read_sequences, "news.tsv; behaviors.tsv"),
    "hllm": Format(hllm.read_items, hllm.read_sequences, "information/X.csv; dataset/X.csv"),
}
"""Name of a format -> its readers."""

_ENDINGS = {
    ".item.json": "minionerec", ".inter.json": "minionerec", ".item": "recbole", ".inter": "recbole",
    "news.tsv": "mind", "behaviors.tsv": "mind", **dict.fromkeys(plain.ENDINGS, "plain"),
}  # fmt: skip


def read_items(source: Any, kind: str | None = None, id_field: str | None = None) -> list[Item]:
    """Read the items of a file or of a table in memory. An error names the file and the line.

    Parameters
    ----------
    source : path, DataFrame (pandas or polars), datasets.Dataset, or iterable of mappings
    kind : str, optional
        Name of the format, one of :data:`FORMATS`. Default: the file's name decides.
    id_field : str, optional
        Column of the ids in your own data. Default: ``item_id`` or ``id``.

    Examples
    --------
    >>> read_items([{"id": 1, "title": "Gel pen"}])
    [Item(id='1', fields={'title': 'Gel pen'})]
    """
    found, options = _find(source, kind, id_field)
    items = found.read_items(source, **options)
    if not items:
        raise ValueError(f"{_label(source)}: the catalogue is empty; expected at least one item.")
    return items


def read_sequences(source: Any, kind: str | None = None, id_field: str | None = None) -> list[Interactions]:
    """Read the interactions of a file or of a table in memory; the arguments are those of :func:`read_items`.

    Records with a history give one row each, with the target last. Others give one sequence for each user.

    >>> read_sequences([{"user_id": "u", "item_id": 2, "date": "2024-05-02"},
    ...                 {"user_id": "u", "item_id": 1, "date": "2024-05-01"}])
    [Interactions(user_id='u', item_ids=('1', '2'))]
    """
    found, options = _find(source, kind, id_field)
    sequences = found.read_sequences(source, **options)
    if not sequences:
        raise ValueError(f"{_label(source)}: there is no interaction; expected a user and an item in each record.")
    return sequences


def find_format(source: Any, kind: str | None = None) -> str:
    """Find the name of a source's format; ``kind`` is the name if it is given.

    >>> find_format("Office.item.json"), find_format("items.csv.gz"), find_format([{"id": 1}])
    ('minionerec', 'plain', 'plain')
    """
    if kind is None and isinstance(source, str | Path):
        name = Path(source).name.removesuffix(".gz")
        kind = next((known for ending, known in _ENDINGS.items() if name.endswith(ending)), None)
        if kind is None:
            if Path(source).is_dir():
                raise ValueError(f"{source} is a folder; name the file in it.")
            problem = "the name does not show the format" if Path(source).exists() else "there is no such file"
            raise ValueError(f"{source}: {problem}. {_listed()}")
    kind = kind or "plain"
    if kind not in FORMATS:
        raise ValueError(f"there is no format {kind!r}. {_listed()}")
    if kind != "plain" and not isinstance(source, str | Path):
        raise TypeError(f"the format {kind} is one of files; found {type(source).__name__}.")
    return kind


def _find(source: Any, kind: str | None, id_field: str | None) -> tuple[Format, dict[str, str]]:
    for name, given in (("kind", kind), ("id_field", id_field)):
        if given is not None and not isinstance(given, str):
            raise TypeError(f"{name} must be a text; found {given!r:.60}.")
    kind = find_format(source, kind)
    if id_field is not None and kind != "plain":
        raise ValueError(f"the format {kind} has its ids in one place; leave out id_field=… (--id-field).")
    return FORMATS[kind], {} if id_field is None else {"id_field": id_field}


def _listed() -> str:
    known = "; ".join(f"{name} ({of.files})" for name, of in FORMATS.items())
    return f"Name the format with kind=… (--format): {known}."


def _label(source: Any) -> str:
    return str(source) if isinstance(source, str | Path) else type(source).__name__
