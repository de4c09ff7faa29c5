"""``tsporec compress``: make a compressed catalogue."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from tsporec.cli import options
from tsporec.cli.options import names


def compress(
    items: options.Items,
    model: Annotated[str, typer.Option(help="Tokenizer of the recommender: a folder or a Hub id.")],
    output: Annotated[Path, typer.Option(help="Folder of the compressed catalogue.")],
    budget: Annotated[str | None, typer.Option(help="Tokens to keep of each text. Default: 16.")] = None,
    ratio: options.Ratio = None,
    selector: options.Selector = None,
    granularity: options.Granularity = "token",
    keep: options.Keep = None,
    fields: options.Fields = options.FIELDS,
    id_field: options.IdField = None,
    num_proc: Annotated[int, typer.Option(help="Number of worker processes.")] = 1,
    overwrite: Annotated[bool, typer.Option(help="Replace the catalogue that is there.")] = False,
    resume: Annotated[bool, typer.Option(help="Go on with a build that was cut off, or drop it.")] = True,
    format_: options.Format = None,
) -> None:
    """Compress a catalogue once; recommenders then look items up by id.

    Your own files, and folders of them, are read as a stream, unless --format is given.
    """
    import numpy as np

    from tsporec.catalog.catalog import ItemCatalog
    from tsporec.data.readers import read_items
    from tsporec.evaluation.report import make_console
    from tsporec.language_model import load_tokenizer
    from tsporec.tokens.ragged import segment_digests

    catalog = ItemCatalog.build(
        items if format_ is None else read_items(items, format_, id_field),
        budget=options.read_budget(budget, ratio, "a catalogue"), keep=options.patterns(keep),
        fields=names(fields, "--fields"), tokenizer=load_tokenizer(model), selector=selector, path=output,
        granularity=granularity, id_field=id_field, num_proc=num_proc, overwrite=overwrite, resume=resume,
    )  # fmt: skip
    report, console = catalog.report, make_console()
    assert report is not None
    console.print(
        f"{report.items} items ({report.empty} empty, {report.resumed} resumed) in {report.seconds:.1f} s: "
        f"{report.items_per_second:.0f} items/s"
    )
    if report.known:
        console.print(f"{report.known} of them are items that the selector has learned weights for")
    if report.marked:
        console.print(options.kept_share(report.marked, report.survived, report.tokens_after))
    console.print(f"word frequencies: {catalog.recipe.frequencies}")
    console.print(f"{report.tokens_before} tokens before, {report.tokens_after} after; catalogue in {output}")
    # One row an item: a digest of what it keeps -> how many items have it
    ids = iter(catalog)
    kept = [segment_digests(catalog.lookup(part)) for part in iter(lambda: list(islice(ids, 10_000)), [])]
    counts = np.unique(np.concatenate(kept), return_counts=True)[1] if kept else np.ones(1)
    console.print(f"{counts[counts == 1].sum() / counts.sum():.1%} of the items keep tokens that no other item keeps")
