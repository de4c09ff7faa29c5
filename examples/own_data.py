"""From two files to a selector and a verdict. ``tsporec train`` does the same on the command line.

    python examples/own_data.py                                        # the files of examples/data, a tiny model
    python examples/own_data.py items.jsonl interactions.csv MODEL     # yours, with your language model

``docs/data.md`` lists the formats that are read.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import tiny

from tsporec import TokenSelector, make_scorer
from tsporec.data.items import Interactions, Item
from tsporec.data.readers import read_items, read_sequences
from tsporec.data.splits import make_rows, split
from tsporec.evaluation.evaluator import Evaluator
from tsporec.evaluation.task import prepare
from tsporec.evaluation.verdict import Verdict, judge
from tsporec.language_model import load_causal_lm
from tsporec.learning.config import LearningConfig
from tsporec.learning.pipeline import train
from tsporec.recommenders.embedding import EmbeddingConfig
from tsporec.recommenders.encoder import ItemEncoder


def run(
    items: list[Item],
    sequences: list[Interactions],
    tokenizer: Any,
    model: Any,
    folder: Path,
    budget: int,
    seeds: int = 3,
    recommender: EmbeddingConfig | None = None,
) -> Verdict:
    """Split, train and judge."""
    learned_from, held_out = split(sequences)  # each user's last item is held out
    recommender = recommender or EmbeddingConfig()
    config = LearningConfig(budgets=(budget,), recommender=recommender)
    train(items, learned_from, model, tokenizer, folder, config)  # the same call resumes a run that was cut off
    selector = TokenSelector.from_pretrained(folder / "selector").for_tokenizer(tokenizer)

    task = prepare(items, learned_from, make_rows(learned_from, held_out), tokenizer)
    scorers = {
        "head": make_scorer("head"),
        "tfidf": make_scorer("tfidf").fit(task.tokens),
        "selector": selector,
        "full": None,
    }
    evaluator = Evaluator(task, ItemEncoder(model), recommender, seeds=range(seeds))
    verdict = judge(evaluator.run(scorers, [budget], rivals=list(scorers)))
    print(verdict)
    for item, short in zip(items[:3], selector.compress_text(items[:3], budget, tokenizer), strict=True):
        print(f"{item.fields['title']} -> {short}")
    return verdict


def main(**options: Any) -> Verdict:
    """Run on the files of ``examples/data``. Returns the verdict."""
    items, sequences, tokenizer = tiny.catalogue()
    with tempfile.TemporaryDirectory() as folder:
        return run(items, sequences, tokenizer, tiny.causal_lm(tokenizer), Path(folder) / "run", budget=8, **options)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        model, tokenizer = load_causal_lm(sys.argv[3], layers=4)
        items, sequences = read_items(sys.argv[1]), read_sequences(sys.argv[2])
        run(items, sequences, tokenizer, model, Path("run"), budget=16)
    else:
        main()
