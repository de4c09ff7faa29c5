"""TRL's DPOTrainer on recommendation preferences, as in S-DPO: the bought item against one that was not bought.

The history is in the prompt and is cut. The candidates, ``chosen`` and ``rejected``, stay as they are. The sequences
equal those of S-DPO's collator, ``trainer/utils.py`` of github.com/chenyuxin1999/S-DPO at 07befa41
(``tests/collators/test_golden.py``). Lines changed: ``trainer.data_collator`` is wrapped. S-DPO's own collator
tokenises strings, and nothing in them says where the history ends: call ``selector.compress_text`` on ``historyList``
there.
"""

from __future__ import annotations

import tempfile
from typing import Any

import tiny
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from tsporec import SelectorCollator
from tsporec.collators.spans import MarkerSpans

MARKS = ("<|item|>", "<|/item|>")


def trainer(rows: list[dict[str, str]], tokenizer: Any, folder: str) -> DPOTrainer:
    """Return a trainer of two steps over ``prompt``, ``chosen`` and ``rejected``."""
    arguments = DPOConfig(
        folder, per_device_train_batch_size=2, max_steps=2, report_to=[], use_cpu=True, bf16=False,
        save_strategy="no", max_length=1024,
    )  # fmt: skip
    return DPOTrainer(
        tiny.causal_lm(tokenizer),
        ref_model=tiny.causal_lm(tokenizer),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )


def main(users: int = 8) -> dict[str, Any]:
    """Train. Returns the tokens of a whole and of a short batch, and the loss."""
    texts = [item["description"] for item in tiny.items(words=20)]
    tokenizer = tiny.tokenizer(["The user bought and buys next", *texts], special=MARKS)
    rows = [
        {
            "prompt": "The user bought " + ", ".join(texts[i].join(MARKS) for i in row[:-2]) + ":",
            "chosen": f" {texts[row[-1]]}",
            "rejected": f" {texts[row[-2]]}",
        }
        for row in tiny.histories(users, 5, len(texts))
    ]
    with tempfile.TemporaryDirectory() as folder:
        dpo = trainer(rows, tokenizer, folder)
        base, marks = dpo.data_collator, tokenizer.convert_tokens_to_ids(list(MARKS))
        dpo.data_collator = SelectorCollator(
            base,
            tiny.selector(tokenizer, texts),
            6,
            spans=MarkerSpans(*marks, ids="prompt_ids"),
            ids="prompt_ids",
            tokenizer=tokenizer,
        )
        features = [{k: row[k] for k in ("prompt_ids", "chosen_ids", "rejected_ids")} for row in dpo.train_dataset]
        whole, short = base(features), dpo.data_collator(features)
        loss = dpo.train().training_loss
    sizes = {"whole": whole["input_ids"].numel(), "short": short["input_ids"].numel(), "loss": loss}
    sizes["candidates kept"] = int(whole["completion_mask"].sum()) == int(short["completion_mask"].sum())
    print(sizes)
    return sizes


if __name__ == "__main__":
    main()
