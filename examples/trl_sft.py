"""TRL's SFTTrainer, padded or padding-free, on prompts whose items stand between markers, as in PatchRec.

Marker spans need no column, so they work with ``remove_unused_columns`` and with packing. In PatchRec
(github.com/ljy0ustc/PatchRec at 27ac23c5) an item without tokens gives NaN; here every item keeps one. Lines changed:
``trainer.data_collator`` is wrapped.
"""

from __future__ import annotations

import math
import tempfile
from typing import Any

import tiny
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from tsporec import SelectorCollator

MARKS = ("<|start_seq_id|>", "<|item_sep_id|>", "<|end_seq_id|>")


def main(users: int = 8, padding_free: bool = False, packing: bool = False) -> dict[str, Any]:
    """Train two steps. Returns the tokens of a whole and of a short batch, and the loss."""
    texts = [item["description"] for item in tiny.items(words=20)]
    tokenizer = tiny.tokenizer(["The user bought and buys next", *texts], special=MARKS)
    begin, separator, end = MARKS
    rows = tiny.histories(users, 4, len(texts))
    data = Dataset.from_dict(
        {
            "prompt": [f"The user bought {begin}{separator.join(texts[i] for i in r[:-1])}{end} next:" for r in rows],
            "completion": [f" {texts[row[-1]]}" for row in rows],
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            folder, per_device_train_batch_size=2, max_steps=2, report_to=[], use_cpu=True, bf16=False,
            save_strategy="no", max_length=1024 if packing else None, padding_free=padding_free, packing=packing,
            packing_strategy="bfd",
        )  # fmt: skip
        trainer = SFTTrainer(tiny.causal_lm(tokenizer), arguments, train_dataset=data, processing_class=tokenizer)
        base, marks = trainer.data_collator, tuple(tokenizer.convert_tokens_to_ids([begin, end, separator]))
        trainer.data_collator = SelectorCollator(base, tiny.selector(tokenizer, texts), 6, marks, tokenizer=tokenizer)
        names = ("input_ids", "labels", "seq_lengths")
        features = [{k: row[k] for k in names if k in row} for row in trainer.train_dataset]
        whole, short = base(features), trainer.data_collator(features)
        loss = trainer.train().training_loss
    assert math.isfinite(loss)
    sizes = {"whole": whole["input_ids"].numel(), "short": short["input_ids"].numel(), "loss": loss}
    print(sizes)
    return sizes


if __name__ == "__main__":
    main()
