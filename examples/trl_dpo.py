"""TRL's DPOTrainer on recommendation preferences, in the manner of S-DPO: the bought item against one that was not.

The history is in the prompt, the candidates in ``chosen`` and ``rejected``; the history is cut, the candidates stay as
they are (S-DPO: github.com/chenyuxin1999/S-DPO at 07befa41, ``trainer/utils.py``, whose collator tokenises strings;
give that one a tokenizer wrapped by ``wrap_tokenizer``, or ``compress_text`` the history). Lines changed:
``trainer.data_collator`` is wrapped.
"""

from __future__ import annotations

import tempfile
from typing import Any

import tiny
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from tsporec import Budget, SelectorCollator
from tsporec.spans import MarkerSpans

MARKS = ("<|item|>", "<|/item|>")


def main(users: int = 8) -> dict[str, Any]:
    """Two steps; the tokens of a batch, whole and short, and the loss."""
    texts = [item["description"] for item in tiny.items(words=20)]
    tokenizer = tiny.tokenizer(["The user bought and buys next", *texts], special=MARKS)
    rows = tiny.histories(users, 5, len(texts))
    data = Dataset.from_dict(
        {
            "prompt": ["The user bought " + ", ".join(texts[i].join(MARKS) for i in row[:-2]) + ":" for row in rows],
            "chosen": [f" {texts[row[-1]]}" for row in rows],
            "rejected": [f" {texts[row[-2]]}" for row in rows],
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOConfig(
            folder, per_device_train_batch_size=2, max_steps=2, report_to=[], use_cpu=True, bf16=False,
            save_strategy="no", max_length=1024,
        )  # fmt: skip
        trainer = DPOTrainer(
            tiny.causal_lm(tokenizer),
            ref_model=tiny.causal_lm(tokenizer),
            args=arguments,
            train_dataset=data,
            processing_class=tokenizer,
        )
        base, marks = trainer.data_collator, tokenizer.convert_tokens_to_ids(list(MARKS))
        trainer.data_collator = SelectorCollator(
            base,
            tiny.selector(tokenizer, texts),
            Budget(tokens=6),
            spans=MarkerSpans(*marks, ids="prompt_ids"),
            ids="prompt_ids",
            tokenizer=tokenizer,
        )
        features = [{k: row[k] for k in ("prompt_ids", "chosen_ids", "rejected_ids")} for row in trainer.train_dataset]
        whole, short = base(features), trainer.data_collator(features)
        loss = trainer.train().training_loss
    sizes = {"whole": whole["input_ids"].numel(), "short": short["input_ids"].numel(), "loss": loss}
    sizes["candidates kept"] = int(whole["completion_mask"].sum()) == int(short["completion_mask"].sum())
    print(sizes)
    return sizes


if __name__ == "__main__":
    main()
