"""Wrapped collators and tokenizers in DataLoader workers, a Trainer, and a loop of accelerate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from tests.collators.features import make_features
from tests.conftest import TEXTS, make_causal_lm
from tsporec import Budget, RaggedTokens, SelectorCollator, TokenSelector, make_scorer, wrap_tokenizer


class Rows(Dataset):
    """Twelve features, or those with the ``columns`` named."""

    def __init__(self, *columns):
        features = make_features(np.random.default_rng(0), 12)
        self.rows = [{c: f[c] for c in columns} for f in features]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


@pytest.fixture(scope="module")
def selector(tokenizer):
    corpus = RaggedTokens.from_lists(tokenizer(TEXTS, add_special_tokens=False)["input_ids"])
    return TokenSelector().for_tokenizer(tokenizer).fit(corpus)


@pytest.fixture(scope="module")
def wrapped(tokenizer, selector):
    from transformers import DataCollatorForSeq2Seq

    return SelectorCollator(DataCollatorForSeq2Seq(tokenizer), selector, Budget(tokens=2))


ROWS = ("input_ids", "attention_mask", "labels", "item_spans")


def test_accelerate_with_persistent_workers_gives_the_same_batches(tokenizer, wrapped):
    """In forked workers; tests/test_parity.py has spawned ones."""
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    rows = Rows(*ROWS)
    here = [wrapped(rows.rows[i : i + 4]) for i in range(0, 12, 4)]
    loader = DataLoader(
        rows, batch_size=4, collate_fn=wrapped, num_workers=2, multiprocessing_context="fork", persistent_workers=True
    )
    model = make_causal_lm(len(tokenizer)).train()
    accelerator = accelerate.Accelerator(cpu=True)
    model, optimizer, loader = accelerator.prepare(model, torch.optim.SGD(model.parameters(), 0.1), loader)
    for _ in range(2):
        for batch, expected in zip(loader, here, strict=True):
            assert all(torch.equal(batch[name], value) for name, value in expected.items())
            accelerator.backward(model(**batch).loss)
            optimizer.step()
            optimizer.zero_grad()


def test_a_trainer_with_workers_and_a_wrapped_tokenizer(tokenizer, selector, wrapped, tmp_path):
    pytest.importorskip("accelerate", reason="a Trainer needs accelerate")
    from transformers import AutoTokenizer, Trainer, TrainingArguments

    options = {"max_steps": 2, "per_device_train_batch_size": 4, "report_to": [], "use_cpu": True}
    arguments = TrainingArguments(
        tmp_path / "run", **options, dataloader_num_workers=2, dataloader_persistent_workers=True, save_steps=2,
        remove_unused_columns=False,
    )  # fmt: skip
    reading = wrap_tokenizer(tokenizer, selector, Budget(tokens=4))
    trainer = Trainer(
        make_causal_lm(len(tokenizer)), arguments, train_dataset=Rows(*ROWS), data_collator=wrapped,
        processing_class=reading,
    )  # fmt: skip
    assert np.isfinite(trainer.train().training_loss)
    assert trainer.processing_class(TEXTS[0])["input_ids"] == reading(TEXTS[0])["input_ids"]
    saved = AutoTokenizer.from_pretrained(tmp_path / "run" / "checkpoint-2")
    assert saved(TEXTS)["input_ids"] == tokenizer(TEXTS)["input_ids"]


def test_columns_that_a_trainer_removed_are_named(tokenizer, wrapped, tmp_path):
    pytest.importorskip("accelerate", reason="a Trainer needs accelerate")
    from datasets import Dataset as Table
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(tmp_path, max_steps=1, report_to=[], use_cpu=True, save_strategy="no")
    rows = Table.from_list(Rows(*ROWS).rows)
    trainer = Trainer(make_causal_lm(len(tokenizer)), arguments, train_dataset=rows, data_collator=wrapped)
    with pytest.raises(ValueError, match=r"no column 'item_spans'.* set remove_unused_columns=False"):
        trainer.train()


def test_sentence_transformers_reads_the_best_tokens(tmp_path):
    package = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    from transformers import BertConfig, BertModel, BertTokenizerFast

    (tmp_path / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set(" ".join(TEXTS).lower().split()))])
    )
    plain = BertTokenizerFast(str(tmp_path / "vocab.txt"))
    config = BertConfig(
        vocab_size=len(plain), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    BertModel(config).save_pretrained(tmp_path)
    plain.save_pretrained(tmp_path)
    model = package.SentenceTransformer(str(tmp_path), device="cpu")
    model.max_seq_length = 6
    whole = model.tokenizer(TEXTS)["input_ids"]
    first = model.encode(TEXTS)
    model[0].processor = wrap_tokenizer(model.tokenizer, make_scorer("random"))
    features = model.preprocess(TEXTS)
    assert features["input_ids"].shape == (len(TEXTS), 6)
    for row, full in zip(features["input_ids"].tolist(), whole, strict=True):
        assert row[0] == full[0]
        assert row[-1] == full[-1]
        assert set(row) <= set(full)
    assert not np.allclose(model.encode(TEXTS), first)
    from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator

    pairs = [{"anchor": a, "positive": b} for a, b in zip(TEXTS, TEXTS[1:] + TEXTS[:1], strict=True)]
    batch = SentenceTransformerDataCollator(preprocess_fn=model.preprocess)(pairs)
    assert torch.equal(batch["anchor_input_ids"], features["input_ids"])
    # Pooling that leaves out the prompt counts its tokens, so these must all be there.
    prompt = "hp black ink "
    model[0].processor = wrap_tokenizer(plain, make_scorer("random"), prompts=[prompt])
    found = model.preprocess(TEXTS, prompt=prompt)
    head = plain(prompt)["input_ids"][:-1]
    assert found["prompt_length"] == len(head)
    assert all(row[: len(head)] == head for row in found["input_ids"].tolist())
