"""Loading, cutting and running language models."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import make_causal_lm
from tsporec.language_model import cut_layers, equal_length_batches, load_causal_lm
from tsporec.tokens.ragged import RaggedTokens


def test_cut_layers_leaves_the_model_alone_and_shares_its_weights(tokenizer):
    model = make_causal_lm(len(tokenizer), layers=3)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        whole = model(ids, output_hidden_states=True)
        cut = cut_layers(model, 2)
        again = model(ids)
        short = cut(ids, output_hidden_states=True)
    assert torch.equal(whole.logits, again.logits)
    assert len(cut.model.layers) == cut.config.num_hidden_layers == cut.model.config.num_hidden_layers == 2
    assert len(model.model.layers) == model.config.num_hidden_layers == 3
    torch.testing.assert_close(short.hidden_states[1], whole.hidden_states[1])
    assert {p.data_ptr() for p in cut.parameters()} < {p.data_ptr() for p in model.parameters()}
    with pytest.raises(ValueError, match="layers must be from 1 to 3"):
        cut_layers(model, 4)


@given(st.lists(st.integers(0, 5), max_size=12), st.integers(1, 12))
def test_batches_hold_every_text_once_and_no_two_lengths(lengths, batch_tokens):
    tokens = RaggedTokens.from_lists([[1] * length for length in lengths])
    batches = equal_length_batches(tokens, batch_tokens)
    assert sorted(i for batch in batches for i in batch) == [i for i, length in enumerate(lengths) if length]
    for batch in batches:
        (length,) = set(tokens.lengths[batch].tolist())
        assert len(batch) <= max(1, batch_tokens // length)
    counts = {length: lengths.count(length) for length in set(lengths) - {0}}
    fewest = sum(-(-count // max(1, batch_tokens // length)) for length, count in counts.items())
    assert len(batches) == fewest


def test_loading_changes_no_setting_of_the_process(tokenizer, tmp_path):
    from transformers.utils import logging

    model = make_causal_lm(len(tokenizer))
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    before = logging.is_progress_bar_enabled()
    try:
        for enabled in (True, False):
            (logging.enable_progress_bar if enabled else logging.disable_progress_bar)()
            load_causal_lm(tmp_path, layers=1)
            assert logging.is_progress_bar_enabled() == enabled
    finally:
        (logging.enable_progress_bar if before else logging.disable_progress_bar)()
