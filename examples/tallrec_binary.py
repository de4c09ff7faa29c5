"""TALLRec: a prompt asks whether the user will like the next item, Yes or No, and is cut to its first tokens.

The batches equal those of ``finetune_rec.py`` of github.com/SAI990323/TALLRec at c1db29ce
(``tests/collators/test_golden.py``), and the prompt's text is theirs. A long prompt loses its answer there, so the
example is lost. Lines changed: one, the tokenizer is wrapped. It keeps the best tokens, among them the last dozen
(question and answer) and every Yes and No, because TALLRec counts these to find the label. With
``train_on_inputs=False`` the length of the prompt says where the labels are: raise the cutoff there, and wrap the
collator with ``spans=UnlabelledSpans()``.
"""

from __future__ import annotations

from typing import Any

import tiny
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForSeq2Seq

from tsporec import wrap_tokenizer

CUTOFF = 128  # 256 or 512 there
INSTRUCTION = (
    'Given the user\'s history, identify whether the user will like the target item by answering "Yes" or "No".'
)


def prompt(point: dict[str, str]) -> str:
    """Return a data point as text."""
    return (
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
        "response that appropriately completes the request.  # noqa: E501\n\n"
        f"### Instruction:\n{point['instruction']}\n\n### Input:\n{point['input']}\n\n### Response:\n{point['output']}"
    )


def tokenize(text: str, tokenizer: Any, cutoff: int, end: bool = True) -> dict[str, Any]:
    """Return ids, mask and labels of a text, cut, with an end-of-text token if there is room."""
    row = tokenizer(text, truncation=True, max_length=cutoff, padding=False, return_tensors=None)
    ids, mask = list(row["input_ids"]), list(row["attention_mask"])
    if end and ids[-1] != tokenizer.eos_token_id and len(ids) < cutoff:
        ids, mask = [*ids, tokenizer.eos_token_id], [*mask, 1]
    return {"input_ids": ids, "attention_mask": mask, "labels": list(ids)}


def feature(
    point: dict[str, str], tokenizer: Any, cutoff: int = CUTOFF, train_on_inputs: bool = True
) -> dict[str, Any]:
    """Return the feature of a data point. Unless inputs are trained on, only the answer has labels."""
    row = tokenize(prompt(point), tokenizer, cutoff)
    if not train_on_inputs:
        asked = len(tokenize(prompt({**point, "output": ""}), tokenizer, cutoff, end=False)["input_ids"])
        row["labels"] = [-100] * asked + row["labels"][asked:]
    return row


def point(history: list[str], target: str, answer: str) -> dict[str, str]:
    """Return a data point."""
    liked = ", ".join(f'"{text}"' for text in history)
    question = f'User Preference: {liked}\nWhether the user will like the target item "{target}"?'
    return {"instruction": INSTRUCTION, "input": question, "output": answer}


def main(users: int = 8) -> dict[str, Any]:
    """Return the share of examples that keep their answer, cut by the tokenizer and by the wrapped one."""
    texts = [item["description"] for item in tiny.items(words=20)]
    titles = [item["title"] for item in tiny.items(words=20)]
    tokenizer = tiny.tokenizer([prompt(point(texts[:1], titles[0], answer)) for answer in ("Yes", "No")] * 3 + texts)
    tokenizer.padding_side = "left"
    answers = [tokenizer(f"{mark}{word}")["input_ids"][-1] for word in ("Yes", "No") for mark in ("\n", '"')]
    selecting = wrap_tokenizer(
        tokenizer, tiny.selector(tokenizer, texts), keep_last=12, protected_ids=sorted(set(answers))
    )
    held: dict[str, Any] = {}
    for name, tok in {"first tokens": tokenizer, "best tokens": selecting}.items():
        rows = [
            feature(point([texts[i] for i in row[:-1]], titles[row[-1]], "Yes"), tok)
            for row in tiny.histories(users, 8, len(texts))
        ]
        held[name] = sum(row["labels"][-1] in answers for row in rows) / len(rows)
        batch = DataCollatorForSeq2Seq(tok, pad_to_multiple_of=8, return_tensors="pt", padding=True)(rows)
        adapter = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        get_peft_model(tiny.causal_lm(tok), adapter)(**batch).loss.backward()
    print({name: f"{share:.0%} of the answers are there" for name, share in held.items()})
    return held


if __name__ == "__main__":
    main()
