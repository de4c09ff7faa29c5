"""Other people's data code, run as it is: our examples make its batches, and it runs with what we wrap."""

from __future__ import annotations

import copy
import itertools
import json
import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tests.upstream import upstream
from tests.upstream.cases import GOLDEN, INPUTS, example, golden, ours, theirs
from tsporec import Budget, RaggedTokens, SelectorCollator, TokenSelector, wrap_tokenizer
from tsporec.collators.packed_items import PackedColumns
from tsporec.collators.spans import MarkerSpans, UnlabelledSpans

BUDGET = Budget(tokens=4)


@pytest.fixture(scope="module")
def texts():
    rng = random.Random(0)
    words = ["gel", "pen", "ink,", "café", "12-pack", "for", "HP", "(blue)", "office", "日本", "stapler"]
    return [" ".join(rng.choices(words, k=rng.randint(1, 12))) for _ in range(12)]


@pytest.fixture
def tokenizer(texts):
    tokenizer = example("tiny").tokenizer(["Below is an instruction. ### User Input: ### Response:", *texts])
    tokenizer.padding_side = "left"
    return tokenizer


@pytest.fixture
def selector(tokenizer, texts):
    corpus = RaggedTokens.from_lists(tokenizer(texts, add_special_tokens=False)["input_ids"])
    return TokenSelector().for_tokenizer(tokenizer).fit(corpus)


def points(texts):
    return [
        {"instruction": "Yes or No?", "input": ", ".join(f'"{t}"' for t in row), "output": "Yes."}
        for row in (texts[:1], texts[:5], texts)
    ]


@pytest.mark.parametrize("name", INPUTS)
def test_the_golden_batch_is_still_theirs(name):
    assert golden(name) == json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("minionerec", {"max_len": 512}),
        ("minionerec", {"max_len": 120}),
        *(("tallrec", {"cutoff": n, "train_on_inputs": t}) for n, t in itertools.product((64, 256), (False, True))),
        ("hllm", {}),
    ],
)
def test_our_batch_is_theirs(name, options, texts, tokenizer, tmp_path, monkeypatch):
    inputs = options | {
        "users": [{"history": texts[:n], "target": texts[-n]} for n in (1, 4, 12)],
        "points": points(texts),
        "items": [{"title": t, "description": d} for t, d in itertools.pairwise(texts)],
        "sequences": [[1, 2, 3], [9, 8, 7, 6, 5], [4]],
    }
    made = theirs(name, inputs, tokenizer, tmp_path, monkeypatch)
    assert ours(name, inputs, tokenizer) == made


def test_minionerec_runs_wrapped(texts, tokenizer, selector, tmp_path):
    from transformers import DataCollatorForSeq2Seq

    users = [{"history": texts[:n], "target": texts[-n]} for n in (1, 4, 12)]
    features, _ = upstream.minionerec(users, tokenizer, tmp_path, 512)
    base = DataCollatorForSeq2Seq(tokenizer, pad_to_multiple_of=8, return_tensors="pt", padding=True)
    whole = base(copy.deepcopy(features))
    kept = SelectorCollator(base, selector, Budget(keep_ratio=1.0), UnlabelledSpans())(features)
    assert all(torch.equal(kept[name], value) for name, value in whole.items())
    short = SelectorCollator(base, selector, Budget(tokens=40), UnlabelledSpans())(features)
    assert short["input_ids"].shape[1] < whole["input_ids"].shape[1]
    assert [r[r != -100].tolist() for r in short["labels"]] == [r[r != -100].tolist() for r in whole["labels"]]


def test_tallrec_runs_on_a_wrapped_tokenizer_and_collator(texts, tokenizer, selector, monkeypatch):
    with monkeypatch.context() as patch:
        first, _ = upstream.tallrec(points(texts), tokenizer, patch, 64, True)
    with monkeypatch.context() as patch:
        best, _ = upstream.tallrec(points(texts), wrap_tokenizer(tokenizer, selector, keep_last=12), patch, 64, True)
    assert [len(row["input_ids"]) for row in best] == [len(row["input_ids"]) for row in first]
    assert [tokenizer.decode(row["labels"]).endswith("Yes.") for row in first] == [False] * 3
    assert [tokenizer.decode(row["labels"]).endswith("Yes.") for row in best] == [True] * 3
    with monkeypatch.context() as patch:  # labels found by the prompt's length: a long cutoff, and a wrapped collator
        rows, base = upstream.tallrec(points(texts), tokenizer, patch, 512, False)
        batch = SelectorCollator(base, selector, Budget(tokens=50), UnlabelledSpans())(rows)
    assert batch["input_ids"].shape[1] <= 64
    assert [tokenizer.decode(r[r != -100]) for r in batch["labels"]] == ["Yes.</s>"] * 3


def test_hllm_runs_wrapped_both_ways(texts, tokenizer, selector, tmp_path, monkeypatch):
    items = [{"title": t, "description": d} for t, d in itertools.pairwise(texts)]
    sequences = [[1, 2, 3], [9, 8, 7, 6, 5], [4]]
    dataset, collate = upstream.hllm(items, sequences, tokenizer, tmp_path, monkeypatch)
    rows = [dataset[i] for i in range(3)]
    whole, spans = collate(rows), PackedColumns("pos_", "neg_", tail=1)
    for budget in (Budget(keep_ratio=1.0), BUDGET):
        batch = SelectorCollator(collate, selector, budget, spans)(rows)
        assert list(batch) == list(whole)
        assert len(batch["pos_cu_input_lens"]) == len(whole["pos_cu_input_lens"])
        expected = whole["pos_cu_input_lens"] if budget is not BUDGET else whole["pos_cu_input_lens"].clamp(max=5)
        assert torch.equal(batch["pos_cu_input_lens"], expected)
        last = batch["pos_cu_input_lens"].cumsum(0) - 1
        assert (batch["pos_input_ids"][last] == 0).all()
        assert (batch["pos_position_ids"][last] == 40).all()
        if budget is not BUDGET:
            assert all(torch.equal(batch[name], value) for name, value in whole.items())
    loader = DataLoader(rows, batch_size=3, collate_fn=SelectorCollator(collate, selector, BUDGET, spans))
    assert torch.equal(next(iter(loader))["pos_input_ids"], batch["pos_input_ids"])
    dataset.tokenizer = wrap_tokenizer(dataset.tokenizer, selector, BUDGET)
    assert (collate([dataset[i] for i in range(3)])["pos_cu_input_lens"] <= 5).all()


def test_sdpo_reads_short_histories_and_whole_candidates(texts, tokenizer, selector, tmp_path):
    collator, prompts = upstream.sdpo(tokenizer)
    (tmp_path / "prompt.txt").write_text("Bought: [HistoryHere]. Choose from [CansHere]. Answer:")
    batches = []
    for budget in (Budget(keep_ratio=1.0), BUDGET):
        prompt = prompts(str(tmp_path / "prompt.txt"))
        prompt.historyList = [selector.compress_text(text, budget, tokenizer) for text in texts[:6]]
        prompt.itemList = texts[6:]
        batches.append(collator([{"prompt": str(prompt), "chosen": texts[6], "rejected1": texts[7]}]))
    whole, short = batches
    assert whole["prompt"][0].startswith(f"Bought: {', '.join(texts[:6])}. ")
    assert short["prompt_input_ids"].shape[1] < whole["prompt_input_ids"].shape[1]
    assert short["prompt"][0].endswith(f". Choose from {', '.join(texts[6:])}. Answer: ")
    for side in ("chosen", "rejected1"):
        labels = [b[f"{side}_labels"][b[f"{side}_labels"] != -100] for b in batches]
        assert torch.equal(*labels)


def test_patchrec_keeps_every_item(texts, tmp_path, monkeypatch):
    from transformers import DataCollatorForLanguageModeling

    marks = ("<|start_seq_id|>", "<|end_seq_id|>", "<|item_sep_id|>")
    tokenizer = example("tiny").tokenizer(texts)
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    histories = [[0, 1, 2, 3, 4], [5, 6, 7, 8]]
    chats = upstream.patchrec(texts, histories, tokenizer, tmp_path, monkeypatch)
    features = [{"input_ids": ids} for ids in tokenizer(chats)["input_ids"]]
    base, spans = (
        DataCollatorForLanguageModeling(tokenizer, mlm=False),
        MarkerSpans(*tokenizer.convert_tokens_to_ids(list(marks))),
    )
    corpus = RaggedTokens.from_lists(tokenizer(texts)["input_ids"])
    selector = TokenSelector().for_tokenizer(tokenizer).fit(corpus)
    assert sorted(len(spans(row)) for row in features) == [3, 4]
    short = SelectorCollator(list, selector, BUDGET, spans, tokenizer=tokenizer)(features)
    for before, after in zip(features, short, strict=True):
        assert len(spans(after)) == len(spans(before))
        lengths = np.diff(spans(before)).ravel()
        assert np.diff(spans(after)).ravel().tolist() == np.minimum(lengths, 4).tolist()
    kept = SelectorCollator(base, selector, Budget(keep_ratio=1.0), spans)(features)
    assert all(torch.equal(kept[name], value) for name, value in base(features).items())
