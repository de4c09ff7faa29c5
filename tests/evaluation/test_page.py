"""The page: what it shows is what the library keeps, and nothing in a text acts. In a browser where there is one."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import numpy as np
import pytest

from tests.conftest import TEXTS, make_tokenizer
from tests.evaluation.browser import CHROMIUM, Browser
from tsporec.evaluation.page import make_page
from tsporec.evaluation.picture import draw_text
from tsporec.evaluation.report import kept_runs
from tsporec.scorers import make_scorer
from tsporec.selection import Selection, select
from tsporec.tokens.pieces import Pieces
from tsporec.tokens.ragged import RaggedTokens

HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> <b>bold</b> 😀 &lt;"
)
NAMES = ["pens", "ink", "<i>stapler</i>", "tape", "labels", "café", "hostile"]


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer("bpe", [*TEXTS, HOSTILE])


@pytest.fixture(scope="module")
def tokens(tokenizer):
    return RaggedTokens.from_lists(tokenizer([*TEXTS, HOSTILE], add_special_tokens=False)["input_ids"])


@pytest.fixture(scope="module")
def scorers(tokens):
    return {"head": make_scorer("head"), "tfidf": make_scorer("tfidf").fit(tokens)}


@pytest.fixture(scope="module")
def page(tokenizer, tokens, scorers):
    return make_page(NAMES, tokens, scorers, tokenizer, 5)


def data_of(page: str):
    return json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[0])


@pytest.mark.parametrize("granularity", ["token", "word"])
def test_the_page_holds_what_the_library_keeps(tokenizer, tokens, scorers, granularity):
    data = data_of(make_page(NAMES, tokens, scorers, tokenizer, 5, granularity))
    assert data["budgets"] == sorted({*data["budgets"], 5, int(tokens.lengths.max())})
    for place, budget in enumerate(data["budgets"]):
        for name, scorer in scorers.items():
            selection = select(scorer, tokens, budget, granularity=granularity, tokenizer=tokenizer)
            for i, item in enumerate(data["items"]):
                assert [item["text"], item["kept"][name][place]] == [*kept_runs(tokens, selection, tokenizer, i)]


def test_texts_are_read_once_and_words_are_kept_by_default(tokenizer, tokens, scorers, page, monkeypatch):
    assert page == make_page(NAMES, tokens, scorers, tokenizer, 5, "word")
    reads, text = [], Pieces.text
    monkeypatch.setattr(Pieces, "text", lambda self, ids: reads.append(ids) or text(self, ids))
    data = data_of(make_page(NAMES, tokens, scorers, tokenizer, [7, 5]))
    assert len(reads) <= 3 * len(NAMES), "for its text, its words, and its characters where no word fits"
    assert data["budget"] == 7
    assert {5, 7} <= {*data["budgets"]}


def test_markup_is_escaped_and_the_policy_names_the_code(page):
    assert data_of(page)["items"][-1]["text"] == HOSTILE
    assert page.count("</script>") == 2
    assert page.count("owned") == 2, "in the data alone"
    for part in ("style", "script"):
        (code,) = re.findall(rf"<{part}>(.*?)</{part}>", page, re.DOTALL)
        found = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert f"{part}-src 'sha256-{found}'" in page
    assert "default-src 'none'" in page
    assert "http:" not in page
    assert "https:" not in page


def test_a_picture_has_every_word_once_and_no_markup(tokenizer, tokens, scorers):
    import xml.etree.ElementTree as ElementTree

    selections = {name: select(scorer, tokens, 5) for name, scorer in scorers.items()}
    for i in range(len(tokens)):
        root = ElementTree.fromstring(draw_text(tokens, selections, tokenizer, i))
        texts = [one for one in root if one.tag.endswith("text")]
        assert [one.text for one in texts if one.get("class") == "name"] == ["whole text", "head", "tfidf"]
        marks = [one for one in root if one.get("class") == "mark"]
        assert len(marks) >= len(kept_runs(tokens, selections["tfidf"], tokenizer, i)[1]) > 0
        end = next(place for place, one in enumerate(texts) if one.text == "head")
        assert "".join("".join(one.text for one in texts[1:end]).split()) == "".join(
            kept_runs(tokens, selections["head"], tokenizer, i)[0].split()
        )
        assert all(float(one.get("x")) + float(one.get("textLength")) <= float(root.get("width")) for one in texts)
    none = Selection(np.empty(0, dtype=np.int64), np.zeros(len(tokens) + 1, dtype=np.int32))
    assert 'class="mark"' not in draw_text(tokens, {"none": none}, tokenizer, 0)


def test_a_long_name_stands_beside_the_text(tokenizer, tokens, scorers):
    kept = select(scorers["head"], tokens, 5)
    for name, column in (("head", 12), ("self_information", 18)):
        picture = draw_text(tokens, {name: kept}, tokenizer, 0)
        starts = re.findall(r'class="(?:kept|left)" x="([\d.]+)"', picture)
        assert min(map(float, starts)) == pytest.approx((1 + column) * 7.8)


# -- in a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory, page):
    if CHROMIUM is None:
        pytest.skip("no Chromium; on Debian: apt-get install chromium")
    folder = tmp_path_factory.mktemp("page")
    (folder / "page.html").write_text(page, encoding="utf-8")
    found = Browser(folder / "profile")
    found.open(folder / "page.html")
    yield found
    found.close()


MARKS = """[...document.querySelectorAll("section")].map(section => [...section.querySelectorAll("article")].map(
    article => [...article.querySelectorAll("mark")].map(mark => mark.textContent)))"""
VISIBLE = '[...document.querySelectorAll("section:not([hidden]) h2")].map(h => h.firstChild.textContent.trim())'
FOCUS = 'document.activeElement.querySelector("h2")?.firstChild.textContent.trim()'


def test_a_reader_sees_every_budget(browser, page):
    data = data_of(page)

    def expected(place):
        return [
            [["".join(list(item["text"])[a:b]) for a, b in kept[place]] for kept in item["kept"].values()]
            for item in data["items"]
        ]

    start = data["budgets"].index(5)
    assert browser.run("told.textContent") == "5 tokens"
    assert browser.run(MARKS) == expected(start)
    for key, place in (("ArrowRight", start + 1), ("ArrowLeft", start), ("ArrowLeft", start - 1)):
        browser.press(key)
        assert browser.run("told.textContent") == f"{data['budgets'][place]} tokens"
        assert browser.run(MARKS) == expected(place)
    browser.run("budget.focus()")
    browser.press("ArrowRight")
    assert browser.run("told.textContent") == "5 tokens", "one step where the slider has the focus, too"
    browser.run("document.activeElement.blur()")


def test_search_and_keys(browser):
    assert browser.run(VISIBLE) == NAMES
    browser.press("/")
    for key in "ink s":
        browser.press(key)
    assert browser.run("search.value") == "ink s"
    assert browser.run(VISIBLE) == ["pens", "ink"], "every word, in the name or the text"
    assert browser.run("found.textContent") == "2 of 7 items"
    browser.press("Escape")
    browser.press("j")
    assert browser.run(FOCUS) == "pens"
    browser.press("j")
    browser.press("j")
    assert browser.run(FOCUS) == "ink"
    browser.press("k")
    assert browser.run(FOCUS) == "pens"
    browser.press("s")
    assert browser.run('document.querySelector("article p").textContent') == " ".join(browser.run(MARKS)[0][0])
    browser.press("s")
    assert browser.run('document.querySelector("article p").textContent') == TEXTS[0]
    browser.run('search.value = ""; filter()')


def test_texts_do_nothing_and_nothing_is_loaded(browser):
    assert browser.run("document.title") == "Kept tokens"
    assert browser.run('document.querySelectorAll("img, i, b").length') == 0
    assert browser.run('[...document.querySelectorAll("section")].at(-1).querySelector("p").textContent') == HOSTILE
    browser.run('document.body.insertAdjacentHTML("beforeend", "<img src=http://127.0.0.1:9/x onerror=alert(1)>")')
    asked = [told["request"]["url"] for told in browser.told("Network.requestWillBeSent")]
    assert len(asked) - len([url for url in asked if url.startswith("http:")]) == 1, "the page alone"
    assert not browser.told("Runtime.exceptionThrown")
    assert browser.told("Log.entryAdded"), "the policy refused the picture that this test put in"


def test_dark_mode(browser):
    colours = 'getComputedStyle(document.body).backgroundColor + getComputedStyle(document.querySelector("mark")).color'
    seen = set()
    for scheme in ("light", "dark"):
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        seen.add(browser.run(colours))
    assert len(seen) == 2
