"""Measure in which forms of a prompt a selector knows the items that it has learned about.

python -m benchmarks.known --data DIR --model DIR

Every item of a catalogue gets random item weights. Its text is then put into the forms that prompts have. Columns:
share of items that are known; share of texts longer than the budget of which other tokens are kept than without item
weights; share of tokens that have a weight; microseconds a text without and with item weights, on one thread.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from benchmarks.datasets import CATALOGUES, read_catalogue
from benchmarks.options import make_parser
from tsporec import RaggedTokens, TokenSelector, select
from tsporec.data.items import tokenize_texts
from tsporec.evaluation.results_file import environment, write_results
from tsporec.language_model import load_tokenizer

BUDGET = 8
FORMS = {
    "as learned": "{0}\n{1}",
    "title: description": "{0}: {1}",
    "on lines": "Title: {0}\nDescription: {1}",
    "in quotes": '"{0} {1}"',
    "list number": "1. {0} {1}",
    "leading space": " {0} {1}",
    "title alone": "{0}",
}


def forms(titles: list[str], descriptions: list[str]) -> dict[str, list[str]]:
    """Return name -> the texts of all items in that form."""
    pairs = list(zip(titles, descriptions, strict=True))
    found = {name: [form.format(*pair) for pair in pairs] for name, form in FORMS.items()}
    whole = found["as learned"]
    return found | {"cut at its end": [text[: 2 * len(text) // 3] for text in whole],
                    "capitals": [text.upper() for text in whole]}  # fmt: skip


def measure(selector: TokenSelector, known: TokenSelector, tokens: RaggedTokens) -> dict[str, float]:
    """Return the row of one form."""
    assert known.item_weights is not None
    assert selector.vocabulary is not None
    before = known.item_weights.known
    start = time.perf_counter()
    plain = select(selector, tokens, BUDGET).apply(tokens).to_lists()
    middle = time.perf_counter()
    learned = select(known, tokens, BUDGET).apply(tokens).to_lists()
    end = time.perf_counter()
    long = tokens.lengths > BUDGET
    other = np.array([a != b for a, b in zip(plain, learned, strict=True)])
    found = known.item_weights.known - before
    positions, _ = known.item_weights.find(tokens, selector.vocabulary.pieces)
    return {
        "known": found / len(tokens), "other tokens kept": float(other[long].mean()),
        "tokens with a weight": len(positions) / tokens.num_tokens,
        "us without": 1e6 * (middle - start) / len(tokens), "us with": 1e6 * (end - middle) / len(tokens),
    }  # fmt: skip


def main() -> None:
    """Measure, print a table a catalogue and write the results file."""
    options = make_parser(__doc__, "known.json").parse_args()
    origin, rows = environment(0), []
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(options.model)
    for name in CATALOGUES:
        items = read_catalogue(options.data, name).items
        titles, descriptions = ([item.fields.get(key, "") for item in items] for key in ("title", "description"))
        texts = forms(titles, descriptions)
        made: dict[str, Any] = {form: tokenize_texts(texts[form], tokenizer) for form in texts}
        made["title alone, item ids"] = made["title alone"].with_items(item.id for item in items)
        corpus = made["as learned"].with_items(item.id for item in items)
        selector = TokenSelector.from_pretrained().for_tokenizer(tokenizer).fit(corpus)
        known = selector.with_item_weights(corpus)
        assert known.item_weights is not None
        torch.nn.init.normal_(known.item_weights.weight, std=0.3, generator=torch.Generator().manual_seed(0))
        print(f"{name}: {len(known.item_weights)} different items of {len(items)}")
        for form, tokens in made.items():
            row = measure(selector, known, tokens)
            rows.append({"catalogue": name, "form": form, **row})
            print(f"  {form:22s}" + "".join(f"{key} {value:.4g}  " for key, value in row.items()), flush=True)
    print(f"results written to {write_results(options.output, {'command': 'known', 'rows': rows}, origin)}")


if __name__ == "__main__":
    main()
