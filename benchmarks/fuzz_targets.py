"""The targets of ``benchmarks.fuzz``: hostile inputs, and what must hold of whatever comes out.

A target is a function of a random generator and an empty folder. It makes one input, gives it to the library, and
asserts what the library promises.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.fuzz_inputs import FORMATS, mutated, odd_value, raw_field, spoiled, unicode_text
from tsporec import Budget, ItemCatalog, RaggedTokens, SelectorCollator, TokenSelector, make_scorer, wrap_tokenizer
from tsporec.catalog.records import decode_records, encode_ids
from tsporec.catalog.store import State
from tsporec.collators.packed_items import PackedColumns
from tsporec.collators.spans import ItemStringSpans, MarkerSpans, UnlabelledSpans
from tsporec.data.cleaning import clean_text
from tsporec.data.readers import read_items, read_sequences
from tsporec.data.stored_lists import read_printed_list
from tsporec.data.synthetic import word_tokenizer
from tsporec.selector.compress_text import compress_ids, compress_text
from tsporec.selector.model import SelectorConfig
from tsporec.tokens.pieces import read_pieces
from tsporec.tokens.words import words_of


@dataclass(frozen=True)
class Target:
    """A parser, how it is tried, and which errors it may raise."""

    name: str
    attempt: Callable[[random.Random, Path], None]
    documented: tuple[type[Exception], ...] = ()
    names: str = ""
    """Text that every documented error holds: the file or the feature at fault."""
    prepare: Callable[[], Any] = lambda: None
    """Makes what all inputs share, before the processes of the target are forked."""
    share: int = 1
    """Its share of the time."""


def clean(rng: random.Random, _: Path) -> None:
    """Clean the raw value of a field."""
    value = raw_field(rng)
    text = clean_text(value)
    assert text == " ".join(text.split()), "not one line"
    text.encode()
    if isinstance(value, str):
        read_printed_list(value, repair=False)


def readers(rng: random.Random, folder: Path) -> None:
    """Read a spoiled file of any format, gzipped or not."""
    name, kind, is_items, data = rng.choice(FORMATS)
    data = mutated(rng, data)
    if not name.endswith(".parquet") and rng.random() < 0.2:
        name, data = name + ".gz", gzip.compress(data, 1)
        data = mutated(rng, data) if rng.random() < 0.3 else data
    path = folder / ("fuzzed-" + name)
    path.write_bytes(data)
    if is_items:
        for item in read_items(path, kind):
            assert item.id, "an empty id"
            assert all(text == " ".join(text.split()) != "" for text in item.fields.values()), "a field is not cleaned"
    else:
        for user in read_sequences(path, kind):
            assert user.user_id, "an empty user"
            assert user.item_ids, "no item"
            assert all(user.item_ids), "an empty item"
            assert np.isfinite(user.times).all(), "a time is not finite"


@cache
def _saved_selector() -> tuple[dict[str, bytes], Any, RaggedTokens]:
    import tempfile

    tokenizer = word_tokenizer(["blue", "gel", "pen", "fine", "point", "pack", "of", "twelve"])
    texts = ["blue gel pen of twelve", "fine point gel pen pack", "gel pen"]
    tokens = RaggedTokens.from_lists(tokenizer(texts, add_special_tokens=False)["input_ids"])
    config = SelectorConfig(dim=4, hidden=4, gram_buckets=64, surface_buckets=64)
    selector = TokenSelector(config).for_tokenizer(tokenizer).fit(tokens).with_item_weights(tokens)
    torch.nn.init.ones_(selector.network.out.weight)
    with tempfile.TemporaryDirectory() as folder:
        files = {path.name: path.read_bytes() for path in selector.save_pretrained(folder).iterdir()}
        TokenSelector.from_pretrained(folder)  # imports what each process would import
    return files, tokenizer, tokens


def selector_files(rng: random.Random, folder: Path) -> None:
    """Load a selector of which one file is spoiled. In most, the checksums in the config are made to fit."""
    files, tokenizer, tokens = _saved_selector()
    config = json.loads(files["config.json"])
    name = rng.choice(["config.json", "model.safetensors", "item_weights.safetensors"])
    found = {**files, name: spoiled(rng, files[name]) if name != "config.json" else files[name]}
    if rng.random() < 0.8:
        config["weights_sha256"] = hashlib.sha256(found["model.safetensors"]).hexdigest()
        config["item_weights"]["sha256"] = hashlib.sha256(found["item_weights.safetensors"]).hexdigest()
    if name == "config.json":
        inner = config if rng.random() < 0.8 else config["item_weights"]
        inner[rng.choice([*inner, "more"])] = odd_value(rng)
    found["config.json"] = json.dumps(config).encode()
    if name == "config.json" and rng.random() < 0.3:
        found[name] = mutated(rng, found[name])
    home = folder / "fuzzed"
    home.mkdir(exist_ok=True)
    for file, data in found.items():
        (home / file).write_bytes(data)
    scores = TokenSelector.from_pretrained(home).for_tokenizer(tokenizer).score(tokens)
    assert scores.shape == (tokens.num_tokens,)


@cache
def _saved_catalog() -> tuple[bytes, Any]:
    import tempfile

    tokenizer = word_tokenizer(["blue", "gel", "pen", "fine", "point"])
    items = [{"id": f"B{i}", "title": "blue gel pen fine point" * (i % 5)} for i in range(60)]
    with tempfile.TemporaryDirectory() as folder:
        ItemCatalog.build(items, tokenizer=tokenizer, selector=make_scorer("head"), budget=3, path=folder)
        return (Path(folder) / "data.mdb").read_bytes(), tokenizer


def store(rng: random.Random, folder: Path) -> None:
    """Open a spoiled catalogue as SECURITY.md says, and read all of it."""
    data, tokenizer = _saved_catalog()
    home = folder / "fuzzed"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    (home / "data.mdb").write_bytes(spoiled(rng, data, most=8))
    catalog = ItemCatalog.open(home, tokenizer=tokenizer if rng.random() < 0.5 else None, verify=True)
    ids = list(catalog)
    assert len(ids) == len(catalog)
    catalog.lookup(ids, rng.choice([None, 1, 2]), missing="empty")


def records(rng: random.Random, folder: Path) -> None:
    """Read records and descriptions that never were in a catalogue, and encode odd ids."""
    way = rng.randrange(3)
    recipe: dict[str, Any] = {"tokenizer": "t", "selector": "s", "vocabulary": 9, "fields": ["title"], "id_type": "str"}
    recipe["budget"] = {"tokens": 4}
    state = {"format": 1, "library": "0", "items": "a", "count": 3, "recipe": recipe}
    if way == 0:
        inner: Any = rng.choice([state, recipe, recipe["budget"]])
        inner[rng.choice([*inner, "more"])] = odd_value(rng)
        data = json.dumps(state).encode()
        State.from_json(mutated(rng, data) if rng.random() < 0.3 else data, folder)
    elif way == 1:
        known = State.from_json(json.dumps(state).encode(), folder).recipe
        parts = [rng.randbytes(rng.choice([0, 16, 19, 22, rng.randrange(60)])) for _ in range(rng.randrange(4))]
        kept, ranks = decode_records(parts, known, rng.choice([None, 1, 3]))
        assert len(kept) == len(parts)
        assert len(ranks) == kept.num_tokens
        assert kept.ids.max(initial=0) < known.vocabulary
    else:
        ids = [odd_value(rng) if rng.random() < 0.2 else rng.choice([7, -1, "a", unicode_text(rng, 9)]) for _ in "abc"]
        assert len(encode_ids(ids)) == len(ids)


@cache
def tokenizers() -> list[tuple[Any, Any]]:
    """Train 40 tokenizers of four kinds on random texts; each with a random scorer."""
    from benchmarks.fuzz_inputs import random_tokenizer

    rng = random.Random(0)
    made = [random_tokenizer(rng, number) for number in range(40)]
    return [(tokenizer, make_scorer("random", seed=number)) for number, tokenizer in enumerate(made)]


def tokens(rng: random.Random, _: Path) -> None:
    """Shorten texts of all of Unicode with a random tokenizer: as ids, as text, and by a wrapped tokenizer."""
    tokenizer, scorer = rng.choice(tokenizers())
    texts = [unicode_text(rng, 40) for _ in range(rng.randint(1, 3))]
    k = rng.randint(1, 30)
    budget = Budget(tokens=k)
    granularity = rng.choice(["word", "token"])
    whole = tokenizer(texts, add_special_tokens=False)["input_ids"]
    found = compress_ids(scorer, tokenizer, texts, budget, granularity)
    assert compress_ids(scorer, tokenizer, texts[0], budget, granularity) == found[0], "depends on the batch"
    special = set(np.flatnonzero(read_pieces(tokenizer).protected).tolist())
    for ids, kept in zip(whole, found, strict=True):
        if "&" not in "".join(texts):
            assert _is_part(kept, ids), "not a part of the ids"
        assert len(kept) <= max(k, sum(i in special for i in kept)), "more than the budget"
        assert bool(kept) == bool(ids) or "&" in "".join(texts), "nothing is kept"
    short = compress_text(scorer, tokenizer, texts[0], budget, "word")
    packed = RaggedTokens.from_lists(whole[:1])
    clusters = words_of(packed, read_pieces(tokenizer), clusters=True)
    exact = type(tokenizer.backend_tokenizer.model).__name__ == "BPE" and not set("&<") & set(texts[0])
    if exact and len(clusters) and np.bincount(clusters).min() <= k:
        assert set(_characters(short)) <= {*_characters(texts[0]), " "}, "a character is split"
    wrapped = wrap_tokenizer(tokenizer, scorer, granularity=granularity)
    assert all(len(ids) <= k for ids in wrapped(texts, truncation=True, max_length=k)["input_ids"]), "not truncated"


def _is_part(part: list[int], whole: list[int]) -> bool:
    walk = iter(whole)
    return all(one in walk for one in part)


def _characters(text: str) -> list[str]:
    found: list[str] = []
    for c in text:
        if found and unicodedata.category(c).startswith("M") and not found[-1].isspace():
            found[-1] += c
        else:
            found.append(c)
    return found


def collators(rng: random.Random, _: Path) -> None:
    """Cut a feature with odd spans and columns; the ids are numbered, so they show which tokens are kept."""
    feature, finder, n = _odd_feature(rng)
    budget = Budget(tokens=rng.randint(1, 4)) if rng.random() < 0.8 else Budget(total=9)
    scorer = make_scorer("random", seed=n)
    (cut,) = SelectorCollator(list, scorer, budget, finder, token_columns=["mine"], protected_ids=(), cache_tokens=0)(
        [feature]
    )
    kept = np.asarray(cut["input_ids"], dtype=np.int64) - 10
    assert (np.diff(kept) > 0).all(), "not in order"
    flat = isinstance(finder, PackedColumns)
    for name in () if flat or len(kept) == n else _COLUMNS.keys() & cut.keys() - {"score"}:
        before, after = np.shape(feature[name]), np.shape(cut[name])
        if len(before) == 1 and before[0] != n:
            continue  # labels of an encoder-decoder
        assert not before or len(kept) in (after[0], after[-1]), f"{name} of {before} is not cut: {after}"
        if len(before) == 1 and name != "position_ids":
            assert np.array_equal(np.asarray(feature[name])[kept], cut[name]), f"{name} has other values"
    if not flat and np.shape(feature.get("labels")) == (n,):
        assert np.isin(np.flatnonzero(np.asarray(feature["labels"]) != -100), kept).all(), "a label is lost"
    if finder == "item_spans":
        inside = np.zeros(n, dtype=bool)
        for start, end in feature["item_spans"]:
            inside[start:end] = True
            assert end == start or np.isin(np.arange(start, end), kept).any(), "an item vanished"
        assert np.isin(np.flatnonzero(~inside), kept).all(), "text outside spans is lost"


_COLUMNS: dict[str, Callable[[random.Random, int], Any]] = {
    "labels": lambda rng, n: [-100 if rng.random() < 0.7 else place for place in range(n)],
    "attention_mask": lambda _, n: [1] * n,
    "token_type_ids": lambda _, n: [[0] * n],
    "position_ids": lambda rng, n: list(range(n)) if rng.random() < 0.7 else [list(range(n))] * 3,
    "offset_mapping": lambda _, n: [(i, i + 1) for i in range(n)],
    "mine": lambda rng, n: [[i, i, i] for i in range(n)] if rng.random() < 0.5 else [0.5] * n,
    "score": lambda *_: 0.5,
}


def _odd_feature(rng: random.Random) -> tuple[dict[str, Any], Any, int]:
    """Make a feature of n tokens, and the finder of its spans."""
    n = rng.randrange(25)
    feature: dict[str, Any] = {"input_ids": _as_type(rng, list(range(10, 10 + n)))}
    for name in rng.sample(list(_COLUMNS), rng.randrange(4)):
        feature[name] = odd_value(rng) if rng.random() < 0.1 else _as_type(rng, _COLUMNS[name](rng, n))
    finder: Any = rng.choice(
        ["item_spans", "item_spans", UnlabelledSpans(), MarkerSpans(10, 13), ItemStringSpans(), PackedColumns("")]
    )
    if finder == "item_spans":
        marks = sorted(rng.randint(0, n) for _ in range(2 * rng.randrange(4)))
        spans = list(zip(marks[::2], marks[1::2], strict=True))
        feature["item_spans"] = odd_value(rng) if rng.random() < 0.1 else spans
    elif isinstance(finder, ItemStringSpans):
        text = unicode_text(rng, 25)
        cuts = sorted(rng.randint(0, len(text)) for _ in range(4))
        feature |= {"prompt": text, "items": [text[cuts[0] : cuts[1]], text[cuts[2] : cuts[3]]]}
        step = len(text) / max(n, 1)
        fair = [(int(i * step), int((i + 1) * step)) for i in range(n)]
        odd = [(rng.randrange(26), rng.randrange(26)) for _ in range(n)]
        feature["offset_mapping"] = odd if rng.random() < 0.3 else fair
    elif isinstance(finder, PackedColumns):
        odd_lengths = [rng.randrange(4) for _ in range(3)]
        feature["cu_input_lens"] = odd_lengths if rng.random() < 0.3 else [n - n // 2, 0, n // 2]
    if rng.random() < 0.2:
        feature["seq_lengths"] = rng.choice([[n], [0, n], [n // 2, 0, n - n // 2], [n // 2], [-1, n + 1]])
    return feature, finder, n


def _as_type(rng: random.Random, value: Any) -> Any:
    way = rng.randrange(4)
    if not isinstance(value, list) or way < 2:
        return value
    return np.asarray(value) if way == 2 else torch.tensor(value)


TARGETS = {
    target.name: target
    for target in (
        Target("clean", clean, (ValueError,), "nested more than 50 deep", share=3),
        Target("readers", readers, (ValueError,), "fuzzed-"),
        Target("selector", selector_files, (ValueError,), "fuzzed", _saved_selector),
        Target("store", store, (ValueError, OSError), "fuzzed", _saved_catalog),
        Target("records", records, (ValueError,), share=2),
        Target("tokens", tokens, (), prepare=tokenizers),
        Target("collators", collators, (ValueError,), "feature 0"),
    )
}
