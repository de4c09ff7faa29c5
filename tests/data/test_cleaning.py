from __future__ import annotations

import json
import random
import re
import signal
from collections import deque
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsporec.data.cleaning import clean_text
from tsporec.data.stored_lists import read_printed_list


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
        ("<![CDATA[Gel <b>pen</b>]]> blue", "Gel pen blue"),
        ("<![CDATA[Gel pen", "Gel pen"),
        ("Pen <!--> blue <!---> ink <!-- x --!> cap", "Pen blue ink cap"),
        ("Pen <SCRIPT>x</Script foo> ink <style/>a{", "Pen ink"),
        ("<<b>b> <p <p> pen <!-- <!-- --> ink", "< b> <p pen ink"),
        ("<b\x00>pen <scr\u200bipt>alert(1)</script>ink <b{color:red}>cap <i<b>>clip", "pen ink >cap i >clip"),
        ("Pen &#x1F58A; &#0; &bogus; &amp;nbsp;ink", "Pen \U0001f58a \ufffd &bogus; ink"),
    ],
)
def test_mark_up_goes_and_text_stays(raw, clean):
    assert clean_text(raw) == clean


@given(st.text("abc <>&;{}:.#/*[]'\"!-\n\\", max_size=80) | st.text(max_size=40))
def test_any_text_gives_one_line_that_can_be_encoded(raw):
    clean = clean_text(raw)
    assert clean == " ".join(clean.split())
    clean.encode("utf-8")


PARTS = [
    "<",
    ">",
    "</",
    "b",
    "script",
    "img",
    " ",
    "\x00",
    "\u200b",
    "{color:red}",
    ".a{b:c}",
    "<i>",
    "<!--",
    "-->",
    "&lt;",
]


@given(st.lists(st.sampled_from(PARTS), max_size=16).map("".join))
@settings(max_examples=500)
def test_what_is_removed_leaves_no_new_tag(raw):
    assert not re.search(r"</?(b|i|script|img)([\s/][^<>]*)?>", clean_text(raw))


@given(st.lists(st.sampled_from(["pen", "8.5", "x", "11,", "3", "<", "4", "R&D", "(new)", "{a}", "don't"])))
def test_plain_words_stay(words):
    assert clean_text(" ".join(words)) == " ".join(words)


FRAGMENTS = [
    ".a ", "a:", "<", "<!--", "<!", "<script", "<script>", "</script ", "<a ", "<a b=", "{", "{:", "{}", "}", ".a{x:y}",
    "a{", "/*", "/* ", "* ", "*/", "@a ", "@media x ", "p, ", "p p ", ":b ", "[a] ", "[", "['", "', '", "'\\", '"',
    "{'a':", "(", ")]", ", ", ":", ";", "&amp;", "&#9", "&#", "9", " ", "\n", "!", "é", "\ud83d", "\\UFFFFFFFF", "\\x",
    "<![CDATA[", "]]>", "<![if x]>", "-->", "--!>", "<!-", "<style", "</style", "</script x", "&lt;", "&&", "&a", "<b/",
    "<<b>", "array([", "np.str_(", "set(", "dtype=", "('", "{'", "nan ", "\t\t", "\r", "text-a", "@a(", ":hover ", "a=",
    "'\\\\", "b'",
]  # fmt: skip


def hostile_texts():
    """Mark-up that makes patterns go back and forth: fragments and mixtures of them, repeated to 20,000 characters."""
    rng = random.Random(0)
    units = FRAGMENTS + ["".join(rng.choices(FRAGMENTS, k=rng.randint(2, 6))) for _ in range(40)]
    for unit in units:
        body = unit * (20_000 // len(unit))
        yield from (body, "{" + body, body + "{x:y}", "[" + body + "]", "['" + body + "']", body + "!{a:b}")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer of processor time on this system")
def test_hostile_mark_up_takes_linear_time():
    """A text takes 20 ms of processor time; a quadratic pattern takes many seconds, an exponential one years."""

    def stop(*_):
        raise AssertionError("cleaning takes more than linear time")

    before = signal.signal(signal.SIGVTALRM, stop)
    try:
        for text in hostile_texts():
            signal.setitimer(signal.ITIMER_VIRTUAL, 3)  # of this process alone, however busy the machine is
            clean_text(text)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=40).map("".join))
@settings(max_examples=500)
def test_no_mark_up_is_an_error(text):
    assert clean_text(text) == " ".join(clean_text(text).split())


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        (np.array(["Writes well.", "Fine tip."], dtype=object), "Writes well. Fine tip."),
        (str(np.array(["Writes well.", "Fine tip."], dtype=object)), "Writes well. Fine tip."),
        (str(np.array([["a", None], ["b", float("nan")]], dtype=object)), "a b"),
        ("['Writes well.'\n 'Fine tip.']", "Writes well. Fine tip."),
        (np.array([], dtype=object), ""),
        (np.float32("nan"), ""),
        (np.datetime64("NaT"), ""),
        (np.float64(3.5), "3.5"),
        (b"blue pen", "blue pen"),
        (str([b"blue", "caf\u00e9".encode()]), "blue café"),
        (r"['caf\xe9 \101\d \u00e9']", r"café A\d é"),
        (json.dumps(["Gel pen \U0001f58a", "blue"]), "Gel pen \U0001f58a blue"),
        ('["One.", null]', "One."),
        ('["One.", null, "Two."]', "One. Two."),
        ("['One.', nan, 'Two.']", "One. Two."),
        ("[nan]", ""),
        ("[NaN, NaN]", ""),
        ('["A4\\/A5"]', "A4/A5"),
        ("['Ink', 'Caps'] and ['Refills']", "['Ink', 'Caps'] and ['Refills']"),
        ("[{'a': 'x', 'b': ['y', None]}, ('z',), {}]", "x y z"),
        ("['a' ... 'b']", "a' ... 'b"),
        ("[1 2 3]", "[1 2 3]"),
        ("[007]", "[007]"),
        (r"['\U0001f58a \UFFFFFFFF']", r"🖊 \UFFFFFFFF"),
        ("[1, 2.5, True]", "1 2.5 True"),
        ("[2 Rolls, 3 Pens]", "[2 Rolls, 3 Pens]"),
        ("&#" + "9" * 5000 + "; pen", "\ufffd pen"),
        ("[" * 60 + "'x'" + "]" * 60, "[" * 60 + "'x'" + "]" * 60),
        ([["a", ["b"]], {"k": ["c"]}, {"d"}], "a b c d"),
        ("('Ink', 'Caps')", "Ink Caps"),
        ("{'Ink', 'Caps'}", "Ink Caps"),
        ("{'a': 'x', 'b': ['y', None]}", "x y"),
        ('{"a": "x", "b": null}', "x"),
        ("[np.str_('a'), np.str_('b'), np.float64(nan)]", "a b"),
        ("array(['a', 'b'], dtype=object)", "a b"),
        ("[array(['a', 'b'], dtype='<U1'), array([], dtype=object), {'c'}]", "a b c"),
        ("[Timestamp('2020-01-01 00:00:00'), Decimal('1.5')]", "2020-01-01 00:00:00 1.5"),
        ('("Best pen")', '("Best pen")'),
        ("('Best pen, blue')", "('Best pen, blue')"),
        ("(1, 2)", "(1, 2)"),
        ("{a, b}", "{a, b}"),
        ("nan", ""),
        (" <NA> ", ""),
        (["NaN", "Pen"], "Pen"),
        (np.str_("Pen"), "Pen"),
        (np.array([["a", "b"], ["c", None]], dtype=object), "a b c"),
        (np.ma.array(["a", "b"], mask=[False, True]), "a"),
        (bytearray(b"pen"), "pen"),
        (memoryview(b"pen"), "pen"),
        (Decimal("1.50"), "1.50"),
        (Decimal("NaN"), ""),
        (Decimal("sNaN"), ""),
        (deque(["a", "b"]), "a b"),
        ({"x": "a", "y": "b"}.values(), "a b"),
        (iter(["a", None, "b"]), "a b"),
    ],
)
def test_lists_of_every_kind_are_read(raw, clean):
    assert clean_text(raw) == clean


def test_pandas_values():
    pandas = pytest.importorskip("pandas")
    for value in (pandas.NA, pandas.NaT, pandas.Series([None, float("nan")]), [pandas.NA]):
        assert clean_text(value) == ""
    assert clean_text(pandas.Series(["a", "b"])) == "a b"


def test_polars_and_arrow_values():
    class Series:  # as polars has it
        def to_list(self):
            return ["a", None, ["b"]]

    arrow = pytest.importorskip("pyarrow")
    for value in (
        Series(),
        arrow.array(["a", None, "b"]),
        arrow.scalar(["a", "b"]),
        arrow.chunked_array([["a"], ["b"]]),
    ):
        assert clean_text(value) == "a b"
    assert clean_text([arrow.scalar(None), arrow.scalar(b"pen")]) == "pen"


def test_what_is_nested_too_deep_is_named():
    value = "x"
    for _ in range(60):
        value = [value]
    with pytest.raises(ValueError, match="nested more than 50 deep"):
        clean_text(value)
    deep = json.dumps(value)
    assert clean_text(deep) == deep  # a text, since no list of texts is as deep


def test_a_value_that_cannot_be_compared_is_spelled():
    class Odd:
        def __ne__(self, other):
            raise TypeError

        def __str__(self):
            return "odd <b>value</b>"

        __hash__ = None

    assert clean_text([Odd(), "x"]) == "odd value x"


plain = st.text(max_size=6) | st.integers() | st.none() | st.booleans()
literals = st.recursive(plain, lambda inner: st.lists(inner, max_size=3), max_leaves=9)


@given(st.lists(literals, max_size=4))
def test_printed_lists_and_json_are_read_back(parts):
    assert read_printed_list(repr(parts)) == parts
    assert read_printed_list(json.dumps(parts)) == parts


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=8), min_size=1, max_size=4))
def test_printed_arrays_are_read_back(parts):
    with np.printoptions(threshold=99):
        assert read_printed_list(str(np.array(parts, dtype=object))) == parts
