"""The model card of a selector: a README that says what it learned from, how to use it, and what it cannot do.

It is made from the config alone, so that it can be printed for any selector (``tsporec card FOLDER``) and never says
more than is known. What is known stands in ``SelectorConfig.training``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tsporec.selector.config import SelectorConfig

TRAINING = {
    "summary": "one sentence: what this selector is",
    "base": "the selector that training began from",
    "data": "a list of the texts: name, origin, size",
    "terms": "the terms of the data",
    "datasets": "a list of data sets on the Hub, by id",
    "tokenizers": "a list of names",
    "reward": "what the preferences were made by",
    "budgets": "a list, in tokens",
    "rounds": "how many of preference learning",
    "metrics": "rows of a table: a list of mappings column -> value",
    "measured": "a sentence or more: what the metrics are of, and how they were measured",
    "limits": "a list of sentences",
    "license": "of the weights, as the Hub writes it",
    "environment": "what tsporec.evaluation.results.environment gave",
}
"""The keys of ``SelectorConfig.training`` that a card prints; all are optional, and others are kept unprinted."""

_LIMITS = [
    "It orders the tokens of one text; scores of different texts are not comparable.",
    "It drops text: do not use it where every word counts (safety notes, doses, contracts).",
]
_SCORES = {
    True: "It scores the tokens of a text by what a recommender gains from reading them, as the reward below has it.",
    False: "It scores the tokens of a text: the higher, the more worth keeping.",
}
_BINDING = {"surface": "tokenizer", "embeddings": "tokenizer, embeddings=model.get_input_embeddings().weight"}
_SHAPE = ("dim", "hidden", "gram_buckets", "surface_buckets", "weighting")
_LIMIT_OF_TABLE = {
    "surface": "Word frequencies are those of the texts it saw; `selector.fit(tokens)` takes them from yours.",
    "embeddings": "It reads the input embeddings of one language model and works with that model alone.",
}


PLACEHOLDER = "USER/NAME"
"""The name on the card of a selector that has not been pushed."""


def model_card(config: SelectorConfig, name: str = PLACEHOLDER) -> str:
    """The card as Markdown with YAML metadata.

    Parameters
    ----------
    config : SelectorConfig
    name : str
        What ``from_pretrained`` is given in the lines of use.
    """
    training, table, name = config.training, config.table, _line(name)
    shape = ", ".join(f"{key} {getattr(config, key)}" for key in _SHAPE)
    limits = [*_LIMITS, _LIMIT_OF_TABLE[table], *_listed(training.get("limits"))]
    return "\n".join([
        "---", *_metadata(training), "---", "",
        f"# {name}", "",
        _line(training.get("summary") or "A token selector."), "",
        _SCORES[bool(training.get("reward"))] +
        " The library `tsporec` keeps the best of each text, in their order.", "",
        "## Use", "",
        "```python",
        "from tsporec import Budget, TokenSelector", "",
        f"selector = TokenSelector.{_loads(name)}.for_tokenizer({_BINDING[table]})",
        "selection = selector.select(tokens, Budget(tokens=16))  # tokens: RaggedTokens, a text a segment",
        "```", "",
        "## Training", "",
        *(_training(training) or ["Not recorded; it may be untrained."]), "",
        "## Quality", "",
        *_quality(training), "",
        "## Limits", "",
        *(f"- {limit}" for limit in limits), "",
        "## Shape", "",
        f"{shape}, table of {table}; weights in `model.safetensors`, their sha256 in `config.json`.",
    ]) + "\n"  # fmt: skip


def name_on(card: str, config: SelectorConfig) -> str | None:
    """The name on a card that :func:`model_card` made of ``config``; None where anything else of it was edited."""
    name = find_name(card)
    return name if name is not None and model_card(config, name) == card else None


def find_name(card: str) -> str | None:
    """The name in the first heading of ``card``, made or edited, if its lines of use load that name; else None."""
    found = re.search("^# (.+)$", card, re.MULTILINE)
    return found[1] if found and _loads(found[1]) in card else None


def put_name(card: str, name: str) -> str:
    """``card``, edited or of another version, with ``name`` in place of the placeholder in heading and lines of use."""
    card = re.sub(f"^# {PLACEHOLDER}$", lambda _: f"# {name}", card, flags=re.MULTILINE)
    return card.replace(_loads(PLACEHOLDER), _loads(name))


def _loads(name: str) -> str:
    return f"from_pretrained({json.dumps(name)})"


def _metadata(training: Mapping[str, Any]) -> list[str]:
    """Lines of YAML. JSON is YAML, so values are written as JSON."""
    entries = {
        "library_name": "tsporec",
        "license": training.get("license"),
        "tags": ["tsporec", "recommendation", "token-selection", "prompt-compression"],
        "datasets": _listed(training.get("datasets")),
    }
    return [f"{key}: {json.dumps(value)}" for key, value in entries.items() if value]


def _training(training: Mapping[str, Any]) -> list[str]:
    environment = training.get("environment")
    if isinstance(environment, Mapping):
        parts = [f"{key} {environment[key]}" for key in ("commit", "seed") if key in environment]
        versions = environment.get("versions")
        parts += [f"{name} {version}" for name, version in versions.items()] if isinstance(versions, Mapping) else []
        environment = ", ".join(parts)
    entries = {
        "Began from": training.get("base"),
        "Texts": "; ".join(_listed(training.get("data"))),
        "Terms of the data": training.get("terms"),
        "Tokenizers": "; ".join(_listed(training.get("tokenizers"))),
        "Reward": training.get("reward"),
        "Budgets (tokens)": ", ".join(_listed(training.get("budgets"))),
        "Rounds": training.get("rounds"),
        "Made with": environment,
    }
    return [f"- {key}: {_line(value)}" for key, value in entries.items() if value]


def _quality(training: Mapping[str, Any]) -> list[str]:
    rows, measured = _rows(training.get("metrics")), training.get("measured")
    return [*([_line(measured), ""] if rows and measured else []), *rows] or ["Not measured."]


def _rows(rows: Any) -> list[str]:
    found = [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list | tuple) else []
    head = list(dict.fromkeys(column for row in found for column in row))
    body = [[_cell(row.get(column, "")) for column in head] for row in found]
    return ["| " + " | ".join(row) + " |" for row in [map(_cell, head), ["---"] * len(head), *body]] if found else []


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return "" if value is None else _line(value).replace("|", "\\|")


def _listed(value: Any) -> list[str]:
    return [_line(entry) for entry in (value if isinstance(value, list | tuple) else [value] if value else [])]


def _line(value: Any) -> str:
    return " ".join(str(value).split())
