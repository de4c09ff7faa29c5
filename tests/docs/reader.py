"""What the reader of a page has: files, models under their names, and the objects that a page calls yours."""

from __future__ import annotations

import runpy
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.conftest import make_causal_lm, make_tokenizer

ROOT = Path(__file__).parent.parent.parent
LM = "HuggingFaceTB/SmolLM2-135M-Instruct"
ENCODER = "sentence-transformers/all-MiniLM-L6-v2"


def make_world(folder: Path, tokenizer: Any) -> None:
    """Fill ``folder``. Models are tiny and random; the tokenizer is SmolLM2's, or else is trained on the items."""
    from tsporec import TokenSelector

    data = ROOT / "examples" / "data"
    for path in data.iterdir():
        shutil.copy(path, folder)
    # Commands that draw a figure name paths of the checkout.
    (folder / "docs" / "figures").mkdir(parents=True)
    (folder / "examples").mkdir()
    (folder / "examples" / "data").symlink_to(data)
    if tokenizer is None:
        tokenizer = make_tokenizer("bpe", (folder / "items.jsonl").read_text().splitlines(), 2000)
        tokenizer.add_tokens(["<|im_start|>", "<|im_end|>", "<issue_start>", "<issue_closed>"], special_tokens=True)
    tokenizer.save_pretrained(folder / LM)
    make_causal_lm(len(tokenizer)).save_pretrained(folder / LM)
    (folder / "DIR").symlink_to(folder / LM)  # the pages' word for a folder of the reader's
    if find_spec("sentence_transformers") is not None:
        make_encoder(folder / ENCODER)
    TokenSelector.from_pretrained().save_pretrained(folder / "run" / "selector")


def make_encoder(folder: Path) -> None:
    """Save a tiny sentence-transformers model."""
    from transformers import BertConfig, BertModel

    tokenizer = make_tokenizer("wordpiece")
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(tokenizer), **size)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def common() -> dict[str, Any]:
    """The reader's own tokenizer, model, items and interactions."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tsporec.data.items import item_text
    from tsporec.data.readers import read_items, read_sequences

    tokenizer, items = AutoTokenizer.from_pretrained(LM), read_items("items.jsonl")
    return {
        "tokenizer": tokenizer,
        "model": AutoModelForCausalLM.from_pretrained(LM),
        "items": items,
        "sequences": read_sequences("interactions.csv"),
        "texts": [item_text(item) for item in items],
        "titles": [item.fields["title"] for item in items],
    }


def ways_in() -> dict[str, Any]:
    """The functions of the recommenders that the page wraps, and an engine in place of vLLM's."""
    import sys

    sys.path.insert(0, str(ROOT / "examples"))
    try:
        hllm, minionerec, tallrec = (
            runpy.run_path(str(ROOT / "examples" / f"{name}.py"))
            for name in ("hllm_packed", "minionerec_sft", "tallrec_binary")
        )
    finally:
        sys.path.remove(str(ROOT / "examples"))
    given = common()
    rows = [given["tokenizer"](text)["input_ids"] for text in given["texts"][:4]]
    return {
        **given,
        "collate": hllm["collate"],
        "hllm_features": [hllm["packed"]("pos", rows) | hllm["packed"]("neg", rows[::-1])] * 2,
        "encode_prompt": minionerec["feature"],
        "history": given["texts"][:4],
        "prompt": tallrec["prompt"](tallrec["point"](given["texts"][:4], given["titles"][5], "Yes")),
        "llm": type("Engine", (), {"generate": lambda self, prompts: prompts})(),
    }


def rewards() -> dict[str, Any]:
    """Prompts of a causal LM with their collator and arguments."""
    from transformers import DataCollatorForSeq2Seq, TrainingArguments

    from tsporec.data.items import tokenize_items
    from tsporec.recommenders.generative import PromptTemplate

    given = common()
    tokens = tokenize_items(given["items"], given["tokenizer"])
    template = PromptTemplate.build(tokens, given["titles"], given["tokenizer"])
    features = [template.feature([n, n + 1], n + 2) for n in range(4)]
    arguments = TrainingArguments(
        "trainer", max_steps=1, per_device_train_batch_size=2, use_cpu=True, report_to=[], save_strategy="no",
        remove_unused_columns=False, disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    base = DataCollatorForSeq2Seq(given["tokenizer"])
    own = {"tokens": tokens, "features": features, "others": features[:2], "base": base, "arguments": arguments}
    return {**given, **own}


GIVEN: dict[str, Callable[[], dict[str, Any]]] = {
    "docs/catalog.md": common,
    "docs/collators.md": common,
    "docs/hub.md": common,
    "docs/learning.md": common,
    "docs/rewards.md": rewards,
    "docs/trl.md": common,
    "docs/ways-in.md": ways_in,
}
