"""The commands that share a selector: ``tsporec card | push``, and what ``tsporec train`` records for the card."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from tsporec._internal.files import write_whole
from tsporec.selector import hub
from tsporec.selector.card import PLACEHOLDER, find_name, model_card
from tsporec.selector.item_weights import OFFSETS

_RULE = (
    "A rule over the word frequencies of these texts, from which `tsporec train` began; no network has learned in it."
)
_MEASURED = (
    "Rounds of `tsporec train`: the share of held-out pairs that are ordered as the reward has them and, with "
    "`--gate`, NDCG@10 on held-out users of a recommender fitted on the selection. Offsets are of the tokens of the "
    "catalogue's own texts and are not part of what is shared: their rounds say nothing of this selector."
)

FolderArgument = Annotated[Path, typer.Argument(help="A folder that save_pretrained or `tsporec train` wrote.")]


def card(
    selector: Annotated[str, typer.Argument(help="A folder, tsporec/base (in the box) or a Hub id.")],
    name: Annotated[str, typer.Option(help="What the lines of use load; default: the name on its card.")] = "",
    write: Annotated[bool, typer.Option(help="Write it to the folder's README.md instead of printing it.")] = False,
) -> None:
    """Print the model card of a selector."""
    folder = hub.find_local(selector)
    config = hub.load(selector)[0] if folder is None else hub.read_config(folder / hub.CONFIG)
    boxed = folder is not None and folder.resolve().is_relative_to(hub.BOX.resolve())
    name = name or (selector if folder is None or boxed else find_name(hub.read_card(folder) or "") or PLACEHOLDER)
    text = model_card(config, name)
    if not write:
        typer.echo(text, nl=False)
    elif folder is None or boxed:
        raise ValueError(
            f"--write needs a folder of yours; {selector} is {'in the package' if boxed else 'on the Hub'}."
        )
    else:
        write_whole(folder / hub.CARD, text.encode())
        typer.echo(f"card written to {folder / hub.CARD}")


def push(
    folder: FolderArgument,
    repo_id: Annotated[str, typer.Argument(help="USER/NAME on the Hub; made if it does not exist.")],
    message: Annotated[str, typer.Option(help="Of the commit.")] = "Upload a tsporec selector",
    revision: Annotated[str | None, typer.Option(help="A branch; default: main.")] = None,
    private: Annotated[bool | None, typer.Option(help="If the repository is made.")] = None,
    create_pr: Annotated[bool, typer.Option(help="Open a pull request instead of committing.")] = False,
) -> None:
    """Upload a selector and its card to the Hub, with the token of `hf auth login` or HF_TOKEN."""
    address = hub.push(folder, repo_id, commit_message=message, revision=revision, private=private, create_pr=create_pr)
    typer.echo(f"pushed: {address}")
    if (folder / OFFSETS).is_file():
        typer.echo(f"{OFFSETS} stays here: the offsets are of your catalogue's own texts and serve no other")


def record_training(folder: Path, rounds: list[dict[str, Any]], training: dict[str, Any], push_to: str | None) -> None:
    """Put on the card what ``tsporec train`` knows, and push if asked.

    The card is that of what a push shares: the network or, where no round of it was kept, the rule it began from.
    """
    rows = [
        {"round": number, "pairs": report["pairs"], "held-out accuracy": _finite(report["accuracy"]),
         "held-out NDCG@10": _finite(report["quality"]), "kept": "yes" if report["kept"] else "no",
         "learned": report["learned"]}
        for number, report in enumerate(rounds, start=1)
    ]  # fmt: skip
    network = sum(report["kept"] and report["learned"] == "network" for report in rounds)
    known = {**training, "rounds": network, "metrics": rows, "measured": _MEASURED}
    if not network:
        known |= {"summary": _RULE, "reward": None}
    if not hub.describe(folder, known):
        typer.echo(f"{folder / hub.CARD} was edited and stays as it is; `tsporec card {folder}` prints a new one")
    if push_to:
        address = hub.push(folder, push_to)
        what = "network" if network else "rule alone, since no round of --network-rounds was kept"
        typer.echo(f"pushed the {what}, without the offsets of this catalogue's own texts: {address}")


def _finite(value: float | None) -> float | None:
    """What was not measured is None on a card, which holds what JSON has."""
    return value if value is not None and math.isfinite(value) else None
