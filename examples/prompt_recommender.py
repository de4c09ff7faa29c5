"""A prompt recommender that is trained with and without selection: only the collator differs.

Run it with ``python examples/prompt_recommender.py``. It makes a catalogue, a tokenizer and a model, and takes some
seconds. Put your own in their place.
"""

from __future__ import annotations

import time

from torch.utils.data import DataLoader
from transformers import DataCollatorForSeq2Seq

from tsporec import SelectorCollator, TokenSelector
from tsporec.cli.demo import train_tiny_lm
from tsporec.data.items import tokenize_items
from tsporec.data.synthetic import CatalogueConfig, generate
from tsporec.recommenders.generative import PromptTemplate


def main(users: int = 64) -> dict[str, int]:
    """Train with both collators. Returns the tokens that the model read, by collator."""
    catalogue = generate(CatalogueConfig(items=120, users=users, tastes=10))
    tokenizer = catalogue.tokenizer
    texts = tokenize_items(catalogue.items, tokenizer, ("description",))
    titles = [" ".join(item.fields["description"].split()[:3]) for item in catalogue.items]
    template = PromptTemplate.build(texts, titles, tokenizer)
    features = [
        template.feature([int(item) for item in row.item_ids[:-1]][-3:], int(row.item_ids[-1]))
        for row in catalogue.test
    ]

    selector = TokenSelector().for_tokenizer(tokenizer).fit(texts)
    base = DataCollatorForSeq2Seq(tokenizer)
    collators = {
        "whole texts": lambda rows: base([{k: v for k, v in row.items() if k != "item_spans"} for row in rows]),
        "8 tokens an item": SelectorCollator(base, selector, 8, "item_spans"),
    }
    read = {}
    for name, collator in collators.items():
        model = train_tiny_lm(texts, len(tokenizer), seed=0, epochs=1)
        start, read[name] = time.perf_counter(), 0
        for batch in DataLoader(features, batch_size=16, collate_fn=collator):
            model(**batch).loss.backward()
            read[name] += int(batch["attention_mask"].sum())
        print(f"{name}: {read[name]:,} tokens read in {time.perf_counter() - start:.2f} s")
    return read


if __name__ == "__main__":
    main()
