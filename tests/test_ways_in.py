"""Every way in keeps the same of an item, and item weights are found in every form of a prompt."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.conftest import TEXTS, make_tokenizer
from tsporec.catalog.catalog import ItemCatalog
from tsporec.cli.app import app
from tsporec.collators.in_model import BatchSelector, span_ids
from tsporec.collators.selector import SelectorCollator
from tsporec.collators.spans import spans_of_strings
from tsporec.data.cleaning import clean_text
from tsporec.data.items import Item, item_text, tokenize_items
from tsporec.data.readers import read_items
from tsporec.scorers.patterns import Keeping
from tsporec.selector.compress_text import compress_ids
from tsporec.selector.model import TokenSelector
from tsporec.tokenizer import wrap_tokenizer

KINDS = ("bpe", "wordpiece", "unigram", "wordlevel")
GRANULARITIES = ("token", "word")
RAW = ["AT&amp;T 210 Corded Phone", *TEXTS]
TOKENIZERS = {kind: make_tokenizer(kind, [clean_text(raw) for raw in RAW]) for kind in KINDS}

words = st.sampled_from([*" ".join(RAW).split(), "<s>", "日本語", "naïve", "🙂", "5&quot;", "don't", "$3.99", "(12)"])
raw_texts = st.one_of(st.lists(words, max_size=12).map(" ".join), st.text(max_size=20))


def known_selector(tokenizer, items, fields=("title",), ids=True):
    """The bundled selector with random item weights, as learning leaves them."""
    corpus = tokenize_items(items, tokenizer, fields)
    selector = TokenSelector.from_pretrained().for_tokenizer(tokenizer).with_item_weights(corpus)
    torch.nn.init.normal_(selector.item_weights.weight, std=3.0, generator=torch.Generator().manual_seed(0))
    return selector


SELECTORS = {
    kind: known_selector(TOKENIZERS[kind], [Item.from_raw(n, {"title": raw}) for n, raw in enumerate(RAW)])
    for kind in KINDS
}


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("kind", KINDS)
@given(raws=st.lists(raw_texts, min_size=1, max_size=5), k=st.integers(1, 12))
@settings(max_examples=12)
def test_every_way_in_keeps_the_same(tmp_path_factory, kind, granularity, raws, k):
    tokenizer, selector = TOKENIZERS[kind], SELECTORS[kind]
    raws = [*raws, RAW[0]]
    names = [f"new {n}" for n in range(len(raws))]  # ids that find no item: a wrapped tokenizer has none
    items = [Item.from_raw(name, {"title": raw}) for name, raw in zip(names, raws, strict=True)]
    texts = [item_text(item) for item in items]
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"]
    features = [{"input_ids": ids, "item_spans": [(0, len(ids))]} for ids in rows]
    cut = SelectorCollator(list, selector, k, granularity=granularity, tokenizer=tokenizer)(features)
    kept = [feature["input_ids"] for feature in cut]
    marked = [sum(i in (0, 1, 2) for i in ids) for ids in rows]
    assert all(len(ids) <= max(k, special) for ids, special in zip(kept, marked, strict=True))
    wrapped = wrap_tokenizer(tokenizer, selector, k, granularity=granularity)
    assert wrapped(texts, add_special_tokens=False)["input_ids"] == kept
    assert selector.compress_ids(texts, k, tokenizer, granularity) == kept
    assert selector.compress_ids(items, k, tokenizer, granularity) == kept
    given_rows = [{"id": name, "title": raw} for name, raw in zip(names, raws, strict=True)]
    catalog = ItemCatalog.build(
        given_rows, tokenizer=tokenizer, selector=selector, budget=k, granularity=granularity,
        path=tmp_path_factory.mktemp("catalog"),
    )  # fmt: skip
    assert catalog.lookup(names).to_lists() == kept
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    mask = torch.tensor([[n < len(row) for n in range(width)] for row in rows])
    spans = span_ids([feature["item_spans"] for feature in features], mask)
    batch = BatchSelector(selector, k, granularity=granularity)(ids, mask, spans)
    assert [row[m.bool()].tolist() for row, m in zip(batch["input_ids"], batch["attention_mask"], strict=True)] == kept
    if kind == "bpe" and granularity == "word":
        shown = selector.compress_text(items, k, tokenizer)
        decoded = [tokenizer.decode(one, clean_up_tokenization_spaces=False) for one in kept]
        pairs = [("".join(a.split()), "".join(b.split())) for a, b in zip(shown, decoded, strict=True)]
        assert all(a == b for a, b in pairs if "\ufffd" not in b)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_command_line_keeps_the_same(tmp_path, kind, granularity):
    tokenizer, selector = TOKENIZERS[kind], SELECTORS[kind]
    tokenizer.save_pretrained(tmp_path / "model")
    selector.save_pretrained(tmp_path / "selector")
    (tmp_path / "items.jsonl").write_text("".join(json.dumps({"id": n, "title": t}) + "\n" for n, t in enumerate(RAW)))
    arguments = {"items": "items.jsonl", "model": "model", "selector": "selector", "output": "catalog"}
    command = [part for name, path in arguments.items() for part in (f"--{name}", str(tmp_path / path))]
    done = CliRunner().invoke(app, ["compress", *command, "--budget", "6", "--granularity", granularity])
    assert done.exit_code == 0, done.output
    assert f"{len(RAW)} of them are items that the selector has learned weights for" in done.output
    kept = selector.compress_ids(RAW, 6, tokenizer, granularity)
    assert ItemCatalog.open(tmp_path / "catalog").lookup(list(range(len(RAW)))).to_lists() == kept


@pytest.mark.parametrize("kind", KINDS)
def test_the_plain_calls_of_the_pages_keep_the_same(tmp_path, kind):
    """Nobody names a selector's word frequencies: they are those of the catalogue, counted by whoever sees it."""
    tokenizer, path = TOKENIZERS[kind], tmp_path / "items.jsonl"
    tokenizer.save_pretrained(tmp_path / "model")
    rows = [{"item_id": f"B{n}", "title": raw, "description": RAW[n - 1]} for n, raw in enumerate(RAW)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    items = read_items(path)
    texts, ids = [item_text(item) for item in items], [item.id for item in items]
    plain = TokenSelector.from_pretrained()
    selector = TokenSelector.from_pretrained().for_tokenizer(tokenizer).fit(tokenize_items(items, tokenizer))
    for corpus in (items, texts):
        assert TokenSelector.from_pretrained().for_tokenizer(tokenizer).fit(corpus).fingerprint == selector.fingerprint
    kept = selector.compress_ids(items, 5, tokenizer, "token")
    assert kept != plain.compress_ids(items, 5, tokenizer, "token")
    encoded = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    collator = SelectorCollator(list, selector, budget=5, spans="item_spans", tokenizer=tokenizer)
    cut = collator([{"input_ids": row, "item_spans": [(0, len(row))]} for row in encoded])
    assert [feature["input_ids"] for feature in cut] == kept
    assert wrap_tokenizer(tokenizer, selector, budget=5)(texts, add_special_tokens=False)["input_ids"] == kept
    for number, given_items in enumerate((items, path)):
        catalog = ItemCatalog.build(given_items, tokenizer=tokenizer, budget=5, path=tmp_path / str(number))
        assert catalog.lookup(ids).to_lists() == kept
        assert catalog.describe()["frequencies"] == catalog.selector.frequencies == "counted from 7 texts"
    common = ["--items", str(path), "--model", str(tmp_path / "model"), "--budget", "5"]
    for more in ([], ["--keep", "numbers"]):
        done = CliRunner().invoke(app, ["compress", *common, "--output", str(tmp_path / f"cli{len(more)}"), *more])
        assert done.exit_code == 0, done.output
        assert "word frequencies: counted from 7 texts" in done.output
    assert ItemCatalog.open(tmp_path / "cli0").lookup(ids).to_lists() == kept
    numbers = Keeping(selector, tokenizer, ["numbers"])
    assert ItemCatalog.open(tmp_path / "cli2").lookup(ids).to_lists() == compress_ids(
        numbers, tokenizer, items, 5, "token"
    )
    shown = CliRunner().invoke(app, ["show", *common, "--scorer", "selector", "--count", "7"])
    lines = [line.removeprefix("→ ") for line in shown.output.splitlines() if line.startswith("→")]
    short = selector.compress_text(items, 5, tokenizer)
    if kind != "wordpiece":  # its tokens spell no capitals, and show prints what tokens spell
        assert ["".join(line.split()) for line in lines] == ["".join(text.split()) for text in short]
    assert "word frequencies of the selector: counted from 7 texts" in shown.output
    done = CliRunner().invoke(
        app, ["compress", *common, "--output", str(tmp_path / "shipped"), "--selector", "tsporec/base"]
    )
    assert "word frequencies: as shipped" in done.output
    assert ItemCatalog.open(tmp_path / "shipped").lookup(ids).to_lists() == plain.compress_ids(
        items, 5, tokenizer, "token"
    )


@pytest.mark.parametrize("make", [lambda t: SelectorCollator(list, tokenizer=t), wrap_tokenizer])
def test_who_sees_no_catalogue_says_so(make):
    with pytest.warns(UserWarning, match="words count as in the texts of tsporec/base, not as in your") as told:
        make(TOKENIZERS["bpe"])
    assert told[0].filename == __file__


FORMS = {
    "plain": "{0} {1}",
    "title: description": "{0}: {1}",
    "quotes": '"{0} {1}"',
    "list number": "1. {0} {1}",
    "line ends": "Title: {0}\nDescription: {1}\n",
    "leading space": "  {0} {1}",
    "cut at its end": "{0} {1}",
}


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_a_trained_selector_keeps_other_tokens_in_every_form(kind, granularity):
    tokenizer, rng = TOKENIZERS[kind], np.random.default_rng(0)
    vocabulary = sorted({word for text in TEXTS for word in text.split()})
    pairs = [(" ".join(rng.choice(vocabulary, 8)), " ".join(rng.choice(vocabulary, 60))) for _ in range(60)]
    items = [Item(str(n), {"title": title, "description": text}) for n, (title, text) in enumerate(pairs)]
    known = known_selector(tokenizer, items, ("title", "description"))
    for name, form in FORMS.items():
        features = []
        for title, text in pairs:
            item = form.format(title, text)
            item = item[: len(item) * 2 // 3] if name.startswith("cut") else item
            prompt = f"The user bought:\n{item}\nand then"
            encoded = tokenizer(prompt, return_offsets_mapping=True, add_special_tokens=False)
            spans = spans_of_strings(prompt, [item], encoded["offset_mapping"])
            features.append({"input_ids": encoded["input_ids"], "item_spans": spans})
        trained, untrained = (
            SelectorCollator(list, one, 16, tokenizer=tokenizer, granularity=granularity)(features)
            for one in (known, known.without_item_weights())
        )
        other = np.mean([a["input_ids"] != b["input_ids"] for a, b in zip(trained, untrained, strict=True)])
        assert other >= 0.95, name
    assert known.item_weights.known == known.item_weights.seen == len(FORMS) * len(pairs)


def test_item_ids_beside_spans_find_what_words_cannot(tokenizer):
    items = [Item(str(n), {"title": title, "description": TEXTS[n]}) for n, title in enumerate(["Heat", "Up", "Gel"])]
    known = known_selector(tokenizer, items, ("title", "description"))
    encoded = [tokenizer(item.fields["title"], add_special_tokens=False)["input_ids"] for item in items]
    ids = [i for row in encoded for i in row]
    ends = np.cumsum([0, *map(len, encoded)]).tolist()
    spans = list(pairwise(ends))
    feature = {"input_ids": ids, "item_spans": spans}
    named = {**feature, "item_ids": ["0", "1", "2"]}
    collators = [SelectorCollator(list, known, 1, tokenizer=tokenizer, item_ids=name) for name in (None, "item_ids")]
    assert collators[0]([feature])[0].keys() == {"input_ids"}
    assert known.item_weights.known == 0
    (cut,) = collators[1]([named])
    assert known.item_weights.known == 3
    assert cut == {"input_ids": cut["input_ids"]}
    with pytest.raises(ValueError, match="feature 0: item_ids has 2 ids for 3 spans; expected one id a span"):
        collators[1]([{**feature, "item_ids": ["0", "1"]}])
    with pytest.raises(ValueError, match="feature 0: there is no column 'item_ids' of item ids"):
        collators[1]([feature])


def test_the_special_tokens_that_a_tokenizer_adds_do_not_count():
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_tokenizer("bpe")
    plain = known_selector(tokenizer, [Item(str(n), {"title": text}) for n, text in enumerate(TEXTS)])
    kept = plain.compress_ids(TEXTS, 5, tokenizer, "token")
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    wrapped = wrap_tokenizer(tokenizer, plain, 5)
    assert wrapped(TEXTS)["input_ids"] == [[1, *ids, 2] for ids in kept]
    assert wrapped(TEXTS[0], TEXTS[1])["input_ids"] == [1, *kept[0], 2, *kept[1], 2]
