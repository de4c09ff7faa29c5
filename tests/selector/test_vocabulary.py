from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import make_tokenizer
from tsporec.selector.vocabulary import CLASSES, read_vocabulary


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_every_id_has_features(kind):
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
