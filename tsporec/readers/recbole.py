"""RecBole atomic files: tab-separated, with a type behind each name of the header (``item_id:token``)."""

from __future__ import annotations

from pathlib import Path

from tsporec.items import Interactions, Item
from tsporec.readers.common import by_user, convert, fault, field, open_text, table


def read_items(path: str | Path) -> list[Item]:
    """Items of ``X.item``: every ``token``, ``token_seq`` and ``float`` column beside ``item_id`` is a field."""
    path = Path(path)
    names = _names(path, ("item_id",))
    items = []
    for line, row in table(path, (), delimiter="\t"):
        record = {names[column]: value for column, value in row.items()}
        item_id = field(path, line, record, "item_id")
        items.append(Item.from_raw(item_id, {name: text for name, text in record.items() if name != "item_id"}))
    return items


def read_sequences(path: str | Path) -> list[Interactions]:
    """One sequence a user from ``X.inter``, by ``timestamp`` where there is one, else in file order."""
    path = Path(path)
    names = _names(path, ("user_id", "item_id"))
    events = []
    for line, row in table(path, (), delimiter="\t"):
        record = {names[column]: value for column, value in row.items()}
        time = convert(path, line, record.get("timestamp", "0"), float, "a timestamp")
        events.append((field(path, line, record, "user_id"), time, field(path, line, record, "item_id")))
    return by_user(events)


def _names(path: Path, required: tuple[str, ...]) -> dict[str, str]:
    """Column -> its name without the type."""
    with open_text(path) as stream:
        header = stream.readline().rstrip("\r\n").split("\t")
    names = {column: column.partition(":")[0] for column in header}
    for name in required:
        if name not in names.values():
            raise fault(path, 1, f"no column {name!r}; found {header}. Is it an atomic file?")
    return names
