"""HLLM: item texts follow each other in a packed batch. The state of a placeholder behind each is its embedding.

The batches equal those of ``code/REC/data/dataset/trainset.py`` and ``collate_fn.py`` of github.com/bytedance/HLLM at
2deed176 (``tests/collators/test_golden.py``). Their columns are ``{pos,neg}_input_ids``, ``_cu_input_lens`` (lengths)
and ``_position_ids``, right-aligned, so that every placeholder is at MAX_TEXT_LENGTH. Lines changed: the collate
function of the DataLoader.
"""

from __future__ import annotations

from typing import Any

import tiny
import torch
from torch.utils.data import DataLoader

from tsporec import SelectorCollator
from tsporec.collators.packed_items import PackedColumns

MAX_TEXT_LENGTH = 256
PROMPT = "Compress the following sentence into embedding: "


def encode(item: dict[str, str], tokenizer: Any, longest: int = MAX_TEXT_LENGTH) -> list[int]:
    """Return the ids of one item: the prompt and its fields joined, cut to the first ``longest``."""
    text = PROMPT + "".join(f"{key}: {value}" for key, value in item.items() if value)
    return tokenizer.encode(text)[:longest]


def packed(prefix: str, texts: list[list[int]], longest: int = MAX_TEXT_LENGTH) -> dict[str, torch.Tensor]:
    """Return the three packed columns of some items, with a placeholder behind each."""
    positions = [torch.arange(len(ids) + 1) + longest - len(ids) for ids in texts]
    return {
        f"{prefix}_input_ids": torch.tensor([i for ids in texts for i in [*ids, 0]]),
        f"{prefix}_cu_input_lens": torch.tensor([len(ids) + 1 for ids in texts]),
        f"{prefix}_position_ids": torch.cat(positions),
    }


def collate(features: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Collate as HLLM does: packed columns are joined, the others are stacked."""
    ends = ("_input_ids", "_cu_input_lens", "_position_ids")
    return {
        name: (torch.cat if name.endswith(ends) else torch.stack)([feature[name] for feature in features])
        for name in features[0]
    }


def embed(model: Any, batch: dict[str, torch.Tensor], prefix: str) -> torch.Tensor:
    """Return the hidden state at each placeholder ``[N, H]``. HLLM runs the packed batch through FlashAttention."""
    lengths = batch[f"{prefix}_cu_input_lens"].tolist()
    texts = torch.split(batch[f"{prefix}_input_ids"], lengths)
    positions = torch.split(batch[f"{prefix}_position_ids"], lengths)
    ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
    places = torch.nn.utils.rnn.pad_sequence(positions, batch_first=True)
    mask = torch.arange(ids.shape[1]) < torch.tensor(lengths)[:, None]
    states = model.model(input_ids=ids, attention_mask=mask, position_ids=places).last_hidden_state
    return states[torch.arange(len(lengths)), torch.tensor(lengths) - 1]


def main(users: int = 8) -> dict[str, Any]:
    """Train one step on whole and on short texts. Returns the tokens that each reads."""
    catalogue = tiny.items()
    texts = [PROMPT] + [text for item in catalogue for text in item.values()]
    tokenizer = tiny.tokenizer(texts)
    ids = [encode(item, tokenizer) for item in catalogue]
    rows = tiny.histories(users, 4, len(ids))
    features = [
        {"user": torch.tensor(u)} | packed("pos", [ids[i] for i in row]) | packed("neg", [ids[i] for i in row[::-1]])
        for u, row in enumerate(rows)
    ]
    spans = PackedColumns("pos_", "neg_", tail=1)
    short = SelectorCollator(collate, tiny.selector(tokenizer, texts), 16, spans)
    model = tiny.causal_lm(tokenizer)
    read: dict[str, Any] = {}
    for name, collator in {"whole texts": collate, "16 tokens an item": short}.items():
        batch = next(iter(DataLoader(features, batch_size=users, collate_fn=collator)))
        items = embed(model, batch, "pos").view(users, 5, -1)  # an item that vanished would break this
        scores = items[:, :-1].mean(1) @ items[:, -1].T
        torch.nn.functional.cross_entropy(scores, torch.arange(users)).backward()
        read[name] = batch["pos_input_ids"].numel()
        print(f"{name}: {read[name]:,} tokens read")
    return read


if __name__ == "__main__":
    main()
