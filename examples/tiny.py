"""Small things that the examples share: items with long texts, a tokenizer and a causal LM, all made in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tsporec import RaggedTokens, TokenSelector
from tsporec.data.items import Interactions, Item, item_text
from tsporec.data.readers import read_items, read_sequences

NOUNS = ["pen", "stapler", "notebook", "label", "cartridge", "tape", "folder", "marker"]
DATA = Path(__file__).parent / "data"
WORDS = ["black", "ink", "for", "the", "office", "heavy", "duty", "with", "pack", "of", "paper", "blue", "metal", "and"]


def items(count: int = 24, words: int = 40) -> list[dict[str, str]]:
    """Return items with a short title and a long description."""
    rng = np.random.default_rng(0)
    return [
        {
            "title": f"{NOUNS[i % len(NOUNS)]} {i}",
            "description": " ".join(rng.choice(WORDS, size=words)) + f" {NOUNS[i % len(NOUNS)]}.",
        }
        for i in range(count)
    ]


def catalogue() -> tuple[list[Item], list[Interactions], Any]:
    """Return the items and the interactions of ``examples/data``, and a tokenizer of their texts."""
    items, sequences = read_items(DATA / "items.jsonl"), read_sequences(DATA / "interactions.csv")
    return items, sequences, tokenizer([*map(item_text, items), "The user bought: buys next:"], size=2000)


def histories(users: int, length: int, catalogue: int) -> list[list[int]]:
    """Return each user's items, oldest first. The last is the target."""
    rng = np.random.default_rng(1)
    return [rng.choice(catalogue, size=length + 1, replace=False).tolist() for _ in range(users)]


def tokenizer(texts: list[str], special: tuple[str, ...] = (), size: int = 600) -> Any:
    """Return a byte-level BPE with <pad>, <s> and </s> that puts <s> before a text, as Llama's does."""
    from tokenizers.processors import TemplateProcessing

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size,
            show_progress=False,
            special_tokens=["<pad>", "<s>", "</s>", *special],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    core.post_processor = TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def causal_lm(tok: Any) -> LlamaForCausalLM:
    """Return a tiny Llama."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tok), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=2048, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip


def selector(tok: Any, texts: list[str]) -> TokenSelector:
    """Return a selector for ``tok`` that is fitted to the catalogue. Yours would be trained, or the bundled one."""
    ids = tok(texts, add_special_tokens=False)["input_ids"]
    return TokenSelector().for_tokenizer(tok).fit(RaggedTokens.from_lists(ids))
