"""The model card of a selector: a README that says what it learned from, how to use it, and what it cannot do.

The card is made from config.json alone, by the template card.md. So it can be printed for any selector
(``tsporec card FOLDER``) and never says more than is known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tsporec.selector.config import SavedSelector

TRAINING = {
    "summary": "one sentence: what this selector is",
    "base": "the selector that training started from",
    "data": "a list of the texts: name, origin, size",
    "terms": "the terms of the data",
    "datasets": "a list of data sets on the Hub, by id",
    "tokenizers": "a list of names",
    "reward": "what the preferences were made by",
    "budgets": "a list, such as 8 tokens",
    "rounds": "how many rounds of preference learning were kept",
    "metrics": "rows of a table: a list of mappings column -> value",
    "measured": "a sentence or more: how the metrics were measured",
    "limits": "a list of sentences",
    "license": "of the weights, as the Hub writes it",
    "environment": "the value of tsporec.evaluation.results_file.environment",
}
"""The keys of ``SelectorConfig.training`` that a card prints. All are optional; others are kept and not printed."""

PLACEHOLDER = "USER/NAME"
"""The name on the card of a selector that has not been pushed."""

_SHAPE = ("dim", "hidden", "gram_buckets", "surface_buckets", "weighting")


def model_card(saved: SavedSelector, name: str = PLACEHOLDER) -> str:
    """Make the model card, Markdown behind metadata in YAML. Its lines of use load ``name``."""
    from huggingface_hub import ModelCard, ModelCardData

    training, name = dict(saved.config.training), _line(name)
    columns, rows = _table(training.get("metrics"))
    if isinstance(origin := training.get("environment"), Mapping):
        versions = origin.get("versions")
        parts = {key: origin[key] for key in ("commit", "seed") if key in origin}
        parts |= versions if isinstance(versions, Mapping) else {}
        training["environment"] = ", ".join(f"{key} {value}" for key, value in parts.items())
    data = ModelCardData(
        library_name="tsporec",
        license=_line(training["license"]) if training.get("license") else None,
        tags=["tsporec", "recommendation", "token-selection", "prompt-compression"],
        datasets=[_line(one) for one in _listed(training.get("datasets"))] or None,
    )
    card = ModelCard.from_template(
        data,
        template_path=str(Path(__file__).with_name("card.md")),
        name=name,
        loads=_loads(name),
        training=training,
        limits=_listed(training.get("limits")),
        columns=columns,
        rows=rows,
        items=saved.item_weights,
        has_network=saved.has_network,
        shape=", ".join(f"{key} {getattr(saved.config, key)}" for key in _SHAPE),
        plain=_plain,
        paragraph=_paragraph,
    )
    return str(card.content).rstrip() + "\n"


def find_name(card: str) -> str | None:
    """Find the name in the first heading of ``card``, if its lines of use load that name; else None."""
    found = re.search("^# (.+)$", card, re.MULTILINE)
    return found[1] if found and _loads(found[1]) in card else None


def _loads(name: str) -> str:
    return f"from_pretrained({json.dumps(name)})"


def _table(rows: Any) -> tuple[list[str], list[list[str]]]:
    """Make columns and cells of a table: ``[{"k": 2, "a": .5}, {"k": 4}] -> [k, a], [[2, 0.5000], [4, ""]]``."""
    found = [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list | tuple) else []
    columns = list(dict.fromkeys(column for row in found for column in row))
    return [_plain(column) for column in columns], [[_cell(row.get(one)) for one in columns] for row in found]


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "" if value is None else _plain(value)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value] if value else []


def _line(value: Any) -> str:
    return " ".join(str(value).split())


def _plain(value: Any) -> str:
    r"""Escape free text as one line of Markdown: ``"a*b\n<c>" -> r"a\*b \<c>"``; a list with ";"."""
    text = "; ".join(map(_line, value if isinstance(value, list | tuple) else [value]))
    return re.sub(r"([\\`*<|~]|\](?=[(\[:])|&(?=#?\w+;)|(?<!\w)_|_(?!\w))", r"\\\1", text)


def _paragraph(value: Any) -> str:
    """Free text as a paragraph or an element of a list: its start is no heading, list or rule."""
    return re.sub(r"^(\d*)([-+=#>.)])", r"\1\\\2", _plain(value))
