from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsporec.data.cleaning import clean_text, read_literal_list


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("&lt;br&gt;Ink &amp;lt;b&amp;gt;pen&amp;lt;/b&amp;gt;", "Ink pen"),
        ("vector<int>, sizes <M and L>", "vector<int>, sizes <M and L>"),
        ("Works <five degrees and below", "Works <five degrees and below"),
        ("{Note: batteries included} Pen", "{Note: batteries included} Pen"),
        ("ul.indent {list-style: inside disc;}h5 {a:b} Pen", "Pen"),
        ("Pens /* x */ td.a, li:hover {list-style: inside disc;} Ink", "Pens Ink"),
        ("small holes. .caption {font-family: V;}img.withlink {border:1px}A bit", "small holes. A bit"),
        ("@media screen and (max-width: 3px) { .a { color: red } p {x:y} } Pen", "Pen"),
        ("{color: red; font-size: 3px} Pen", "Pen"),
        ("Pen \ud83d and\x00 ink\u200b \U0001f58a", "Pen and ink \U0001f58a"),
        ("<!DOCTYPE html><body class='x'>Pen</body>", "Pen"),
        ("['Isn't it?', 'It is.\\n\"Yes\".', '']", 'Isn\'t it? It is. "Yes".'),
        ("[{[]: 1}]", "[{[]: 1}]"),
        ("[" * 3000 + "]" * 3000, "[" * 3000 + "]" * 3000),
        ("[2 Rolls] Tape", "[2 Rolls] Tape"),
    ],
)
def test_mark_up_goes_and_text_stays(raw, clean):
    assert clean_text(raw) == clean


@given(st.lists(st.text(), max_size=4))
def test_a_printed_list_is_read_back(parts):
    assert read_literal_list(repr(parts)) == parts
    assert clean_text(repr(parts)) == clean_text(parts)


@given(st.text("abc <>&;{}:.#/*[]'\"!-\n\\", max_size=80) | st.text(max_size=40))
def test_any_text_gives_one_line_that_can_be_encoded(raw):
    clean = clean_text(raw)
    assert clean == " ".join(clean.split())
    clean.encode("utf-8")


@given(st.lists(st.sampled_from(["pen", "8.5", "x", "11,", "3", "<", "4", "R&D", "(new)", "{a}", "don't"])))
def test_plain_words_stay(words):
    assert clean_text(" ".join(words)) == " ".join(words)


@pytest.mark.parametrize(
    "unit",
    [
        ".a ",
        "a:",
        "<",
        "<!--",
        "<script",
        "<script>",
        "<a ",
        "<a b=",
        "{:",
        "{}",
        ".a{x:y}",
        "a{",
        "/*",
        "@a ",
        "&amp;",
    ],
)
def test_hostile_text_takes_linear_time(unit):
    for text in ("{" + unit * 20_000, unit * 20_000 + "{x:y}"):
        start = time.perf_counter()
        clean_text(text)
        assert time.perf_counter() - start < 2
