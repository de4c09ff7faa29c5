"""The transformers Trainer: wrap its collator and keep the span column. Nothing else changes.

A causal LM reads the texts of a history and learns to name the next item. The dataset says where each item stands
(``item_spans``); ``SelectorCollator`` cuts these spans in every batch.
"""

from __future__ import annotations

import tempfile
from typing import Any

import tiny
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

from tsporec import SelectorCollator
from tsporec.data.items import tokenize_texts
from tsporec.recommenders.generative import PromptTemplate


def main(users: int = 64) -> dict[str, Any]:
    """Train two epochs on whole and on short items. Returns tokens in a batch and seconds of training."""
    items = tiny.items()
    texts, titles = [item["description"] for item in items], [item["title"] for item in items]
    tokenizer = tiny.tokenizer(texts + titles)
    template = PromptTemplate.build(tokenize_texts(texts, tokenizer), titles, tokenizer)
    features = [template.feature(row[:-1], row[-1]) for row in tiny.histories(users, 4, len(items))]
    plain = [{name: value for name, value in row.items() if name != "item_spans"} for row in features]

    base = DataCollatorForSeq2Seq(tokenizer)
    short = SelectorCollator(base, tiny.selector(tokenizer, texts), budget=8, spans="item_spans")
    found: dict[str, Any] = {}
    for name, rows, collator in (("whole items", plain, base), ("8 tokens an item", features, short)):
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder, num_train_epochs=2, per_device_train_batch_size=16, report_to=[], use_cpu=True,
                save_strategy="no", logging_strategy="no", disable_tqdm=True,
                remove_unused_columns=False,  # or the Trainer drops the span column
            )  # fmt: skip
            trainer = Trainer(tiny.causal_lm(tokenizer), arguments, train_dataset=rows, data_collator=collator)
            seconds = trainer.train().metrics["train_runtime"]
        found[name] = {"tokens in a batch": collator(rows[:16])["input_ids"].numel(), "seconds": round(seconds, 2)}
        print(f"{name}: {found[name]}")
    return found


if __name__ == "__main__":
    main()
