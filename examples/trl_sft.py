"""TRL's SFTTrainer, padded or packed: items are shortened before TRL truncates and packs, so no row is lost.

The items of a prompt stand between markers, as in PatchRec (github.com/ljy0ustc/PatchRec at 27ac23c5; an item without
tokens gives NaN there, and here every item keeps one). Line changed: ``processing_class`` is a wrapped tokenizer, which
cuts what stands between the markers. It is wrapped for generation too, so the model reads what it was trained on.

    python examples/trl_sft.py            # padded batches
    python examples/trl_sft.py packing    # packs of 160 tokens
"""

from __future__ import annotations

import sys
import tempfile
from typing import Any

import tiny
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from tsporec import wrap_tokenizer

MARKS = ("<|start_seq_id|>", "<|item_sep_id|>", "<|end_seq_id|>")
MAX_LENGTH = 160


def main(users: int = 400, packing: bool = False) -> dict[str, Any]:
    """Train two steps on whole and on short items. Returns rows, sequences and how full these are."""
    texts = [item["description"] for item in tiny.items(words=20)]
    titles = [item["title"] for item in tiny.items(words=20)]
    tokenizer = tiny.tokenizer(["The user bought and buys next", *texts], special=MARKS)
    begin, separator, end = MARKS
    rows = [row[n % 9 :] for n, row in enumerate(tiny.histories(users, 12, len(texts)))]  # 4 to 12 items, and the next
    data = Dataset.from_dict(
        {
            "prompt": [f"The user bought {begin}{separator.join(texts[i] for i in r[:-1])}{end} next:" for r in rows],
            "completion": [f" {titles[row[-1]]}" for row in rows],
        }
    )
    marks = tuple(tokenizer.convert_tokens_to_ids([begin, end, separator]))
    short = wrap_tokenizer(tokenizer, tiny.selector(tokenizer, texts), 6, spans=marks)
    found = {}
    for name, processing_class in {"whole items": tokenizer, "6 tokens an item": short}.items():
        with tempfile.TemporaryDirectory() as folder:
            arguments = SFTConfig(
                folder, per_device_train_batch_size=2, max_steps=2, report_to=[], use_cpu=True, bf16=False,
                save_strategy="no", disable_tqdm=True, max_length=MAX_LENGTH, packing=packing,
            )  # fmt: skip
            trainer = SFTTrainer(
                tiny.causal_lm(tokenizer), arguments, train_dataset=data, processing_class=processing_class
            )
            sequences = trainer.train_dataset
            lengths = [len(ids) for ids in sequences["input_ids"]]
            found[name] = {
                "rows": sum(map(len, sequences["seq_lengths"])) if packing else len(sequences),
                "rows with their answer": sum(ids.count(2) for ids in sequences["input_ids"]),
                "sequences": len(sequences),
                "full": sum(lengths) / (len(lengths) * MAX_LENGTH) if lengths else 0.0,
                "loss": trainer.train().training_loss if lengths else None,
            }
        print(f"{name}: {found[name]}")
    return found


if __name__ == "__main__":
    main(packing="packing" in sys.argv)
