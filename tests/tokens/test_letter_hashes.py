"""Letters and digits are read from token ids as they stand in the text, whatever the tokenizer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import TEXTS, make_tokenizer
from tsporec.tokens.letter_hashes import HEAD, LENGTH, Letters, normalise
from tsporec.tokens.pieces import read_pieces
from tsporec.tokens.ragged import RaggedTokens

KINDS = ("bpe", "wordpiece", "unigram")
TOKENIZERS = {kind: make_tokenizer(kind) for kind in KINDS}
WORDS = st.lists(st.sampled_from(" ".join(TEXTS).split()), max_size=30).map(" ".join)


def letters(kind: str, texts: list[str]) -> Letters:
    tokenizer = TOKENIZERS[kind]
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    return Letters(RaggedTokens.from_lists(ids), read_pieces(tokenizer))


def spelled(found: Letters, segment: int) -> str:
    """The letters of a segment; bytes of a character that is spread over tokens are put together again."""
    codes = found.alphabet.codes[found.where] - np.uint64(1)
    start = found.starts[segment]
    text = "".join(chr(c) for c in codes[start : start + found.lengths[segment]].tolist())
    return normalise(text.encode("utf-8", "surrogateescape").decode("utf-8"))


@pytest.mark.parametrize("kind", KINDS)
@given(texts=st.lists(WORDS, min_size=1, max_size=4))
def test_letters_are_those_of_the_text(kind, texts):
    found = letters(kind, texts)
    for i, text in enumerate(texts):
        assert spelled(found, i) == normalise(text)


@pytest.mark.parametrize("kind", KINDS)
@given(text=WORDS, before=st.sampled_from(["", "1. ", '"', "Title: ", "\n"]), upper=st.booleans())
def test_equal_runs_have_equal_hashes_wherever_they_stand(kind, text, before, upper):
    found = letters(kind, [text, before + (text.upper() if upper and kind == "bpe" and text.isascii() else text)])
    plain, moved = (found.lengths[i] for i in (0, 1))
    first = np.arange(max(int(plain) - 3, 0))
    shift = moved - plain
    here = found.hash_runs(found.starts[0] + first, found.starts[0] + first + 3)
    there = found.hash_runs(found.starts[1] + shift + first, found.starts[1] + shift + first + 3)
    np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_of_a_text_are_found_again_in_a_longer_one(kind):
    text = " ".join(TEXTS[:2])
    found = letters(kind, [text, "Item 7: " + text + " and more", "ab", "", "  ,"])
    hashes, segment = found.sampled_runs()
    assert set(hashes[segment == 0][:LENGTH]) <= set(hashes[segment == 1]) or len(normalise(text)) > HEAD
    assert (segment == 2).sum() == 1  # shorter than a run: one hash of all
    assert not np.isin(segment, [3, 4]).any()  # nothing to read


def test_a_token_is_known_by_its_word(tokenizer):
    found = letters("bpe", ["1000 staples", "(1000) Staples, 12"])
    cu, hashes = found.tokens.cu_seqlens, found.of_tokens
    assert set(hashes[: cu[1]]) <= set(hashes[cu[1] :])
    ids = found.tokens.ids
    same_id = [np.flatnonzero(ids == i) for i in np.unique(ids) if (ids == i).sum() > 1]
    assert same_id  # the same digit in other numbers has other hashes
    assert len(set(hashes.tolist())) > len(set(ids.tolist())) - 3


def test_one_vocabulary_gives_the_hashes_of_another():
    plain = [set(letters(kind, TEXTS).sampled_runs()[0].tolist()) for kind in ("bpe", "unigram")]
    shared = len(plain[0] & plain[1]) / len(plain[0] | plain[1])
    assert shared > 0.75
