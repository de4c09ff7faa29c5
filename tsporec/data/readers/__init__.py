"""Read catalogues and interactions from the files of public recommenders; each format has a module.

Every reader returns :class:`~tsporec.data.items.Item` objects or time-ordered
:class:`~tsporec.data.items.Interactions`. The functions here find the reader by the format's name or by the file's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tsporec.data.items import Interactions, Item
from tsporec.data.readers import amazon, hllm, mind, minionerec, plain, recbole

ItemReader = Callable[[str | Path], list[Item]]
SequenceReader = Callable[[str | Path], list[Interactions]]
Reader = TypeVar("Reader", ItemReader, SequenceReader)

ITEM_READERS: dict[str, ItemReader] = {
    "minionerec": minionerec.read_items,
    "recbole": recbole.read_items,
    "amazon2018": amazon.read_items_2018,
    "amazon2023": amazon.read_items_2023,
    "mind": mind.read_items,
    "hllm": hllm.read_items,
    "plain": plain.read_items,
}
SEQUENCE_READERS: dict[str, SequenceReader] = {
    "minionerec": minionerec.read_rows,
    "minionerec-inter": minionerec.read_sequences,
    "recbole": recbole.read_sequences,
    "amazon2018": amazon.read_sequences_2018,
    "amazon2023": amazon.read_sequences_2023,
    "mind": mind.read_sequences,
    "hllm": hllm.read_sequences,
    "plain": plain.read_sequences,
}

_ITEM_NAMES = {".item.json": "minionerec", ".item": "recbole", "news.tsv": "mind", "items.jsonl": "plain"}
_SEQUENCE_NAMES = {
    ".inter.json": "minionerec-inter",
    ".inter": "recbole",
    "behaviors.tsv": "mind",
    "interactions.csv": "plain",
    ".train.csv": "minionerec",
    ".valid.csv": "minionerec",
    ".test.csv": "minionerec",
}


def read_items(path: str | Path, kind: str | None = None) -> list[Item]:
    """Read the items of ``path``. ``kind`` names the format; by default the file's name decides.

    Raises
    ------
    ValueError
        If the format is unknown, a line of the file is malformed (file and line are named), or there is no item.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "items.jsonl"
    >>> _ = path.write_text('{"id": 1, "title": "Gel pen"}')
    >>> read_items(path)
    [Item(id='1', fields={'title': 'Gel pen'})]
    """
    items = _find(path, kind, ITEM_READERS, _ITEM_NAMES)(path)
    if not items:
        raise ValueError(f"{path}: the catalogue is empty; expected at least one item.")
    return items


def read_sequences(path: str | Path, kind: str | None = None) -> list[Interactions]:
    """Read the interactions of ``path``; see :func:`read_items`.

    MiniOneRec's csv and RecBole's ``item_id_list`` give one sequence for each row, with the target last. Other formats
    give one sequence for each user.
    """
    return _find(path, kind, SEQUENCE_READERS, _SEQUENCE_NAMES)(path)


def _find(path: str | Path, kind: str | None, readers: dict[str, Reader], names: dict[str, str]) -> Reader:
    if kind is None:
        name = Path(path).name.removesuffix(".gz")
        kind = next((known for ending, known in names.items() if name.endswith(ending)), None)
        if kind is None:
            if not Path(path).exists():
                raise ValueError(f"{path}: there is no such file.")
            raise ValueError(
                f"{path}: the name does not show the format; give kind=… (--format), one of {', '.join(readers)}."
            )
    if kind not in readers:
        raise ValueError(f"there is no format {kind!r}; expected one of {', '.join(readers)}.")
    return readers[kind]
