"""Measure what token features should be made of: spelling, or the input embeddings of the language model.

python -m benchmarks.table --data DIR --model DIR --seeds 0 --output benchmarks/results/table.json

Both learn from the same pairs of token subsets (co-consumption, budgets 8 and 16, one round); the figure is the share
of pairs of held-out items, a tenth of them, that are ordered as the reward orders them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.amazon import CATEGORIES, read_task
from benchmarks.box import LEARNING
from benchmarks.learning import learn
from benchmarks.options import make_parser
from tsporec.evaluation.results import environment, write_results
from tsporec.language_model import load_causal_lm
from tsporec.selector.model import SelectorConfig, TokenSelector


def measure(data: Path, model: str, epochs: int, seeds: list[int]) -> list[dict[str, Any]]:
    """Rows: held-out preference accuracy by category, table and seed."""
    lm, tokenizer = load_causal_lm(model)
    embeddings = lm.get_input_embeddings().weight
    rows = []
    for category in CATEGORIES:
        task = read_task(data, category, tokenizer)
        for seed in seeds:
            config = replace(LEARNING, seed=seed, preference={**LEARNING.preference, "num_train_epochs": epochs})
            for table in ("surface", "embeddings"):
                torch.manual_seed(seed)
                if table == "surface":
                    start = TokenSelector().for_tokenizer(tokenizer)
                else:
                    start = TokenSelector(SelectorConfig.of_embeddings(embeddings))
                    start = start.for_tokenizer(tokenizer, embeddings=embeddings)
                _, (report,), _ = learn(task, start.fit(task.tokens), config)
                rows.append({"category": category, "seed": seed, "table": table, "pairs": report["pairs"],
                             "weights": sum(p.numel() for p in start.parameters()),
                             "held-out accuracy": report["accuracy"]})  # fmt: skip
                print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure and write the results file."""
    parser = make_parser(__doc__, seeds=[0])
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()
    origin = environment(options.seeds[0])
    rows = measure(options.data, options.model, options.epochs, options.seeds)
    write_results(options.output, {"epochs": options.epochs, "seeds": options.seeds, "rows": rows}, origin)


if __name__ == "__main__":
    main()
