from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.conftest import DEVICES, make_causal_lm
from tsporec.budget import Budget
from tsporec.collators.in_model import BatchSelector, span_ids
from tsporec.collators.selector import SelectorCollator
from tsporec.selector.model import TokenSelector

PAD, SPECIAL = 0, (1, 2)


class ByTable(nn.Module):
    """A score for each id, and a little for its place in the segment: enough to tell segments apart."""

    def __init__(self, vocabulary=60):
        super().__init__()
        self.table = nn.Parameter(torch.arange(vocabulary).mul(7).remainder(13).float())

    def forward(self, ids, cu_seqlens):
        starts = torch.repeat_interleave(cu_seqlens[:-1].long(), cu_seqlens.diff().long())
        place = torch.arange(len(ids), device=ids.device) - starts
        return self.table[ids.long()] + place.remainder(3)

    def score(self, tokens):
        with torch.no_grad():
            return self(torch.from_numpy(tokens.ids), torch.from_numpy(tokens.cu_seqlens)).numpy()


def pad(features, side="right"):
    """A base collator: columns to tensors, padded."""
    width = max(len(f["input_ids"]) for f in features)
    columns = {"input_ids": PAD, "attention_mask": 0, "labels": -100}

    def row(feature, name, fill):
        values = list(feature.get(name, [1] * len(feature["input_ids"])))
        rest = [fill] * (width - len(values))
        return rest + values if side == "left" else values + rest

    return {name: torch.tensor([row(f, name, fill) for f in features]) for name, fill in columns.items()}


@st.composite
def batches(draw):
    """Features with spans, special tokens inside them, and labels on some."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    features = []
    for _ in range(draw(st.integers(1, 5))):
        length = int(rng.integers(1, 40))
        cuts = np.sort(rng.integers(0, length + 1, 2 * rng.integers(0, 4)))
        features.append(
            {
                "input_ids": rng.integers(1, 60, length).tolist(),
                "labels": np.where(rng.random(length) < 0.1, 5, -100).tolist(),
                "item_spans": [(int(a), int(b)) for a, b in cuts.reshape(-1, 2)],
            }
        )
    return features


@given(batches(), st.sampled_from([Budget(tokens=3), Budget(keep_ratio=0.1), Budget(keep_ratio=1.0)]), st.booleans())
@settings(max_examples=60)
def test_keeps_what_the_collator_keeps(features, budget, left):
    side = "left" if left else "right"
    scorer = ByTable()
    collate = SelectorCollator(lambda f: pad(f, side), scorer, budget, protected_ids=SPECIAL)
    expected = collate(features)
    whole = pad(features, side)
    whole["span_ids"] = span_ids([f["item_spans"] for f in features], whole["attention_mask"])
    selecting = BatchSelector(scorer, budget, SPECIAL, padding_side=side, pad_token_id=PAD)
    found = selecting(**whole)
    for name in ("input_ids", "attention_mask", "labels"):
        assert torch.equal(found[name], expected[name]), name
    for positions, mask in zip(found["position_ids"], found["attention_mask"].bool(), strict=True):
        assert positions[mask].tolist() == list(range(int(mask.sum())))
    wider = BatchSelector(scorer, budget, SPECIAL, side, PAD, width=50)(**whole)
    assert wider["input_ids"].shape == (len(features), 50)
    assert torch.equal(
        wider["input_ids"][wider["attention_mask"].bool()], found["input_ids"][found["attention_mask"].bool()]
    )


def test_a_model_reads_the_cut_batch_by_ids_or_embeddings():
    model = make_causal_lm(60)
    ids = torch.randint(3, 60, (2, 12))
    mask = torch.ones_like(ids)
    numbers = span_ids([[(2, 9)], [(0, 5), (5, 12)]], mask)
    selecting = BatchSelector(ByTable(), Budget(tokens=2))
    embeddings = model.get_input_embeddings()(ids)
    by_ids = selecting(ids, mask, numbers)
    by_embeddings = selecting(ids, mask, numbers, inputs_embeds=embeddings)
    assert by_ids["attention_mask"].sum(dim=1).tolist() == [7, 4]
    real = by_ids["attention_mask"].bool()
    out = model(**by_ids).logits[real]
    torch.testing.assert_close(model(**by_embeddings).logits[real], out)
    out.sum().backward()
    embeddings.retain_grad()
    by_embeddings = selecting(ids, mask, numbers, inputs_embeds=embeddings)
    by_embeddings["inputs_embeds"].sum().backward()
    assert (embeddings.grad[..., 0] != 0).sum(dim=1).tolist() == [7, 4]


@pytest.mark.parametrize("device", DEVICES)
def test_a_batch_stays_on_its_device(device):
    ids = torch.randint(3, 60, (4, 30))
    mask = torch.ones_like(ids)
    batch = {"input_ids": ids, "attention_mask": mask, "span_ids": span_ids([[(2, 9), (10, 30)]] * 4, mask)}
    selecting = BatchSelector(ByTable(), Budget(tokens=3), SPECIAL)
    expected = selecting(**batch)
    found = selecting.to(device)(**{name: column.to(device) for name, column in batch.items()})
    for name, column in expected.items():
        assert found[name].device.type == device
        assert torch.equal(found[name].cpu(), column), name


def test_the_selector_gets_no_gradient_and_moves_with_the_module():
    selecting = BatchSelector(ByTable(), Budget(tokens=1), SPECIAL)
    ids = torch.arange(3, 9)[None]
    cut = selecting(ids, torch.ones_like(ids), torch.ones_like(ids))
    assert cut["input_ids"].shape == (1, 1)
    assert not selecting.to(torch.float64).protected_ids.is_floating_point()
    assert selecting.selector.table.grad is None


def test_special_tokens_are_those_of_the_selector(tokenizer):
    selector = TokenSelector().for_tokenizer(tokenizer)
    ids = torch.tensor([[1, 5, 6, 2]])
    cut = BatchSelector(selector, 1)(ids, torch.ones_like(ids), torch.ones_like(ids))
    assert cut["input_ids"].tolist() == [[1, 2]]


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="a total is shared out on the CPU"):
        BatchSelector(ByTable(), Budget(total=9))
    with pytest.raises(ValueError, match="padding_side is 'up'"):
        BatchSelector(ByTable(), Budget(tokens=1), padding_side="up")
    ids = torch.ones(2, 3, dtype=torch.long)
    with pytest.raises(ValueError, match=r"span_ids has shape \(2, 4\)"):
        BatchSelector(ByTable(), Budget(tokens=1))(ids, ids, torch.ones(2, 4))
    with pytest.raises(ValueError, match="spans for 1 rows"):
        span_ids([[]], ids)
    for spans in ([(0, 4)], [(1, 2), (0, 1)], [(2, 1)]):
        with pytest.raises(ValueError, match="row 1: span"):
            span_ids([[], spans], ids)
