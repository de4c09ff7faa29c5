"""The commands that share a selector: ``tsporec card | push``, and what ``tsporec train`` records for the card."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from tsporec._internal.files import write_whole
from tsporec._internal.terminal import printable
from tsporec.selector import files, hub
from tsporec.selector.card import PLACEHOLDER, find_name, model_card

_RULE = "A rule over the word frequencies of these texts: tsporec train kept no round, so nothing was learned."
_MEASURED = (
    "Rounds of tsporec train: the share of held-out pairs that are ordered as the reward orders them and, with "
    "--gate, NDCG@10 on held-out users of a recommender fitted on the selection."
)

FolderArgument = Annotated[Path, typer.Argument(help="A folder that save_pretrained or `tsporec train` wrote.")]


def card(
    selector: Annotated[str, typer.Argument(help="A folder, tsporec/base (bundled) or a Hub id.")],
    name: Annotated[str, typer.Option(help="The name that the card loads; default: the name on its card.")] = "",
    write: Annotated[bool, typer.Option(help="Write it to the folder's README.md instead of printing it.")] = False,
) -> None:
    """Print the model card of a selector."""
    folder = hub.find_local(selector)
    saved = hub.load(selector)[0] if folder is None else files.read_config(folder / files.CONFIG)
    bundled = folder is not None and folder.resolve().is_relative_to(hub.BUNDLED.resolve())
    name = name or (selector if folder is None or bundled else find_name(files.read_card(folder) or "") or PLACEHOLDER)
    text = model_card(saved, name)
    if not write:
        typer.echo(printable(text), nl=False)
    elif folder is None or bundled:
        raise ValueError(
            f"--write needs a folder of yours; {selector} is {'in the package' if bundled else 'on the Hub'}."
        )
    else:
        write_whole(folder / files.CARD, text.encode())
        typer.echo(f"card written to {folder / files.CARD}")


def push(
    folder: FolderArgument,
    repo_id: Annotated[str, typer.Argument(help="USER/NAME on the Hub; made if it does not exist.")],
    message: Annotated[str, typer.Option(help="The commit's message.")] = "Upload a tsporec selector",
    revision: Annotated[str | None, typer.Option(help="A branch; default: main.")] = None,
    private: Annotated[bool | None, typer.Option(help="Whether a repository that is made is private.")] = None,
    create_pr: Annotated[bool, typer.Option(help="Open a pull request instead of committing.")] = False,
) -> None:
    """Upload a selector and its card to the Hub, with the token of `hf auth login` or HF_TOKEN."""
    address = hub.push(folder, repo_id, commit_message=message, revision=revision, private=private, create_pr=create_pr)
    typer.echo(f"pushed: {address}")


def record_training(folder: Path, rounds: list[dict[str, Any]], training: dict[str, Any], push_to: str | None) -> None:
    """Put on the card what ``tsporec train`` knows, and push if asked."""
    rows = [
        {"round": number, "pairs": report["pairs"], "held-out accuracy": _finite(report["accuracy"]),
         "held-out NDCG@10": _finite(report["quality"]), "kept": "yes" if report["kept"] else "no",
         "learned": report["learned"]}
        for number, report in enumerate(rounds, start=1)
    ]  # fmt: skip
    kept = sum(report["kept"] for report in rounds)
    known = {**training, "rounds": kept, "metrics": rows, "measured": _MEASURED}
    if not kept:
        known |= {"summary": _RULE, "reward": None}
    if not files.describe(folder, known):
        typer.echo(
            f"{folder / files.CARD} was edited and stays as it is; `tsporec card {folder}` prints a new one", err=True
        )
    if push_to:
        typer.echo(f"pushed: {hub.push(folder, push_to)}", err=True)


def _finite(value: float | None) -> float | None:
    """Return ``value``, or None where nothing was measured: JSON has no NaN."""
    return value if value is not None and math.isfinite(value) else None
