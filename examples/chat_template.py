"""A recommender that uses a chat template: the items' strings are found in the rendered chat.

The template renders the messages, a fast tokenizer gives character offsets, and ``ItemStringSpans`` finds the items.
Lines changed: the dataset keeps the rendered text, the items and the offsets, and the collator is wrapped.
"""

from __future__ import annotations

from typing import Any

import tiny
from transformers import DataCollatorForSeq2Seq

from tsporec import Budget, SelectorCollator
from tsporec.collators.spans import ItemStringSpans

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def feature(history: list[str], target: str, tokenizer: Any) -> dict[str, Any]:
    messages = [
        {"role": "system", "content": "You recommend office products."},
        {"role": "user", "content": "I bought:\n" + "\n".join(f"- {text}" for text in history) + "\nWhat next?"},
    ]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    chat = prompt + target + "<|im_end|>\n"
    encoded = tokenizer(chat, add_special_tokens=False, return_offsets_mapping=True)
    labels = [
        i if start >= len(prompt) else -100
        for i, (start, _) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]
    return {**encoded, "labels": labels, "prompt": chat, "items": history}


def main(users: int = 8) -> dict[str, Any]:
    """Train one step on whole and on short chats. Returns the width of each batch."""
    texts = [item["description"] for item in tiny.items(words=20)]
    tokenizer = tiny.tokenizer(["You recommend I bought What next", *texts], special=("<|im_start|>", "<|im_end|>"))
    tokenizer.chat_template = TEMPLATE
    features = [
        feature([texts[i] for i in row[:-1]], texts[row[-1]], tokenizer) for row in tiny.histories(users, 4, len(texts))
    ]
    base, model = DataCollatorForSeq2Seq(tokenizer), tiny.causal_lm(tokenizer)
    collator = SelectorCollator(
        base, tiny.selector(tokenizer, texts), Budget(total=24, minimum=2, recency=2.0), spans=ItemStringSpans()
    )
    plain = [{k: row[k] for k in ("input_ids", "attention_mask", "labels")} for row in features]
    widths: dict[str, Any] = {}
    for name, batch in {"whole": base(plain), "short": collator(features)}.items():
        model(**batch).loss.backward()
        widths[name] = batch["input_ids"].shape[1]
    print(widths)
    print(tokenizer.decode(collator(features)["input_ids"][0], skip_special_tokens=False))
    return widths


if __name__ == "__main__":
    main()
