"""TALLRec: will the user like the next item, Yes or No, behind a prompt cut at 256 tokens from the right.

The features are those of ``generate_and_tokenize_prompt`` in ``finetune_rec.py`` of github.com/SAI990323/TALLRec at
c1db29ce (128 tokens here): in a long prompt the cut loses the answer, and with it the example. Lines changed: one, the
tokenizer is wrapped; it keeps the best tokens, the last dozen (question and answer) among them.
"""

from __future__ import annotations

from typing import Any

import tiny
from transformers import DataCollatorForSeq2Seq

from tsporec.tokenizer import wrap_tokenizer

CUTOFF = 128
INSTRUCTION = "Given the user's history, tell whether the user will like the target item, Yes or No."


def prompt(history: list[str], target: str, answer: str) -> str:
    liked = ", ".join(f'"{text}"' for text in history)
    return f"### Instruction:\n{INSTRUCTION}\n\n### Input:\n{liked}\nTarget: {target}\n\n### Response:\n{answer}"


def tokenize(history: list[str], target: str, answer: str, tokenizer: Any) -> dict[str, Any]:
    """As TALLRec: the whole prompt and, for the length of what is not learned, the prompt without its answer."""
    full = tokenizer(prompt(history, target, answer), truncation=True, max_length=CUTOFF)
    question = tokenizer(prompt(history, target, ""), truncation=True, max_length=CUTOFF)
    ids = full["input_ids"]
    if ids[-1] != tokenizer.eos_token_id and len(ids) < CUTOFF:
        ids, full["attention_mask"] = [*ids, tokenizer.eos_token_id], [*full["attention_mask"], 1]
    # Cut to CUTOFF, the question is as long as the whole: then the answer is what follows the last line break.
    learned = min(len(question["input_ids"]), len(ids) - 1)
    return {
        "input_ids": ids,
        "attention_mask": full["attention_mask"],
        "labels": [-100] * learned + ids[learned:],
    }


def main(users: int = 8) -> dict[str, Any]:
    """How many examples still hold their answer, cut by the tokenizer and by the wrapped one."""
    texts = [item["description"] for item in tiny.items(words=20)]
    tokenizer = tiny.tokenizer([prompt(texts[:1], texts[0], "Yes No"), "Yes", "No", *texts] * 3)
    selecting = wrap_tokenizer(tokenizer, tiny.selector(tokenizer, texts), keep_last=12)
    yes = tokenizer("\nYes", add_special_tokens=False)["input_ids"][-1]
    held: dict[str, Any] = {}
    for name, tok in {"first tokens": tokenizer, "best tokens": selecting}.items():
        rows = [
            tokenize([texts[i] for i in row[:-1]], texts[row[-1]], "Yes", tok)
            for row in tiny.histories(users, 8, len(texts))
        ]
        held[name] = sum(yes in row["labels"] for row in rows) / len(rows)
        batch = DataCollatorForSeq2Seq(tok, pad_to_multiple_of=8, padding=True)(rows)
        tiny.causal_lm(tok)(**batch).loss.backward()
    print({name: f"{share:.0%} of the answers are there" for name, share in held.items()})
    return held


if __name__ == "__main__":
    main()
