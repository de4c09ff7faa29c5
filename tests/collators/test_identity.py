"""With a budget that drops nothing a wrapped collator is the collator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.collators.features import make_features
from tsporec.budget import Budget
from tsporec.collators.selector import SelectorCollator
from tsporec.scorers import make_scorer

ids, masked, labelled = ("input_ids",), ("input_ids", "attention_mask"), ("input_ids", "attention_mask", "labels")
COLLATORS = {
    "default": ("DefaultDataCollator", {}, labelled),
    "padding": ("DataCollatorWithPadding", {}, masked),
    "padding to 8": ("DataCollatorWithPadding", {"pad_to_multiple_of": 8}, masked),
    "seq2seq": ("DataCollatorForSeq2Seq", {}, labelled),
    "token classification": ("DataCollatorForTokenClassification", {}, labelled),
    "causal": ("DataCollatorForLanguageModeling", {"mlm": False}, masked),
    "masking": ("DataCollatorForLanguageModeling", {"mlm_probability": 0.3}, masked),
    "whole words": ("DataCollatorForLanguageModeling", {"whole_word_mask": True}, (*masked, "offset_mapping")),
    "permutation": ("DataCollatorForPermutationLanguageModeling", {}, ids),
    "flattening": ("DataCollatorWithFlattening", {}, ("input_ids", "labels")),
    "flattening for attention": (
        "DataCollatorWithFlattening",
        {"return_flash_attn_kwargs": True, "return_seq_idx": True},
        ("input_ids", "labels"),
    ),
}


@pytest.fixture(scope="module")
def masking_tokenizer():
    from tests.conftest import make_tokenizer

    tokenizer = make_tokenizer("wordpiece")
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    return tokenizer


@pytest.mark.parametrize("tensors", ["pt", "np"])
@pytest.mark.parametrize("name", COLLATORS)
@settings(max_examples=20)
@given(seed=st.integers(0, 2**31))
def test_batches_are_identical(masking_tokenizer, name, tensors, seed):
    import transformers

    kind, options, columns = COLLATORS[name]
    if name not in ("default", "flattening", "flattening for attention"):
        options = {"tokenizer": masking_tokenizer, **options}
    base = getattr(transformers, kind)(**options, return_tensors=tensors)
    rng = np.random.default_rng(seed)
    features = [
        {**f, "offset_mapping": [(i, i + 1) for i in range(len(f["input_ids"]))]} for f in make_features(rng, 4)
    ]
    if name in ("default", "whole words"):  # which stack, or do not pad offsets
        features = features[:1] * 2
    if name == "permutation":  # which takes even lengths
        features = [f for f in features if len(f["input_ids"]) % 2 == 0]
        features = features or [{"input_ids": [5, 6], "item_spans": [(0, 1)]}]
    plain = [{c: f[c] for c in columns} for f in features]
    spanned = [{**p, "item_spans": f["item_spans"]} for p, f in zip(plain, features, strict=True)]
    transformers.set_seed(seed)
    expected = base([dict(p) for p in plain])
    transformers.set_seed(seed)
    found = SelectorCollator(base, make_scorer("random"), Budget(tokens=1000))(spanned)
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert type(found[key]) is type(value)
        if isinstance(value, torch.Tensor | np.ndarray):
            assert found[key].dtype == value.dtype
            assert found[key].shape == value.shape
            assert bool((found[key] == value).all())
        else:
            assert found[key] == value
