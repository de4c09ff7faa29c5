"""Which tokens belong to one word."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsporec.tokens.words import word_of_tokens


def by_characters(text):
    """The words of a text that has one token for each character."""
    places = np.arange(len(text))
    spans = np.stack([places, places + 1], axis=1)
    numbers = word_of_tokens(text, spans, np.zeros(len(text), dtype=bool), np.int32([0, len(text)]))
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
    ],
)
def test_words_and_clusters(text, words):
    assert by_characters(text) == words


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
