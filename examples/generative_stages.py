"""The three stages with a generative recommender, with its training, its collator and its loss as they are.

Every item has 25 words. One of them says what it is, and a user buys one kind of thing. A causal LM is warmed up on
mixed cuts (stage 1). The likelihood of its labels then rates subsets of tokens, and the selector learns from that
(stage 2). Finally the LM is trained on the tokens that the selector keeps (stage 3).

Run it with ``python examples/generative_stages.py``; it takes about half a minute. Put your own dataset, tokenizer,
model and collator in their place.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tiny
import torch
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

from tsporec import RaggedTokens, SelectorCollator, TokenSelector, make_scorer, select
from tsporec.collators.mixed import MixedCollator
from tsporec.learning.config import LearningConfig
from tsporec.learning.rewards.label import LabelReward
from tsporec.learning.rounds import learn_selector
from tsporec.recommenders.generative import PromptTemplate

BUDGET = 3


def fine_tune(model: Any, features: list[dict[str, Any]], collator: Any, folder: Path, steps: int, rows: int) -> None:
    """Train the recommender as it is always trained. Only the collator differs."""
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=steps, per_device_train_batch_size=rows, learning_rate=5e-3, use_cpu=True,
        report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True, remove_unused_columns=False,
    )  # fmt: skip
    Trainer(model, arguments, train_dataset=features, data_collator=collator).train()
    model.eval()


def main(
    steps: int = 200,
    rows: int = 32,
    rated: int = 80,
    kinds_of_items: int = 8,
    cuts: tuple[int, ...] = (BUDGET, 16),
    candidates: int = 12,
    rounds: int = 3,
    seed: int = 0,
) -> dict[str, float]:
    """Return the share of new items of which the word that matters is kept, by scorer."""
    kinds, words = tiny.NOUNS[:kinds_of_items], tiny.WORDS
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)  # the selector's first weights
    kind = np.arange(240) % len(kinds)
    texts = [" ".join(rng.permutation([*rng.choice(words, size=24), kinds[k]])) for k in kind]
    tokenizer = tiny.tokenizer([*texts, *(f" {name}" for name in kinds)])
    tokens = RaggedTokens.from_lists(tokenizer([f" {t}" for t in texts], add_special_tokens=False)["input_ids"])
    template = PromptTemplate.build(tokens, [kinds[k] for k in kind], tokenizer)
    # The last 40 items are in nobody's history.
    users = [
        rng.choice(np.flatnonzero(kind[:200] == k), size=4, replace=False) for k in range(len(kinds)) for _ in range(60)
    ]
    features = [template.feature(row[:3].tolist(), int(row[3])) for row in rng.permutation(users)]
    base, start = DataCollatorForSeq2Seq(tokenizer), TokenSelector().for_tokenizer(tokenizer)
    model = tiny.causal_lm(tokenizer)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Stage 1: train the model on all kinds of cuts.
        rules = [
            make_scorer("head"),
            make_scorer("tfidf").fit(tokens),
            *(make_scorer("random", seed=s) for s in range(6)),
        ]
        mixed = MixedCollator([SelectorCollator(base, rule, k) for rule in rules for k in cuts])
        fine_tune(model, features[:-rated], mixed, folder / "warm-up", steps, rows)

        # Stage 2: its loss is the reward, on labels that it was not trained on.
        reward = LabelReward(model, base, features[-rated:], rest=BUDGET)
        config = LearningConfig(
            budgets=(BUDGET,), network_rounds=rounds, candidates=candidates, pairs=4,
            network_training={"use_cpu": True, "num_train_epochs": 10, "learning_rate": 5e-3},
        )  # fmt: skip
        selector, _ = learn_selector(reward.segments, start, reward, folder / "rounds", config)

        # Stage 3: train on the tokens that the selector keeps.
        fine_tune(model, features, SelectorCollator(base, selector, BUDGET), folder / "adapted", steps // 4, rows)

    unseen = tokens.take(np.arange(200, 240))
    named = [tokenizer(f" {kinds[k]}", add_special_tokens=False)["input_ids"][-1] for k in kind[200:]]
    found = {}
    for name, scorer in {"head": rules[0], "tfidf": rules[1], "untrained": start, "learned": selector}.items():
        kept = select(scorer, unseen, BUDGET).apply(unseen)
        found[name] = float(np.mean([word in ids for word, ids in zip(named, kept.to_lists(), strict=True)]))
        print(f"{name}: keeps the word that matters of {found[name]:.0%} of new items")
    return found


if __name__ == "__main__":
    main()
