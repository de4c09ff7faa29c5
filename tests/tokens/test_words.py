"""Which tokens belong to one word."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsporec.tokens.words import word_of_tokens


def by_characters(text, **options):
    """The words of a text that has one token for each character."""
    places = np.arange(len(text))
    spans = np.stack([places, places + 1], axis=1)
    numbers = word_of_tokens(text, spans, np.zeros(len(text), dtype=bool), np.int32([0, len(text)]), **options)
    return ["".join(c for c, n in zip(text, numbers, strict=True) if n == number) for number in np.unique(numbers)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a blue  pen\n", ["a ", "blue  ", "pen\n"]),
        ("  gel", ["  gel"]),
        ("black墨の pen", ["black", "墨", "の ", "pen"]),
        ("ปากกา", list("ปากกา")),
        (unicodedata.normalize("NFD", "ガラス"), ["カ\u3099", "ラ", "ス"]),
        ("葛\U000e0100飾", ["葛\U000e0100", "飾"]),
        ("ｼﾞｪﾙ", ["ｼﾞ", "ｪ", "ﾙ"]),
        ("ខ្មែរ", ["ខ្មែ", "រ"]),
        ("สี", ["สี"]),
        ("น้ำ", ["น้ำ"]),
        ("ນ້ຳ", ["ນ້ຳ"]),
        ("人々〇㈱", list("人々〇㈱")),
        ("ꦲꦏ꧀ꦱꦫ", ["ꦲ", "ꦏ꧀ꦱ", "ꦫ"]),
        ("￥５０", list("￥５０")),
        ("अर्थात् वह", ["अर्थात् ", "वह"]),
        ("a\u200d b", ["a\u200d ", "b"]),
    ],
)
def test_words_and_clusters(text, words):
    assert by_characters(text) == words


CLUSTERS = [
    ["p", "e", "n"],
    ["e\u0301", "n\u0303\u0323"],
    ["\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U0001f58a\ufe0f", "\U0001f44d\U0001f3fd", "1\ufe0f\u20e3"],
    ["\U0001f1e9\U0001f1ea", "\U0001f1eb\U0001f1f7", "\U0001f1ec"],
    ["\U0001f3f4\U000e0067\U000e0062\U000e007f", "!"],
    ["\u1112\u1161\u11ab", "\u1100\u1173\u11af", "한"],
    ["क्षि", "न", "स्ते"],
    ["ক্ষ", "ক"],
    ["மி", "ழ்", "நா"],
    ["ន្ត", "រ"],
    ["က်", "ကျ"],
    ["น้ำ", "ก"],
]


@pytest.mark.parametrize("clusters", CLUSTERS)
def test_grapheme_clusters(clusters):
    assert by_characters("".join(clusters), clusters=True) == clusters


def test_flags_are_counted_in_each_segment():
    flags = "\U0001f1e9\U0001f1ea\U0001f1eb"
    places = np.arange(6)
    spans = np.stack([places, places + 1], axis=1)
    found = word_of_tokens(flags * 2, spans, np.zeros(6, dtype=bool), np.int32([0, 3, 3, 6]), clusters=True)
    assert found.tolist() == [0, 0, 1, 2, 2, 3]


def definition(text, spans, special):
    """The definition, token by token."""
    numbers, current, ends, filled, after_break = [], 0, 0, False, False
    for (start, end), alone in zip(spans, special, strict=True):
        piece = text[start:end]
        solid = piece.strip()
        begins = after_break or piece[:1].isspace() or solid[:1] in tuple("墨日")
        if filled and (alone or (solid and begins and start >= ends)):
            current += 1
        numbers.append(current)
        filled = filled or alone or bool(solid)
        if alone or piece:
            after_break = alone or piece[-1:].isspace() or piece[-1:] in tuple("墨日")
        ends = end
    return numbers


@given(text=st.text("ab \n墨日", max_size=12), data=st.data())
def test_tokens_of_any_width(text, data):
    spans, special, place = [], [], 0
    while place < len(text):
        step = data.draw(st.integers(0, 3))
        end = min(place + step, len(text))
        spans += [(place, end)] * data.draw(st.integers(1, 2))  # two tokens may share a character
        special += [step == 0 and data.draw(st.booleans())] * (len(spans) - len(special))
        place = max(end, place + (step == 0 and data.draw(st.booleans())))
    places, alone = np.array(spans, dtype=np.int64).reshape(-1, 2), np.array(special, dtype=bool)
    found = word_of_tokens(text, places, alone, np.int32([0, len(spans)]))
    assert found.tolist() == definition(text, spans, special)
