"""Short prompts for vLLM, which takes token ids, and for models behind an API, which take text.

python examples/short_prompts.py          # prints the prompts
python examples/short_prompts.py MODEL    # also generates with vLLM, where it is installed
"""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from typing import Any

import tiny

from tsporec import TokenSelector
from tsporec.data.items import Item, tokenize_items
from tsporec.language_model import load_tokenizer


def vllm_prompt(history: list[Item], selector: TokenSelector, tokenizer: Any, budget: int) -> dict[str, list[int]]:
    """Return a prompt of token ids. The kept ids of an item are those of its whole text: nothing is tokenised twice."""
    ids = tokenizer("The user bought:")["input_ids"]
    for kept in selector.compress_ids(history, budget, tokenizer):
        ids = ids + tokenizer("\n-", add_special_tokens=False)["input_ids"] + kept
    return {"prompt_token_ids": ids + tokenizer("\nThe user buys next:", add_special_tokens=False)["input_ids"]}


def api_request(history: list[Item], selector: TokenSelector, tokenizer: Any, budget: int) -> dict[str, Any]:
    """Return the body of a chat request. Words are whole and spelled as in the text."""
    lines = "\n".join(f"- {text}" for text in selector.compress_text(history, budget, tokenizer))
    return {"messages": [{"role": "user", "content": f"I bought:\n{lines}\nWhat should I buy next?"}]}


def main(model: str | None = None, budget: int = 8) -> dict[str, int]:
    """Return the tokens of a prompt with whole and with short items."""
    items, _, tokenizer = tiny.catalogue()
    if model is not None:
        tokenizer = load_tokenizer(model)
    selector = TokenSelector.from_pretrained().for_tokenizer(tokenizer)  # yours: from_pretrained("run/selector")
    selector, history = selector.fit(tokenize_items(items, tokenizer)), items[:4]
    prompts = {name: vllm_prompt(history, selector, tokenizer, k) for name, k in (("whole", 10_000), ("short", budget))}
    print(tokenizer.decode(prompts["short"]["prompt_token_ids"]))
    print(json.dumps(api_request(history, selector, tokenizer, budget), indent=1))
    found = {name: len(prompt["prompt_token_ids"]) for name, prompt in prompts.items()}
    print(found)
    if model is not None and find_spec("vllm"):
        from vllm import LLM, SamplingParams

        for output in LLM(model).generate([prompts["short"]], SamplingParams(max_tokens=16)):
            print(output.outputs[0].text)
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
