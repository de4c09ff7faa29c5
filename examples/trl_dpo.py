"""TRL's DPOTrainer on recommendation preferences, as in S-DPO: the bought item against one that was not bought.

The items of the prompt stand between markers and are cut. The candidates, ``chosen`` and ``rejected``, stay as they
are. Line changed: ``processing_class`` is a wrapped tokenizer, so TRL drops no row because its prompt is too long. The
sequences of whole items equal those of S-DPO's collator, ``trainer/utils.py`` of github.com/chenyuxin1999/S-DPO at
07befa41 (``tests/collators/test_golden.py``). S-DPO's own collator tokenises strings, and nothing in them says where
the history ends: call ``selector.compress_text`` on ``historyList`` there.
"""

from __future__ import annotations

import tempfile
from typing import Any

import tiny
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from tsporec import wrap_tokenizer

MARKS = ("<|item|>", "<|/item|>")


def trainer(rows: list[dict[str, str]], tokenizer: Any, folder: str, max_length: int = 1024) -> DPOTrainer:
    """Return a trainer of two steps over ``prompt``, ``chosen`` and ``rejected``."""
    arguments = DPOConfig(
        folder, per_device_train_batch_size=2, max_steps=2, report_to=[], use_cpu=True, bf16=False,
        save_strategy="no", disable_tqdm=True, max_length=max_length,
    )  # fmt: skip
    return DPOTrainer(
        tiny.causal_lm(tokenizer),
        ref_model=tiny.causal_lm(tokenizer),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )


def main(users: int = 40, max_length: int = 160) -> dict[str, Any]:
    """Train two steps on whole and on short items. Returns the rows that TRL trains on, and the tokens of a prompt."""
    texts = [item["description"] for item in tiny.items(words=20)]
    tokenizer = tiny.tokenizer(["The user bought and buys next", *texts], special=MARKS)
    rows = [
        {
            "prompt": "The user bought " + ", ".join(texts[i].join(MARKS) for i in row[:-2]) + ":",
            "chosen": f" {texts[row[-1]]}",
            "rejected": f" {texts[row[-2]]}",
        }
        for row in (row[n % 6 :] for n, row in enumerate(tiny.histories(users, 9, len(texts))))  # 3 to 8 items
    ]
    marks = tuple(tokenizer.convert_tokens_to_ids(list(MARKS)))
    short = wrap_tokenizer(tokenizer, tiny.selector(tokenizer, texts), 6, spans=marks)
    found = {}
    for name, processing_class in {"whole items": tokenizer, "6 tokens an item": short}.items():
        with tempfile.TemporaryDirectory() as folder:
            dpo = trainer(rows, processing_class, folder, max_length)
            prompts = [len(ids) for ids in dpo.train_dataset["prompt_ids"]]
            found[name] = {
                "rows": len(prompts),
                "longest prompt": max(prompts, default=0),
                "loss": dpo.train().training_loss if prompts else None,
            }
        print(f"{name}: {found[name]}")
    return found


if __name__ == "__main__":
    main()
