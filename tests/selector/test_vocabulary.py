from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from tests.conftest import TEXTS, make_tokenizer
from tsporec.budget import Budget
from tsporec.scorers.cached import CachedScorer
from tsporec.selector.model import SelectorConfig, TokenSelector
from tsporec.selector.vocabulary import CLASSES, embeddings_fingerprint, read_vocabulary
from tsporec.tokenizer import wrap_tokenizer
from tsporec.tokens.ragged import RaggedTokens


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_every_entry_has_features(kind):
    vocabulary = read_vocabulary(make_tokenizer(kind), 512, 1024)
    assert (np.diff(vocabulary.gram_offsets) >= 1).all()
    assert vocabulary.grams.min() >= 0
    assert vocabulary.grams.max() < 512
    assert vocabulary.surface.max() < 1024
    special = vocabulary.classes[:, CLASSES.index("special")] == 1
    assert special.sum() == 4
    kinds = vocabulary.classes[:, 1 : CLASSES.index("length")].sum(axis=1)
    assert (kinds[~special] == 1).all()
    assert (vocabulary.classes[special].sum(axis=1) == 1).all()


def test_the_same_word_is_the_same_in_other_tokenizers():
    keys = []
    for kind in ("bpe", "wordpiece", "unigram"):
        tokenizer = make_tokenizer(kind)
        ids = tokenizer("fine ink", add_special_tokens=False)["input_ids"]
        vocabulary = read_vocabulary(tokenizer, 512, 32768)
        keys.append((tokenizer.convert_ids_to_tokens(ids)[-1], int(vocabulary.surface[ids[-1]])))
    words = {key for token, key in keys if token.strip("Ġ▁") == "ink"}
    assert len(words) == 1
    assert sum(token.strip("Ġ▁") == "ink" for token, _ in keys) >= 2


def test_is_remembered_by_fingerprint(tokenizer):
    assert read_vocabulary(tokenizer, 512, 1024) is read_vocabulary(make_tokenizer("bpe"), 512, 1024)
    assert read_vocabulary(tokenizer, 256, 1024) is not read_vocabulary(tokenizer, 512, 1024)


# -- a table of embeddings


@pytest.fixture
def embeddings(tokenizer):
    return torch.randn(len(tokenizer) + 8, 12, generator=torch.Generator().manual_seed(0))  # padded, as models are


@pytest.fixture
def bound(tokenizer, embeddings):
    torch.manual_seed(0)
    selector = TokenSelector(SelectorConfig.of_embeddings(embeddings, surface_buckets=256))
    torch.nn.init.normal_(selector.network.out.weight)
    return selector.for_tokenizer(tokenizer, embeddings=embeddings)


def test_embeddings_are_read_and_not_saved(bound, tokenizer, embeddings, tmp_path):
    tokens = RaggedTokens.from_lists(tokenizer(TEXTS, add_special_tokens=False)["input_ids"])
    bound.fit(tokens)
    scores = bound.score(tokens)
    assert not any(value.shape[0] == len(embeddings) for value in bound.state_dict().values())
    again = TokenSelector.from_pretrained(bound.save_pretrained(tmp_path))
    with pytest.raises(ValueError, match="not bound to a tokenizer"):
        again.score(tokens)
    again = again.for_tokenizer(tokenizer, embeddings=embeddings)
    np.testing.assert_array_equal(again.score(tokens), scores)
    assert again.fingerprint == bound.fingerprint
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(again)).score(tokens), scores)
    other = embeddings.roll(1, 0)
    changed = TokenSelector(SelectorConfig.of_embeddings(other, surface_buckets=256))
    changed.load_state_dict(bound.state_dict())
    assert not np.array_equal(changed.for_tokenizer(tokenizer, embeddings=other).score(tokens), scores)


def test_gradients_reach_the_projection_and_not_the_embeddings(bound, tokenizer):
    tokens = RaggedTokens.from_lists(tokenizer(TEXTS, add_special_tokens=False)["input_ids"])
    bound(torch.from_numpy(tokens.ids), torch.from_numpy(tokens.cu_seqlens)).sum().backward()
    assert bound.projection.weight.grad.abs().sum() > 0
    assert bound.vocabulary.embeddings.grad is None
    before = bound.score(tokens)
    with torch.no_grad():
        bound.projection.weight.add_(1.0)
    assert not np.array_equal(before, bound.score(tokens))


def test_bound_again_to_its_tokenizer_it_keeps_its_embeddings(bound, tokenizer):
    """What binds a selector that it is given, as a wrapped tokenizer does, has no embeddings to bind it with."""
    tokens = RaggedTokens.from_lists(tokenizer(TEXTS, add_special_tokens=False)["input_ids"])
    again = bound.fit(tokens).for_tokenizer(tokenizer)
    np.testing.assert_array_equal(again.score(tokens), bound.score(tokens))
    np.testing.assert_array_equal(CachedScorer(bound).for_tokenizer(tokenizer).score(tokens), bound.score(tokens))
    wrapped = wrap_tokenizer(tokenizer, bound, Budget(tokens=4))
    kept = bound.select(tokens, Budget(tokens=4)).apply(tokens).to_lists()
    for tok in (wrapped, pickle.loads(pickle.dumps(wrapped)), wrap_tokenizer(wrapped, bound, Budget(tokens=4))):
        assert tok(TEXTS, add_special_tokens=False)["input_ids"] == kept
    with pytest.raises(ValueError, match="is not bound to this tokenizer; bind it with"):
        wrap_tokenizer(make_tokenizer("wordpiece"), bound)


def test_other_embeddings_are_refused(bound, tokenizer, embeddings):
    with pytest.raises(
        ValueError, match="reads a language model's input embeddings and is not bound to this tokenizer"
    ):
        TokenSelector(bound.config).for_tokenizer(tokenizer)
    with pytest.raises(ValueError, match="expected a width of 12 and a row for each"):
        bound.for_tokenizer(tokenizer, embeddings=embeddings[:, :4])
    with pytest.raises(ValueError, match="expected a width of 12 and a row for each"):
        bound.for_tokenizer(tokenizer, embeddings=embeddings[:9])
    with pytest.raises(ValueError, match="give the model it was made for"):
        bound.for_tokenizer(tokenizer, embeddings=embeddings + 1)
    with pytest.raises(ValueError, match="leave them out"):
        TokenSelector().for_tokenizer(tokenizer, embeddings=embeddings)
    with pytest.raises(ValueError, match="table is one of surface, embeddings"):
        SelectorConfig(table="embeddings")
    with pytest.raises(ValueError, match="table is one of surface, embeddings"):
        SelectorConfig(embedding_width=3)


def test_precision_does_not_change_what_embeddings_are(embeddings):
    assert embeddings_fingerprint(embeddings.bfloat16()) == embeddings_fingerprint(embeddings)
    assert embeddings_fingerprint(embeddings.bfloat16().float()) == embeddings_fingerprint(embeddings)
