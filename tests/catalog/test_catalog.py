"""ItemCatalog: what is built is what selection keeps, whatever the source, the workers, and the ids."""

from __future__ import annotations

import gzip
import json
import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import TEXTS, make_tokenizer
from tsporec.budget import Budget
from tsporec.catalog.catalog import ItemCatalog
from tsporec.catalog.compress import Compressor, make_compressor, map_chunks
from tsporec.catalog.records import Recipe, decode_records
from tsporec.catalog.sources import Chunk
from tsporec.catalog.store import open_store
from tsporec.data.items import Item, item_text, tokenize_items
from tsporec.scorers import BaseScorer
from tsporec.scorers.patterns import PATTERNS, Keeping
from tsporec.selection import select
from tsporec.selector.model import TokenSelector
from tsporec.tokens.pieces import special_token_ids
from tsporec.tokens.ragged import RaggedTokens


class TiedScorer(BaseScorer):
    """Scores with many ties, a NaN and a -0."""

    name = "tied"

    def __init__(self, modulus: int = 5) -> None:
        self.modulus = modulus

    def config(self):
        return {"modulus": self.modulus}

    def score(self, tokens):
        scores = (tokens.ids * 7919 % self.modulus).astype(np.float32)
        scores[tokens.ids % 11 == 0] = np.finfo(np.float32).min
        scores[tokens.ids % 13 == 0] = -0.0
        return scores


def make_items(count: int) -> list[Item]:
    return [Item(f"item-{n}", {"title": f"{TEXTS[n % 6]} no {n}"}) for n in range(count)]


@pytest.fixture
def build(tokenizer, tmp_path):
    def build(items, path="store", **options):
        options = {"tokenizer": tokenizer, "selector": TiedScorer(), "budget": Budget(tokens=8), **options}
        return ItemCatalog.build(items, path=tmp_path / path, **options)

    return build


def expected(items, tokenizer, budget, scorer=None) -> RaggedTokens:
    tokens = tokenize_items(items, tokenizer)
    return select(scorer or TiedScorer(), tokens, budget).apply(tokens)


def same(a: RaggedTokens, b: RaggedTokens) -> bool:
    return a.to_lists() == b.to_lists()


def test_the_report_counts_what_patterns_name_and_keep(build, tokenizer):
    items, budget = make_items(60), Budget(tokens=2)
    scorer, tokens = Keeping(TiedScorer(), tokenizer, ["numbers"]), tokenize_items(items, tokenizer)
    marks = scorer.marks(tokens)
    found = (marks.sum(), marks[select(scorer, tokens, budget).kept].sum())
    assert 0 < found[1] < found[0]
    for name, options in (("scorer", {"selector": scorer}), ("argument", {"keep": ["numbers"]})):
        report = build(items, name, budget=budget, chunk_items=16, **options).report
        assert (report.marked, report.survived) == found
    assert build(items, "without").report.marked == 0


def test_what_is_kept_first_is_remembered(build, tokenizer, monkeypatch):
    items, new = make_items(60), Item("new", {"title": f"{TEXTS[0]} no 61"})
    scorer = Keeping(fitted(items, tokenizer), tokenizer, ["numbers"])
    calls, marks = [], Keeping.marks
    monkeypatch.setattr(Keeping, "marks", lambda *given: calls.append(0) or marks(*given))
    for name, selector in (("counted", None), ("given", scorer.scorer)):
        calls.clear()
        catalog = build(items, name, selector=selector, budget=6, keep=["numbers"], chunk_items=20)
        assert len(calls) == 3  # once a chunk
        assert same(catalog.lookup([i.id for i in items]), expected(items, tokenizer, 6, scorer))
        assert same(catalog.lookup([i.id for i in items], 2), expected(items, tokenizer, 2, scorer))
        catalog = catalog.update([new], tokenizer=tokenizer, selector=selector)
        assert same(catalog.lookup(["new"]), expected([new], tokenizer, 6, scorer))
        assert catalog.report.survived == catalog.report.marked > 0
        assert catalog.recipe.keep == (PATTERNS["numbers"],)
        monkeypatch.setitem(PATTERNS, "numbers", "other")  # another version may read the name otherwise
        assert catalog.update([new], tokenizer=tokenizer, selector=selector).report.unchanged == 1
        monkeypatch.undo()
        monkeypatch.setattr(Keeping, "marks", lambda *given: calls.append(0) or marks(*given))
        ItemCatalog.open(catalog.path, tokenizer=tokenizer, selector=scorer.scorer)
    with pytest.raises(ValueError, match=r"keep=… \(--keep\) takes a list of patterns.*found 'numbers'"):
        build(items, "bad", keep="numbers")


def test_the_store_holds_what_selection_keeps(build, tokenizer):
    items = make_items(500)
    catalog = build(items, chunk_items=32, commit_items=100)
    ids = [item.id for item in items]
    order = np.random.default_rng(0).permutation(500)
    want = expected(items, tokenizer, Budget(tokens=8))
    assert same(catalog.lookup(ids), want)
    assert same(catalog.lookup([ids[i] for i in order]), want.take(order))
    assert list(catalog) == sorted(ids)
    assert len(catalog) == 500
    assert catalog.report.items == 500
    assert catalog.report.tokens_after == want.num_tokens
    assert (catalog["item-3"] == want[3]).all()


@pytest.mark.parametrize("k", [1, 2, 5, 8])
def test_a_smaller_budget_is_cut_from_the_ranks_ties_included(build, tokenizer, k):
    items = make_items(200)
    catalog = build(items)
    assert same(catalog.lookup([i.id for i in items], k=k), expected(items, tokenizer, Budget(tokens=k)))


def test_a_ratio_keeps_its_share(build, tokenizer):
    items = make_items(50)
    catalog = build(items, budget=Budget(keep_ratio=0.3))
    assert same(catalog.lookup([i.id for i in items]), expected(items, tokenizer, Budget(keep_ratio=0.3)))
    assert max(catalog.lookup([i.id for i in items], k=2).lengths) == 2


def test_padded_batch_and_missing_ids(build):
    catalog = build(make_items(20))
    ids, mask = catalog.lookup(["item-1", "nobody", "item-2"], missing="empty").to_padded(0, "left")
    assert ids.shape == mask.shape
    assert mask.sum(axis=1).tolist()[1] == 0
    with pytest.raises(KeyError, match=r"1 of 2 item ids are not in the catalogue.*'nobody'"):
        catalog.lookup(["item-1", "nobody"])
    with pytest.raises(ValueError, match="missing must be"):
        catalog.lookup(["item-1"], missing="skip")


def test_integer_ids(build):
    numbers = [5, -3, 2**63 - 1, -(2**63), 0]
    catalog = build([{"id": n, "title": TEXTS[i]} for i, n in enumerate(numbers)])
    assert list(catalog) == sorted(numbers)
    assert 5 in catalog
    assert np.int64(-3) in catalog
    assert 7 not in catalog
    assert "5" not in catalog
    assert same(catalog.lookup(np.array([0, 5])), catalog.lookup([0, 5]))
    with pytest.raises(ValueError, match=r"must be integers; found '5' \(str\)"):
        catalog.lookup(["5"])


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".parquet", "folder"])
def test_files_and_datasets_are_streamed(build, tmp_path, ending):
    items = make_items(30)
    rows = [{"id": item.id, **item.fields} for item in items]
    want = build(items, "list")
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path = tmp_path / f"items{ending}"
    if ending == ".parquet":
        pytest.importorskip("pyarrow", reason="parquet needs pyarrow")
        datasets = pytest.importorskip("datasets", reason="makes the parquet file")
        dataset = datasets.Dataset.from_list(rows)
        dataset.to_parquet(path)
        assert list(build(dataset, "dataset")) == list(want)
    elif ending == "folder":
        path.mkdir()
        for part, text in enumerate(lines.splitlines(keepends=True)):
            (path / f"{part:02d}.jsonl").write_bytes(text)
    else:
        path.write_bytes(gzip.compress(lines) if ending.endswith("gz") else lines)
    got = build(path, "file")
    assert same(got.lookup(list(want)), want.lookup(list(want)))
    assert list(got.changed(items)) == []


def test_tokens_in_place_of_texts(build, tokenizer):
    items = make_items(20)
    chunk = Chunk([item.id for item in items], tokens=tokenize_items(items, tokenizer))
    assert same(build([chunk], "tokens").lookup(chunk.ids), build(items, "texts", chunk_items=7).lookup(chunk.ids))


def test_a_selector_and_its_tokenizer(build, tokenizer, wordpiece_tokenizer, tmp_path):
    items = make_items(60)
    selector = TokenSelector().for_tokenizer(tokenizer).fit(tokenize_items(items, tokenizer))
    catalog = build(items, selector=selector)
    want = expected(items, tokenizer, Budget(tokens=8), selector)
    assert same(catalog.lookup([i.id for i in items]), want)
    ItemCatalog.open(catalog.path, tokenizer=tokenizer, selector=selector)
    with pytest.raises(ValueError, match="built with another tokenizer"):
        ItemCatalog.open(catalog.path, tokenizer=wordpiece_tokenizer)
    with pytest.raises(ValueError, match="built with another selector"):
        ItemCatalog.open(catalog.path, selector=TiedScorer())
    with pytest.raises(ValueError, match="bound to another tokenizer"):
        build(items, "other", selector=selector, tokenizer=wordpiece_tokenizer)


def test_large_vocabularies_take_four_bytes(build, tokenizer, monkeypatch):
    vocabulary = {**tokenizer.get_vocab(), "<far>": 70_000}
    far = make_tokenizer("bpe")
    monkeypatch.setattr(far, "get_vocab", lambda: vocabulary)
    catalog = build([Chunk(["a"], tokens=RaggedTokens.from_lists([[70_000, 3]]))], tokenizer=far)
    assert catalog["a"].tolist() == [70_000, 3]
    with pytest.raises(ValueError, match="token id 70001 is outside"):
        build([Chunk(["a"], tokens=RaggedTokens.from_lists([[70_001]]))], "beyond", tokenizer=far)


def test_items_without_tokens_stay(build):
    catalog = build([Item("a", {"title": "pen"}), Item("b", {}), Item("c", {"title": "ink"})])
    assert catalog.lookup(["a", "b", "c"]).lengths.tolist()[1] == 0
    assert catalog.describe()["empty_items"] == 1
    assert catalog.text("b") == ""


def test_text_needs_the_tokenizer(build, tokenizer):
    catalog = build(make_items(3))
    assert catalog.text("item-1", k=2) == tokenizer.decode(catalog.lookup(["item-1"], k=2).ids.tolist())
    with pytest.raises(ValueError, match="needs the tokenizer"):
        ItemCatalog.open(catalog.path).text("item-1")
    assert sorted(catalog.ranks("item-1").tolist()) == list(range(8))


def test_it_pickles(build):
    catalog = build(make_items(10))
    assert same(pickle.loads(pickle.dumps(catalog)).lookup(["item-4"]), catalog.lookup(["item-4"]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": Budget(total=5)}, "a total is shared"),
        ({"fields": "title"}, "fields must be a list"),
        ({"fields": ["brand"]}, r"no item has a token to keep; the text fields asked for are \['brand'\]"),
        ({"num_proc": 0}, "num_proc must be"),
        ({"selector": object()}, "selector is object; expected a TokenSelector"),
    ],
)
def test_bad_options(build, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        build(make_items(3), **options)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "there are no items"),
        ([{"title": "pen"}], "row 1 has no 'item_id' or 'id'"),
        ([3], "element 1 is int"),
        ({"id": 1}, "must be a path or an iterable"),
        ("nowhere.jsonl", "there is no such file"),
        ([{"id": 1, "title": "pen"}, {"id": "b", "title": "ink"}], "all integers or all strings"),
        ([Item("a", {"title": "pen"}), Item("a", {"title": "ink"})], "'a' comes more than once"),
    ],
)
def test_bad_items(build, tmp_path, items, message):
    with pytest.raises(ValueError, match=message):
        build(items)
    with pytest.raises(ValueError, match="there is no catalogue"):
        ItemCatalog.open(tmp_path / "store")
    assert len(build(make_items(3))) == 3  # what failed is not in the way


def test_a_text_field_that_no_item_has_is_a_warning(build):
    items = make_items(3)
    with pytest.warns(UserWarning, match=r"none of 3 items has the text fields \['titel'\]; the last .*'title'"):
        build(items, fields=["title", "titel"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build([{"id": 1, "title": "pen"}], "one")  # of the default fields, one is enough


def test_k_beyond_the_store_is_refused(build):
    catalog = build(make_items(3))
    for k in (0, 9):
        with pytest.raises(ValueError, match=r"k=… \(--budget\) must be from 1 to 8"):
            catalog.lookup(["item-1"], k=k)


# -- updates


def test_an_update_adds_replaces_and_deletes_and_open_catalogues_stay(build, tokenizer):
    items = make_items(100)
    first = build(items)
    new, other = Item("new", {"title": "gel pen"}), Item("item-5", {"title": "stapler"})
    assert list(first.changed([other, items[6], new])) == ["item-5", "new"]
    for commit_items in (100, 2):  # in one transaction, and by way of many
        second = first.update(
            [new, other, items[6]], delete=["item-9"], tokenizer=tokenizer, selector=TiedScorer(),
            commit_items=commit_items, chunk_items=1,
        )  # fmt: skip
        assert (len(second), second.report.unchanged, second.report.items) == (100, 1, 2)
        want = {i.id: i for i in [*items, new, other] if i.id != "item-9"}
        assert list(second) == sorted(want)
        assert same(second.lookup(list(want)), expected(want.values(), tokenizer, Budget(tokens=8)))
        assert same(first.lookup([i.id for i in items]), expected(items, tokenizer, Budget(tokens=8)))
        assert list(ItemCatalog.open(first.path).changed(want.values())) == []
        second.verify()
        second.update([items[5], items[9]], delete=["new"], tokenizer=tokenizer, selector=TiedScorer())
    assert second.update(tokenizer=tokenizer, selector=TiedScorer()).report.items == 0
    assert list(ItemCatalog.open(first.path).changed(items)) == []


def test_everything_can_be_deleted(build, tokenizer):
    catalog = build(make_items(60))
    empty = catalog.update(delete=list(catalog), tokenizer=tokenizer, selector=TiedScorer())
    assert (len(empty), list(empty), "item-0" in empty, len(empty.lookup([]))) == (0, [], False, 0)
    empty.verify()
    again = empty.update(make_items(3), tokenizer=tokenizer, selector=TiedScorer())
    assert len(again) == len(list(again)) == 3


@pytest.mark.parametrize("commit_items", [1, 100])
@pytest.mark.parametrize(
    ("items", "delete", "message"),
    [
        ([], ["nobody"], "no item 'nobody' to delete"),
        ([], ["item-1", "item-1"], "'item-1' comes more than once"),
        (make_items(2), ["item-1"], "'item-1' comes more than once"),
        ([Item("n", {"title": "pen"}), Item("n", {"title": "ink"})], [], "'n' comes more than once"),
        ([make_items(1)[0], Item("item-0", {"title": "ink"})], [], "'item-0' comes more than once"),
        ([{"id": 3, "title": "pen"}], [], "must be strings; found 3"),
    ],
)
def test_bad_updates_change_nothing(build, tokenizer, items, delete, message, commit_items):
    catalog = build(make_items(10))
    with pytest.raises(ValueError, match=message):
        catalog.update(
            items, delete=delete, tokenizer=tokenizer, selector=TiedScorer(), commit_items=commit_items, chunk_items=1
        )
    after = ItemCatalog.open(catalog.path)
    assert list(after.changed(make_items(10))) == []
    assert len(after) == len(list(after)) == 10
    assert len(after.update(make_items(11), tokenizer=tokenizer, selector=TiedScorer())) == 11


def test_another_selector_or_tokenizer_is_never_mixed_in(build, tokenizer, wordpiece_tokenizer):
    catalog = build(make_items(10))
    before = catalog.lookup(["item-1"])
    with pytest.raises(ValueError, match="built otherwise: selector"):
        catalog.update(make_items(1), tokenizer=tokenizer, selector=TiedScorer(7))
    with pytest.raises(ValueError, match="built otherwise: tokenizer"):
        catalog.update(make_items(1), tokenizer=wordpiece_tokenizer, selector=TiedScorer())
    with pytest.raises(ValueError, match="holds a catalogue already"):
        build(make_items(10))
    for modulus in (7, 5, 7):  # each rebuild fills the table that is not in use
        anew = build(make_items(modulus), selector=TiedScorer(modulus), overwrite=True)
        assert len(anew) == len(list(anew)) == modulus
        anew.verify()
    assert same(catalog.lookup(["item-1"]), before)
    assert len(catalog) == 10


def test_many_small_updates(build, tokenizer):
    """A file descriptor for each update once made the 1,014th fail."""
    import resource

    catalog = build([{"id": 0, "title": "gel pen"}])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        for n in range(1, 200):
            catalog = catalog.update([{"id": n, "title": "gel pen"}], tokenizer=tokenizer, selector=TiedScorer())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert list(catalog) == list(range(200))
    assert catalog.describe()["bytes"] < 1 << 18  # pages are used again


# -- word frequencies


def fitted(items, tokenizer):
    return TokenSelector.from_pretrained().for_tokenizer(tokenizer).fit(tokenize_items(items, tokenizer))


def test_a_catalogue_remembers_the_word_frequencies_of_its_build(build, tokenizer):
    items, new = make_items(60), Item("new", {"title": f"{TEXTS[0]} and {TEXTS[3]}"})
    first, selector = build(items, selector=None), fitted(items, tokenizer)
    assert first.recipe.selector == selector.fingerprint
    assert first.describe()["frequencies"] == "counted from 60 texts"
    second = first.update([new], tokenizer=tokenizer)
    assert second.selector.for_tokenizer(tokenizer).fingerprint == selector.fingerprint
    assert second["new"].tolist() == selector.compress_ids(new, 8, tokenizer, "token")
    assert second.update([new], tokenizer=tokenizer, selector=selector).report.unchanged == 1
    with pytest.raises(ValueError, match=r"frequencies \('counted from 60 texts' here, 'as shipped' given\)"):
        first.update([new], tokenizer=tokenizer, selector="tsporec/base")
    anew = build(items[:20], selector=None, overwrite=True)
    assert anew.selector.frequencies == "counted from 20 texts"
    assert second.selector.frequencies == "counted from 60 texts"
    anew.verify()
    with open_store(anew.path).write() as txn:
        txn.put(b"Bconfig.json", b"{}")
    with pytest.raises(ValueError, match=r"damaged or no catalogue: .*has no format_version"):
        ItemCatalog.open(anew.path).verify()
    given = build(items, "given", selector=TiedScorer())
    assert given.selector is None
    with pytest.raises(ValueError, match="was given a selector; give the same one"):
        given.update([new], tokenizer=tokenizer)
    assert build(items, "shipped", selector=TokenSelector.from_pretrained()).recipe.frequencies == "as shipped"


def test_the_selector_of_a_catalogue_is_loaded_once_and_needs_no_folder(build, monkeypatch):
    monkeypatch.setattr("tempfile.mkdtemp", None)
    first = build(make_items(60), selector=None)
    assert first.selector is first.selector
    copy = pickle.loads(pickle.dumps(first))
    assert copy.selector is not first.selector
    assert copy.selector.fingerprint == first.selector.fingerprint
    again = build(make_items(20), selector=None, overwrite=True)
    assert first.selector.frequencies == "counted from 60 texts"
    assert again.selector.frequencies == "counted from 20 texts"
    with open_store(again.path).write() as txn:
        txn.put(b"Bmodel.safetensors", b"other")
    with pytest.raises(ValueError, match="the weights of its selector are not those that its config names"):
        ItemCatalog.open(again.path, verify=True)
    with open_store(again.path).write() as txn:
        txn.delete(b"Bmodel.safetensors")
    with pytest.raises(ValueError, match=r"its selector has the files \['config.json'\]"):
        _ = ItemCatalog.open(again.path).selector


def test_words_are_counted_in_workers_and_in_every_source(build, tokenizer):
    items = make_items(60)
    want = build(items, "one", selector=None)
    chunks = [Chunk([i.id for i in part], tokens=tokenize_items(part, tokenizer)) for part in (items[:25], items[25:])]
    for name, source, options in (("two", items, {"num_proc": 2, "start_method": "fork"}), ("chunks", chunks, {})):
        catalog = build(source, name, selector=None, chunk_items=7, **options)
        assert catalog.recipe == want.recipe
        assert same(catalog.lookup(list(want)), want.lookup(list(want)))
    with pytest.raises(ValueError, match="items is a generator, which can be read only once"):
        build((item for item in items), "once", selector=None)
    assert len(build((item for item in items), "once", selector="tsporec/base")) == 60


class Breaks(list):
    read = 0

    def __iter__(self):
        self.read += 1
        kept = self.read == 1  # the other reading counts words
        for number, item in enumerate(super().__iter__()):
            if kept and number == 50:
                raise RuntimeError("the source broke")
            yield item


@pytest.mark.parametrize("given", [TiedScorer(), "tsporec/base"])
def test_words_are_not_counted_for_a_build_that_is_refused(build, monkeypatch, given):
    items = make_items(60)
    with pytest.raises(RuntimeError, match="the source broke"):
        build(Breaks(items), selector=given, chunk_items=10)
    monkeypatch.setattr(Compressor, "count", None)
    with pytest.raises(ValueError, match=r"differs in selector \(one was given here, and now there is none\)"):
        build(items, selector=None)
    build(items, selector=given)
    with pytest.raises(ValueError, match="holds a catalogue already"):
        build(items, selector=None)


def test_a_build_that_goes_on_does_not_count_again(build, tokenizer, monkeypatch):
    items, options = make_items(60), {"selector": None, "chunk_items": 10}
    with pytest.raises(RuntimeError, match="the source broke"):
        build(Breaks(items), **options)
    with monkeypatch.context() as patch:
        patch.setattr(TokenSelector, "fit_counts", None)
        with pytest.raises(ValueError, match=r"differs in selector .*; frequencies \('counted from 60 texts' here"):
            build(items, selector="tsporec/base")
        with pytest.raises(ValueError, match=r"differs in keep \(\(\) here, \('pen',\) given\)"):
            build(items, keep=["pen"], **options)
        catalog = build([*items, Item("new", {"title": "gel pen"})], **options)
    assert (catalog.report.resumed, catalog.report.items) == (50, 11)
    want = fitted(items, tokenizer)
    assert same(catalog.lookup([item.id for item in items]), expected(items, tokenizer, 8, want))
    assert build(items, selector=None, overwrite=True, resume=False).recipe == catalog.recipe


# -- how the work is done


@pytest.mark.parametrize("start_method", ["spawn", "fork"])
def test_workers_make_the_same_records(build, start_method):
    items = make_items(300)
    one = build(items, "one", chunk_items=64)
    many = build(items, "many", chunk_items=64, num_proc=2, start_method=start_method)
    assert list(one._view.scan()) == list(many._view.scan())


def test_the_source_is_read_little_ahead(tokenizer):
    """This bounds the memory of a build: at most three chunks a worker are read ahead."""
    compressor = make_compressor(tokenizer, TiedScorer(), 8, "str", ["title"])
    for workers, ahead in ((1, 1), (2, 6)):
        read = 0

        def chunks():
            nonlocal read
            for read in range(1, 21):
                yield Chunk([f"item-{read}"], texts=["gel pen"])

        for done, _ in enumerate(map_chunks(compressor, chunks(), workers, "fork"), 1):
            assert read <= done - 1 + ahead
        assert done == read == 20


@given(st.lists(st.lists(st.integers(0, 30), max_size=12), min_size=1, max_size=20), st.integers(1, 9))
def test_ranks_are_the_order_of_the_top_k_operation(tokenizer, rows, k):
    recipe = Recipe("tokenizer", "tied", 31, {"tokens": 9}, ("title",), "int")
    tokens = RaggedTokens.from_lists(rows)
    done = Compressor(tokenizer, TiedScorer(), recipe)(Chunk(list(range(len(rows))), tokens=tokens))
    kept, _ = decode_records(done.records, recipe, k)
    special = np.isin(tokens.ids, special_token_ids(tokenizer))
    assert same(kept, select(TiedScorer(), tokens, k, protected=special).apply(tokens))


def test_a_selector_by_name_is_bound_to_the_tokenizer(build, tokenizer, tmp_path):
    items = make_items(30)
    TokenSelector().save_pretrained(tmp_path / "selector")
    bound = TokenSelector.from_pretrained(tmp_path / "selector").for_tokenizer(tokenizer)
    want = build(items, "object", selector=bound, budget=8)
    for name, selector in (("path", tmp_path / "selector"), ("text", str(tmp_path / "selector")), ("un", bound)):
        catalog = build(items, name, selector=selector, budget=8)
        assert catalog.recipe == want.recipe
        assert same(catalog.lookup(list(want)), want.lookup(list(want)))
        assert catalog.update(items, tokenizer=tokenizer, selector=selector).report.unchanged == 30
        ItemCatalog.open(catalog.path, tokenizer=tokenizer, selector=selector)
    with pytest.raises(ValueError, match="a budget is a Budget or a whole number"):
        build(items, "bad", budget="8")


def test_item_text_is_what_is_digested():
    item = Item("1", {"title": "pen", "description": "blue"})
    assert (Chunk(["1"], [item_text(item)]).digests() == Chunk(["1"], ["pen\nblue"]).digests()).all()
    with pytest.raises(ValueError, match="a Chunk of 2 ids needs as many"):
        Chunk(["1", "2"], ["pen"])


def test_whole_words_are_recorded_and_have_no_smaller_k(build, tokenizer):
    items = make_items(20)
    catalog = build(items, granularity="word")
    assert catalog.recipe.granularity == "word"
    tokens = tokenize_items(items, tokenizer)
    want = select(TiedScorer(), tokens, 8, granularity="word", tokenizer=tokenizer).apply(tokens)
    assert same(catalog.lookup([item.id for item in items]), want)
    with pytest.raises(ValueError, match="keeps whole words, which a smaller number of tokens could split"):
        catalog.lookup(["item-1"], k=4)
    catalog = catalog.update([Item("new", {"title": TEXTS[0]})], tokenizer=tokenizer, selector=TiedScorer())
    assert catalog.recipe.granularity == "word"
    assert "new" in catalog
    with pytest.raises(ValueError, match="granularity must be 'word' or 'token'; found 'line'"):
        build(items, "bad", granularity="line")


def test_written_special_tokens_are_kept_whatever_k(build, tokenizer):
    catalog = build([Item("a", {"title": f"</s>{TEXTS[0]}</s>"})], budget=5)
    for k in (1, 3, 5):
        assert [i for i in catalog.lookup(["a"], k).ids.tolist() if i == 2] == [2, 2]
        assert catalog.lookup(["a"], k).lengths.tolist() == [max(k, 2)]
