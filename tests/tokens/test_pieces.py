"""What the entries of a vocabulary spell is read from how its tokenizer is made."""

from __future__ import annotations

import copy

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizer, PreTrainedTokenizerFast

from tests.conftest import make_tokenizer
from tsporec.budget import Budget
from tsporec.scorers import make_scorer
from tsporec.selector import vocabulary as features
from tsporec.selector.compress_text import compress_text
from tsporec.selector.model import TokenSelector
from tsporec.tokens.fingerprint import tokenizer_fingerprint
from tsporec.tokens.pieces import read_pieces
from tsporec.tokens.ragged import RaggedTokens
from tsporec.tokens.spelling import Spelling, _byte_table

LETTERS = "aegilnpst"
LLAMA = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
BYTES = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False)
WORDS = pre_tokenizers.Split(Regex(r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"), "removed", invert=True)
CLIP = pre_tokenizers.Sequence([WORDS, BYTE_LEVEL])


def fast(model, normalizer=None, pre_tokenizer=None, decoder=None):
    """A fast tokenizer; of the parts given as None it has none."""
    core = Tokenizer(model)
    for name, part in (("normalizer", normalizer), ("pre_tokenizer", pre_tokenizer), ("decoder", decoder)):
        if part is not None:
            setattr(core, name, part)
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")


def bpe(words, space="", suffix="", prefix="", entries=(), **options):
    """BPE of the letters and of ``words``, each merged from left to right; a mark ``space`` belongs to its word."""
    known, merges = {"<unk>": None, **dict.fromkeys(entries)}, []
    alphabet = [*LETTERS, *([space] if space else [])]
    known |= dict.fromkeys([*alphabet, *(c + suffix for c in LETTERS), *(prefix + c for c in LETTERS)])
    for word in words:
        parts = [*([space] if space else []), *(c if at == 0 else prefix + c for at, c in enumerate(word))]
        parts[-1] += suffix
        done = parts[0]
        for part in parts[1:]:
            merges.append((done, part))
            done += part.removeprefix(prefix)
            known[done] = None
    marks = {"continuing_subword_prefix": prefix, "end_of_word_suffix": suffix}
    marks = {name: mark for name, mark in marks.items() if mark}
    return models.BPE({entry: i for i, entry in enumerate(known)}, merges, unk_token="<unk>", **marks, **options)


def wordpiece(prefix):
    known = ["<unk>", "gel", "pen", f"{prefix}s", *LETTERS, *(prefix + c for c in LETTERS)]
    vocabulary = {entry: i for i, entry in enumerate(dict.fromkeys(known))}
    return models.WordPiece(vocabulary, unk_token="<unk>", continuing_subword_prefix=prefix)


def word_level(*entries):
    return models.WordLevel({entry: i for i, entry in enumerate(["<unk>", *entries])}, unk_token="<unk>")


BYTE_ENTRIES = [f"<0x{byte:02X}>" for byte in range(256)]
UNIGRAM = [("<unk>", 0.0), ("▁gel", -1.0), ("▁pen", -1.0), *((c, -3.0) for c in ["▁", *LETTERS])]
KINDS = {
    "llama": fast(bpe(["gel", "pen"], "▁", entries=BYTE_ENTRIES, byte_fallback=True), LLAMA, None, BYTES),
    "unigram": fast(models.Unigram(UNIGRAM, 0), None, pre_tokenizers.Metaspace(), decoders.Metaspace()),
    "unigram of bytes": fast(
        models.Unigram([*UNIGRAM, *((entry, -9.0) for entry in BYTE_ENTRIES)], 0, byte_fallback=True),
        LLAMA, None, BYTES,
    ),
    "another mark": fast(
        models.Unigram([(entry.replace("▁", "_"), score) for entry, score in UNIGRAM], 0),
        None,
        pre_tokenizers.Metaspace(replacement="_"),
    ),
    "byte level": fast(bpe(["gel", "pen"], "Ġ"), None, BYTE_LEVEL, decoders.ByteLevel()),
    "ends of words": fast(
        bpe(["gel", "pen"], suffix="</w>"), normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer(),
        decoders.BPEDecoder("</w>"),
    ),
    "ends of words in bytes": fast(
        bpe(["gel", "pen"], suffix="</w>"), None, CLIP, decoders.ByteLevel(),
    ),
    "BPE with a prefix": fast(bpe(["gel", "pen"], prefix="##"), None, pre_tokenizers.Whitespace()),
    "wordpiece": fast(wordpiece("##"), None, pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()),
    "another prefix": fast(wordpiece("@@"), None, pre_tokenizers.Whitespace(), decoders.WordPiece("@@")),
    "word level": fast(word_level("a", "gel", "pen", "pens"), None, pre_tokenizers.Whitespace()),
    "word level with spaces": fast(
        word_level("a", "gel", "pen", "pens", " "), None, pre_tokenizers.Split(" ", "isolated")
    ),
    "characters": fast(word_level(*LETTERS, " "), None, pre_tokenizers.Split("", "isolated")),
}  # fmt: skip
SPACES_KEPT = {"word level with spaces", "characters"}
SPELLINGS = {
    "llama": Spelling("▁", byte_fallback=True),
    "unigram": Spelling("▁"),
    "unigram of bytes": Spelling("▁", byte_fallback=True),
    "another mark": Spelling("_"),
    "byte level": Spelling("Ġ", byte_level=True),
    "ends of words": Spelling("", suffix="</w>"),
    "ends of words in bytes": Spelling("", suffix="</w>", byte_level=True),
    "BPE with a prefix": Spelling("", prefix="##"),
    "wordpiece": Spelling("", prefix="##"),
    "another prefix": Spelling("", prefix="@@"),
    "word level": Spelling(""),
    "word level with spaces": Spelling(" "),
    "characters": Spelling(" "),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_spell_the_text_with_its_words_apart(kind):
    tokenizer, text = KINDS[kind], "a gel pen pens"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    spelled, spans = read_pieces(tokenizer).text(ids)
    assert spelled.strip() == text
    assert [spelled[a:b] for a, b in spans] == [read_pieces(tokenizer).texts[i] for i in ids]
    assert compress_text(make_scorer("head"), tokenizer, text, Budget(keep_ratio=1.0)) == text
    short = compress_text(make_scorer("random"), tokenizer, text, Budget(tokens=2))
    assert set(short.split()) <= set(text.split()), "words stay whole"


@pytest.mark.parametrize("kind", KINDS)
def test_a_word_has_the_same_surface_with_every_tokenizer(kind):
    pieces = read_pieces(KINDS[kind])
    ids = KINDS[kind]("a gel", add_special_tokens=False)["input_ids"]
    if kind not in SPACES_KEPT:
        assert pieces.surfaces[ids[-1]] == " gel"
    assert pieces.spelling == SPELLINGS[kind]
    marks = {*pieces.spelling[:3]} - {"", " "}
    assert not any(mark in text for text in pieces.texts for mark in marks)


@pytest.mark.parametrize("kind", ["llama", "unigram of bytes"])
def test_entries_that_are_bytes(kind):
    tokenizer = KINDS[kind]
    pieces = read_pieces(tokenizer)
    assert pieces.bytes[tokenizer.convert_tokens_to_ids("<0x0A>")] == b"\n"
    ids = tokenizer("gel\n墨 pen", add_special_tokens=False)["input_ids"]
    assert pieces.text(ids)[0].strip() == "gel\n墨 pen"
    assert tokenizer.decode(ids).strip() == "gel\n墨 pen"


@pytest.mark.parametrize(
    ("tokenizer", "found"),
    [
        (fast(bpe(["gel"]), None, pre_tokenizers.Whitespace()), r"makes \['a', 'b'\] of 'a b', and its BPE model"),
        (fast(bpe(["gel"]), normalizers.Replace("a", "x"), None), r"makes \['x b'\] of 'a b'"),
    ],
)
def test_entries_that_do_not_tell_are_refused(tokenizer, found):
    with pytest.raises(ValueError, match=found + ".*supported are spaces that are kept or marked"):
        TokenSelector().for_tokenizer(tokenizer)


class Slow(PreTrainedTokenizer):
    """A Python tokenizer with these entries."""

    def __init__(self, entries, **options):
        self.entries = {entry: i for i, entry in enumerate(entries)}
        super().__init__(**options)

    @property
    def vocab_size(self):
        return len(self.entries)

    def get_vocab(self):
        return self.entries

    def _convert_token_to_id(self, token):
        return self.entries[token]


@pytest.mark.parametrize("entries", [["Ġgel", "s"], ["▁gel", "s"], ["gel", "##s"]])
def test_slow_tokenizers_are_read_by_their_marks(entries):
    assert read_pieces(Slow(entries)).bytes == [b" gel", b"s"]
    assert read_pieces(Slow(["pen", "s</w>"])).bytes == [b"pen", b"s "]


def test_slow_tokenizers_that_keep_spaces_or_write_bytes():
    assert read_pieces(Slow([" gel", "s"])).bytes == [b" gel", b"s"]
    clip = read_pieces(Slow(["cafÃ©</w>", *_byte_table(), *(f"{c}</w>" for c in _byte_table())]))
    assert clip.texts[0] == "café "
    assert clip.spelling == SPELLINGS["ends of words in bytes"]


def test_entries_that_are_no_text_are_refused():
    for read in (read_pieces, tokenizer_fingerprint, TokenSelector().for_tokenizer):
        with pytest.raises(ValueError, match=r"has the token b' gel', bytes; expected strings"):
            read(Slow([b" gel", "s"]))


@pytest.mark.parametrize("other", ["gpt2", Tokenizer(models.BPE()), None])
def test_what_is_no_tokenizer_is_refused(other):
    for read in (TokenSelector().for_tokenizer, read_pieces):
        with pytest.raises(TypeError, match=f"expected a Hugging Face tokenizer; found .*{type(other).__name__}. Load"):
            read(other)


@pytest.mark.parametrize("stray", ["##s", "▁"])
def test_slow_tokenizers_without_marks_are_refused(stray):
    found = r"the 51 tokens of this tokenizer do not show .* begin with .*'</w>'.* If the model has a fast"
    with pytest.raises(ValueError, match=found):
        read_pieces(Slow([stray, *(f"word{i}" for i in range(50))]))


def test_added_special_tokens_are_no_words():
    """Chat markers are special by their mark alone; what else is added is spelled as it is written."""
    from tokenizers import AddedToken

    chat = copy.deepcopy(make_tokenizer("bpe"))
    plain = read_pieces(chat)
    chat.add_tokens([AddedToken("<|im_start|>", special=True), AddedToken("日本 é", special=False)])
    pieces = read_pieces(chat)
    start, word = chat.convert_tokens_to_ids(["<|im_start|>", "日本 é"])
    assert start not in chat.all_special_ids
    assert pieces.special[start]
    assert pieces.bytes[start] == b""
    assert pieces.bytes[word].decode() == "日本 é"
    assert pieces.bytes[: len(plain)] == plain.bytes
    tokens = RaggedTokens.from_lists([chat("<|im_start|>blue ink", add_special_tokens=False)["input_ids"]])
    bound = TokenSelector().for_tokenizer(chat).fit(tokens)
    assert bound.score(tokens)[0] < bound.score(tokens)[1:].min() - 10


def test_added_tokens_that_take_the_space_before_them():
    """They are written into the text as the normalizer leaves it, or stand behind a space that is dropped."""
    from tokenizers import AddedToken

    dropped = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    kinds = {
        "llama": copy.deepcopy(KINDS["llama"]), "byte level": copy.deepcopy(KINDS["byte level"]),
        "T5": fast(models.Unigram(UNIGRAM, 0), None, dropped),
    }  # fmt: skip
    kinds["exact"], kinds["eager"] = copy.deepcopy(kinds["llama"]), copy.deepcopy(kinds["byte level"])
    for kind, tokenizer in kinds.items():
        tokenizer.add_tokens([AddedToken("<i7>", normalized=kind != "exact", lstrip=kind == "eager")])
        for text in ("gel <i7> pen", "<i7> gel"):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert " ".join(read_pieces(tokenizer).text(ids)[0].split()) == text, kind
            assert compress_text(make_scorer("head"), tokenizer, text, Budget(keep_ratio=1.0)) == text
    tokenizer = kinds["exact"]
    ids = tokenizer("gel<i7>", add_special_tokens=False)["input_ids"]
    assert read_pieces(tokenizer).text(ids)[0] == " gel<i7>"
    assert read_pieces(tokenizer) is not read_pieces(kinds["llama"])


def test_added_tokens_are_read_once(monkeypatch):
    tokenizer, reads = copy.deepcopy(KINDS["byte level"]), []
    tokenizer.add_tokens(["<i7>"])
    inherited = type(tokenizer).added_tokens_decoder
    monkeypatch.setattr(
        type(tokenizer), "added_tokens_decoder", property(lambda self: reads.append(self) or inherited.fget(self))
    )
    bound = TokenSelector().for_tokenizer(tokenizer)
    assert reads
    del reads[:]
    assert bound.compress_text("gel <i7> pen", Budget(keep_ratio=1.0), tokenizer) == "gel <i7> pen"
    bound.for_tokenizer(tokenizer)
    assert read_pieces(tokenizer).bytes[len(tokenizer) - 1] == b"<i7>"
    assert not reads
    tokenizer.add_tokens(["<i8>"])
    assert read_pieces(tokenizer).bytes[len(tokenizer) - 1] == b"<i8>"
    tokenizer.add_special_tokens({"eos_token": "<i8>"})
    assert read_pieces(tokenizer).special[len(tokenizer) - 1]


def test_one_vocabulary_and_other_parts_are_read_apart():
    """How a tokenizer splits is not in its fingerprint."""
    words = word_level("gel", "pen", " ", "PEN")
    parts = pre_tokenizers.Whitespace(), pre_tokenizers.Split(" ", "isolated")
    apart, kept = (fast(words, None, part) for part in parts)
    assert read_pieces(apart).fingerprint == read_pieces(kept).fingerprint
    assert (read_pieces(apart).bytes[1], read_pieces(kept).bytes[1]) == (b" gel", b"gel")


def test_large_vocabularies_are_read_once(monkeypatch):
    entries = [f"▁w{i}" if i % 2 else f"w{i}" for i in range(150_000)]
    tokenizer = fast(
        models.Unigram([("<unk>", 0.0), *((entry, -1.0) for entry in entries)], 0), None, pre_tokenizers.Metaspace()
    )
    selector = TokenSelector()
    bound = selector.for_tokenizer(tokenizer)
    assert len(bound.vocabulary) == 150_001

    def refuse(*_args, **_options):
        raise AssertionError("the work is done again")

    for owner, name in (
        (type(tokenizer), "get_vocab"), (type(tokenizer), "__call__"), (type(tokenizer), "added_tokens_decoder"),
        (Spelling, "read"), (features, "_features"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, refuse)
    assert selector.for_tokenizer(tokenizer).vocabulary is bound.vocabulary


def test_equal_tokenizers_share_their_pieces_however_many_are_read_between():
    first = make_tokenizer("bpe")
    pieces = read_pieces(first)
    others = [make_tokenizer("bpe", vocab_size=size) for size in range(300, 306)]
    assert len({id(read_pieces(other)) for other in others}) == len(others)
    assert read_pieces(make_tokenizer("bpe")) is pieces
