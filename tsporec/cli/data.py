"""The options that name a user's data, how commands read them, and ``tsporec split``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from tsporec.cli import options
from tsporec.cli.options import names


@dataclass(frozen=True)
class Data:
    """What a command learns from and tests on, and a record of where it came from for results files."""

    items: list[Any]
    train: list[Any]
    rows: list[Any]
    reading: dict[str, Any]
    """Arguments of :func:`tsporec.evaluation.task.prepare`."""
    origin: dict[str, Any]


def read_data(
    items: Path, interactions: Path, test: Path | None, split: str | None, format_: str | None, id_field: str | None,
    fields: str, max_tokens: int | None, drop_unknown: bool,
) -> Data:  # fmt: skip
    """Read the files and split them. Test targets that stand in the training interactions are refused."""
    from tsporec.data.items import check_fields
    from tsporec.data.readers import find_format, read_items, read_sequences
    from tsporec.data.splits import make_rows, refuse_learned
    from tsporec.data.splits import split as split_sequences

    if test is not None and split is not None:
        raise ValueError("--split says how to split --interactions, and --test gives what is held out; leave one out.")
    catalogue, wanted = read_items(items, format_, id_field), names(fields, "--fields")
    check_fields(catalogue, wanted)
    train = read_sequences(interactions, format_, id_field)
    if test is None:
        split = split or "last-item"
        train, held_out = split_sequences(train, split)
    else:
        held_out = read_sequences(test, format_, id_field)
        refuse_learned(train, held_out)
    if drop_unknown:
        known = {item.id for item in catalogue}
        named = [item for sequence in [*train, *held_out] for item in sequence.item_ids]
        lost = [item for item in named if item not in known]
        if len(lost) == len(named):
            raise ValueError(
                f"none of {len(named):,} interactions is with an item of the catalogue: they name items like "
                f"{named[0]!r}, and its ids are like {catalogue[0].id!r}."
            )
        typer.echo(f"left out: {len(lost):,} of {len(named):,} interactions, with items the catalogue lacks", err=True)
    rows = make_rows(train, held_out)
    new = sum(row.item_ids[-1] not in row.item_ids[:-1] for row in rows)
    typer.echo(f"{len(catalogue):,} items, {len(train):,} users to learn from, {len(rows):,} rows to test on", err=True)
    if not new:
        raise ValueError(
            f"none of {len(rows)} test rows has a history and an item that is new to its user, so nothing is tested; "
            "give users with more interactions, or another --split or --test."
        )
    origin = {
        "items": items.name, "interactions": interactions.name, "split": f"file {test.name}" if test else split,
        "format": {"items": find_format(items, format_), "interactions": find_format(interactions, format_)},
        "fields": wanted, "max_tokens": max_tokens,
    }  # fmt: skip
    reading = {"fields": wanted, "max_tokens": max_tokens, "unknown": "drop" if drop_unknown else "error"}
    return Data(catalogue, train, rows, reading, origin)


def split(
    interactions: options.Interactions,
    output: Annotated[Path, typer.Option(help="Folder for train.csv and test.csv.")],
    split: options.Split = None,
    share: Annotated[float, typer.Option(help="Share of the interactions that --split time holds out.")] = 0.1,
    format_: options.Format = None,
    id_field: options.IdField = None,
) -> None:
    """Write interactions as two files, for --interactions and --test: what to train on, and what is held out."""
    from tsporec.data.readers import read_sequences
    from tsporec.data.readers.plain import write_sequences
    from tsporec.data.splits import split as split_sequences

    parts = split_sequences(read_sequences(interactions, format_, id_field), split or "last-item", share)
    for name, sequences in zip(("train.csv", "test.csv"), parts, strict=True):
        write_sequences(output / name, sequences)
        count = sum(len(sequence.item_ids) for sequence in sequences)
        typer.echo(f"{output / name}: {count:,} interactions of {len(sequences):,} users")
