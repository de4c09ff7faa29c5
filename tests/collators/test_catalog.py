"""Batches assembled from item ids."""

from __future__ import annotations

import functools
import operator
import pickle

import pytest
import torch

from tests.catalog.test_catalog import TiedScorer, make_items
from tsporec.budget import Budget
from tsporec.catalog.catalog import ItemCatalog
from tsporec.collators.catalog import CatalogCollator, ItemPrompt, PackedItems, PlainItems
from tsporec.tokens.ragged import RaggedTokens


@pytest.fixture(scope="module")
def catalog(tokenizer, tmp_path_factory):
    return ItemCatalog.build(
        make_items(20), tokenizer=tokenizer, selector=TiedScorer(), budget=Budget(tokens=6),
        path=tmp_path_factory.mktemp("catalog") / "store",
    )  # fmt: skip


def test_packed_items_are_what_hllm_packs(catalog):
    collator = CatalogCollator(
        catalog, PackedItems({"pos_": "item_ids", "neg_": "negatives"}, tail=1, tail_id=0, max_text_length=10), k=3
    )
    features = [
        {"item_ids": ["item-1", "item-2"], "negatives": ["item-3"], "user": 7},
        {"item_ids": ["item-4"], "negatives": ["item-1"], "user": 8},
    ]
    batch = collator(features)
    want = [[*catalog.lookup([i], k=3).ids.tolist(), 0] for i in ("item-1", "item-2", "item-4")]
    assert batch["pos_input_ids"].tolist() == functools.reduce(operator.iadd, want, [])
    assert batch["pos_cu_input_lens"].tolist() == [4, 4, 4]
    assert batch["pos_position_ids"].tolist() == [7, 8, 9, 10] * 3
    assert batch["neg_input_ids"].shape == (8,)
    assert batch["user"].tolist() == [7, 8]
    assert features[0]["item_ids"] == ["item-1", "item-2"]  # the feature is left as it was
    with pytest.raises(ValueError, match="an item has 6 kept tokens, max_text_length is 4"):
        CatalogCollator(catalog, PackedItems({"pos_": "item_ids"}, max_text_length=4))(features)


@pytest.mark.parametrize("side", ["left", "right"])
def test_prompts_hold_the_stored_ids(catalog, tokenizer, side):
    tokenizer.padding_side = side
    template = ItemPrompt("{user} bought:\n{items}\nNext:", tokenizer, answer="target", prefix=[1])
    features = [
        {"item_ids": ["item-1"], "user": "Ann", "target": "pen"},
        {"item_ids": ["item-2", "item-3", "item-1"], "user": "Bob", "target": "ink pen"},
    ]
    batch = CatalogCollator(catalog, template)(features)
    for row, feature in enumerate(features):
        ids = batch["input_ids"][row]
        for item, (start, end) in zip(feature["item_ids"], batch["item_spans"][row], strict=True):
            assert ids[start:end].tolist() == catalog[item].tolist()
        real = ids[batch["attention_mask"][row].bool()].tolist()
        assert real[0] == 1
        assert tokenizer.decode(real[1:]).startswith(f"{feature['user']} bought:\n")
        labels = batch["labels"][row]
        assert tokenizer.decode(labels[labels >= 0][:-1].tolist()) == feature["target"]
    assert "target" not in batch
    tokenizer.padding_side = "right"


def test_prompts_go_through_a_base_collator(catalog, tokenizer):
    from transformers import DataCollatorForSeq2Seq

    base = DataCollatorForSeq2Seq(tokenizer)

    def without_spans(features):
        return base([{n: v for n, v in f.items() if n != "item_spans"} for f in features])

    template = ItemPrompt("{items} ->", tokenizer, answer="target")
    batch = CatalogCollator(catalog, template, without_spans)([{"item_ids": ["item-1"], "target": "pen"}])
    assert batch["input_ids"].shape == batch["labels"].shape


def test_plain_items_are_rows(catalog):
    batch = CatalogCollator(catalog, PlainItems(pad_id=9))(
        [{"item_ids": ["item-1", "item-2"], "label": 1.0}, {"item_ids": "item-3", "label": 0.0}]
    )
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (3, 6)
    assert batch["item_counts"].tolist() == [2, 1]
    assert torch.equal(batch["label"], torch.tensor([1.0, 0.0]))
    assert batch["input_ids"][2].tolist() == catalog["item-3"].tolist()


def test_values_are_put_in_as_they_are(catalog, tokenizer):
    template = ItemPrompt("{user} of {city}: {items} {this}", tokenizer)
    features = [{"item_ids": ["item-1"], "user": "Ann {city} {items}", "city": "Oslo {user}"}]
    batch = CatalogCollator(catalog, template)(features)
    ((start, end),) = batch["item_spans"][0]
    ids = batch["input_ids"][0].tolist()
    assert ids[start:end] == catalog["item-1"].tolist()
    assert tokenizer.decode(ids[:start]) == "Ann {city} {items} of Oslo {user}: "
    assert tokenizer.decode(ids[end:]) == " {this}"
    assert set(batch) == {"input_ids", "attention_mask", "item_spans"}


def test_a_prompt_pickles(catalog, tokenizer):
    template = ItemPrompt("{user}: {items}", tokenizer, answer="target")
    collator = CatalogCollator(catalog, template)
    features = [{"item_ids": ["item-1"], "user": f"user {n}", "target": "pen"} for n in range(9)]
    want = collator(features)
    assert torch.equal(pickle.loads(pickle.dumps(collator))(features)["input_ids"], want["input_ids"])


def test_bad_features(catalog, tokenizer):
    collator = CatalogCollator(catalog, PlainItems())
    with pytest.raises(ValueError, match="feature 0 lacks 'item_ids'"):
        collator([{"ids": ["item-1"]}])
    with pytest.raises(KeyError, match="nobody"):
        collator([{"item_ids": ["nobody"]}])
    assert CatalogCollator(catalog, PlainItems(), missing="empty")([{"item_ids": ["nobody", "item-1"]}])[
        "attention_mask"
    ].sum(dim=1).tolist() == [0, 6]
    with pytest.raises(ValueError, match=r"must hold \{items\} once"):
        ItemPrompt("no place", tokenizer)
    with pytest.raises(ValueError, match="at least one prefix"):
        PackedItems({})
    with pytest.raises(ValueError, match="lacks the answer"):
        CatalogCollator(catalog, ItemPrompt("{items}", tokenizer, answer="t"))([{"item_ids": ["item-1"]}])


def test_it_works_in_a_data_loader(catalog):
    features = [{"item_ids": [f"item-{n}"]} for n in range(8)]
    collator = CatalogCollator(catalog, PlainItems())
    loader = torch.utils.data.DataLoader(features, batch_size=4, collate_fn=collator, num_workers=1)
    got = [batch["input_ids"] for batch in loader]
    assert torch.equal(torch.cat(got), collator(features)["input_ids"])
    assert pickle.loads(pickle.dumps(collator))(features)["item_counts"].tolist() == [1] * 8


def test_a_tokenizer_that_adds_a_space_adds_none_inside_a_prompt():
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    entries = ["<unk>", *(f"<0x{b:02X}>" for b in range(256)), "▁", *"abcdefghijklmnopqrstuvwxyzN:"]
    vocabulary = {entry: i for i, entry in enumerate(entries)}
    core = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    llama = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", pad_token="<unk>")
    items = RaggedTokens.from_lists(llama(["gel pen", "paper"])["input_ids"])
    made = ItemPrompt("had:\n{items}\nNext:", llama, answer="target").assemble({"target": "pen"}, [items])
    assert llama.decode(made["input_ids"]) == "had:\n gel pen\n paper\nNext:pen"
