from __future__ import annotations

import numpy as np

from tests.conftest import TEXTS, make_tokenizer
from tsporec._internal.digest import digest
from tsporec.tokens.fingerprint import tokenizer_fingerprint


def test_tokenizers_are_known_by_what_they_are():
    one, twin = make_tokenizer("bpe"), make_tokenizer("bpe")
    assert tokenizer_fingerprint(one) == tokenizer_fingerprint(twin)
    assert tokenizer_fingerprint(one) != tokenizer_fingerprint(make_tokenizer("bpe", TEXTS[:2]))
    before = tokenizer_fingerprint(one)
    one.add_tokens(["<item>"])
    grown = tokenizer_fingerprint(one)
    assert grown != before
    one.add_special_tokens({"sep_token": "<item>"})
    assert tokenizer_fingerprint(one) not in (before, grown)


def test_digests_tell_parts_apart():
    assert digest("a", "b") != digest("ab")
    assert digest(np.zeros(2, np.float32)) != digest(np.zeros(2, np.int32))
    assert digest(np.zeros((2, 1))) != digest(np.zeros((1, 2)))
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
