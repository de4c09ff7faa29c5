"""MiniOneRec and other BIGRec-like fine-tuning: a prompt with the titles of the history, and the next title as answer.

The batches equal those of ``SFTData`` in ``data.py`` and of ``sft.py`` of github.com/AkaliKong/MiniOneRec at 81b4ba98
(``tests/collators/test_golden.py``). The prompt's text is theirs: quoted titles joined by commas, padded on the left to
a multiple of 8, the last 512 tokens. Lines changed: the dataset returns ``item_spans`` (one call of
``spans_of_strings``), the collator is wrapped, and ``remove_unused_columns=False`` is set.
"""

from __future__ import annotations

import tempfile
from typing import Any

import tiny
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

from tsporec import SelectorCollator
from tsporec.collators.spans import spans_of_strings

MAX_LEN = 512
CATEGORY = "office products"
INSTRUCTION = (
    f"Given a list of {CATEGORY} the user recetenly enjoy, please write a new {CATEGORY} that the user may bought"
)


def feature(
    history: list[str],
    target: str,
    tokenizer: Any,
    instruction: str = INSTRUCTION,
    category: str = CATEGORY,
    max_len: int = MAX_LEN,
) -> dict[str, Any]:
    """Return ids, labels and the span of each title of the history."""

    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    task = (
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
        f"response that appropriately completes the request. \n\n### Instruction:\n{instruction}\n \n"
    )
    quoted = ",\t".join(f'"{title}"' for title in history)
    prompt = f"### User Input: \nThe user has palyed the following {category}s before: {quoted}\n\n### Response:\n"
    asked = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)
    before = [tokenizer.bos_token_id] * (tokenizer.bos_token_id is not None) + encode(task)
    answer = [*encode(f'"{target}"\n'), tokenizer.eos_token_id]
    ids = before + asked["input_ids"] + answer
    labels = [-100] * (len(ids) - len(answer)) + answer
    cut = max(len(ids) - max_len, 0)
    spans = [
        (max(start + len(before) - cut, 0), max(end + len(before) - cut, 0))
        for start, end in spans_of_strings(prompt, history, asked["offset_mapping"])
    ]
    return {
        "input_ids": ids[cut:],
        "attention_mask": [1] * len(ids[cut:]),
        "labels": labels[cut:],
        "item_spans": spans,
    }


def main(users: int = 8) -> dict[str, Any]:
    """Train two steps. Returns the widths of a whole and of a short batch, and the loss."""
    texts = [item["description"] for item in tiny.items(words=30)]
    tokenizer = tiny.tokenizer([INSTRUCTION, "### User Input: \nThe user has palyed before ### Response:", *texts])
    tokenizer.padding_side = "left"
    features = [
        feature([texts[i] for i in row[:-1]], texts[row[-1]], tokenizer) for row in tiny.histories(users, 5, len(texts))
    ]
    base = DataCollatorForSeq2Seq(tokenizer, pad_to_multiple_of=8, return_tensors="pt", padding=True)
    collator = SelectorCollator(base, tiny.selector(tokenizer, texts), 6, "item_spans")
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=4, max_steps=2, report_to=[], use_cpu=True, save_strategy="no",
            remove_unused_columns=False,
        )  # fmt: skip
        trainer = Trainer(tiny.causal_lm(tokenizer), arguments, train_dataset=features, data_collator=collator)
        loss = trainer.train().training_loss
    whole = base([{k: v for k, v in row.items() if k != "item_spans"} for row in features])
    widths = {"whole": whole["input_ids"].shape[1], "short": collator(features)["input_ids"].shape[1], "loss": loss}
    print(widths)
    return widths


if __name__ == "__main__":
    main()
