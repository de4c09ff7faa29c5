"""Make hostile inputs from a random generator: texts, values, spoiled files, tokenizers."""

from __future__ import annotations

import io
import json
import random
from typing import Any

import numpy as np

MARKUP = [
    "<", ">", "</", "<!--", "-->", "--!>", "<!", "<![CDATA[", "]]>", "<script", "<script>", "</script ", "<style>",
    "<a ", "<a b=", "<br/>", "<b>", "</b>", "<p x='", "&amp;", "&lt;", "&#9", "&#", "&#x", "9" * 12, ";", "&", ".a ",
    "a:", "{", "{:", "{}", "}", ".a{x:y}", "/*", "*/", "* ", "@a ", "@media x ", "p, ", ":b ", "[a] ", "[", "]", "(",
    ")", "['", "', '", "']", "'\\", '"', "{'a':", ",", ":", "np.str_('a')", "array([", ", dtype=object)", "nan",
    "None", "<NA>", "\\x", "\\U0010FFFF", "\\ud83d", " ", "   ", "\n", "\t", "\x00", "\x1b[2J", "\u200b", "\u202e",
    "\ufeff", "\ud83d", "gel pen", "8.5", "!", "é",
]  # fmt: skip
SCRIPTS = [
    (0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0x97F), (0xB80, 0xBFF),
    (0xE00, 0xE7F), (0xE80, 0xEFF), (0xF00, 0xFBC), (0x1000, 0x109F), (0x1100, 0x11FF), (0x1780, 0x17FF),
    (0x2000, 0x206F), (0x3000, 0x30FF), (0x4E00, 0x4FFF), (0xA980, 0xA9DF), (0xAC00, 0xACFF), (0xFE00, 0xFE0F),
    (0xFF01, 0xFF9F), (0x1F1E6, 0x1F1FF), (0x1F300, 0x1F64F), (0x20000, 0x200FF), (0xE0020, 0xE007F), (0, 0xD7FF),
    (0xE000, 0x10FFFF),
]  # fmt: skip
PHRASES = [
    "blue gel pen", "don't", "0.5mm (12)", "$3.99", "PEN-300x", "caf\u00e9",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", "1\ufe0f\u20e3",
    "\u0928\u092e\u0938\u094d\u0924\u0947", "\u0e2a\u0e35\u0e19\u0e49\u0e33", "\u1780\u17d2\u1798",
    "\u1112\u1161\u11ab", "\u845b\U000e0100", "\uff27\uff25\uff2c\uff10", "<s>", "&amp;", "  ", "\n",
]  # fmt: skip
ODD = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 0.5, -0.0, float("nan"), float("inf"), "", "a", "\ud800",
    "\x00", "[", "../../etc/passwd", [], [[]], {}, [None], ["a", 1], {"a": {"b": []}}, [[0, 3]], [[0, 1.5]], [[3, 0]],
    [[0, 2**40]], [0, 3],
]  # fmt: skip


def unicode_text(rng: random.Random, most: int) -> str:
    """Make a text of up to ``most`` characters of a few scripts."""
    scripts, parts, length = rng.choices(SCRIPTS, k=rng.randint(1, 3)), [], rng.randrange(most + 1)
    while length > 0:
        if rng.random() < 0.25:
            part = rng.choice(PHRASES)
        else:
            first, last = rng.choice(scripts)
            part = "".join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, 8)))
        parts.append(part)
        length -= len(part)
    return "".join(parts)


def hostile_text(rng: random.Random) -> str:
    """Make mark-up and printed lists that make patterns go back and forth, up to 5,000 characters."""
    parts = rng.choices(MARKUP, k=rng.randint(1, 12))
    if rng.random() < 0.3:
        parts.insert(rng.randrange(len(parts)), unicode_text(rng, 20))
    text = "".join(parts)
    return text * rng.randint(1, 5000 // len(text) + 1) if rng.random() < 0.05 else text


def raw_field(rng: random.Random) -> Any:
    """Make the raw value of a field: a text, a list, an array, a printed list, or anything else."""
    way = rng.randrange(8)
    if way < 4:
        return hostile_text(rng)
    kinds: list[Any] = [hostile_text(rng), unicode_text(rng, 9), None, 1.5, b"pen", [["x"]]]
    values = rng.choices(kinds, k=rng.randrange(4))
    if way == 4:
        array = np.array([*values, None], dtype=object)[:-1]
        return rng.choice([values, tuple(values), array, {"a": values}, iter(values)])
    printed = rng.choice([str(values), json.dumps(values, default=str), str(np.array([*values, ""], dtype=object))])
    if way == 7:
        return odd_value(rng)
    return mutated(rng, printed.encode("utf-8", "replace")).decode("utf-8", "replace") if way == 6 else printed


def odd_value(rng: random.Random) -> Any:
    """Choose a value that is seldom what was expected; some are nested deep."""
    value = rng.choice(ODD)
    if rng.random() < 0.03:
        for _ in range(rng.choice([60, 400])):
            value = [value] if rng.random() < 0.7 else {"a": value}
    return value


TOKENS = [
    b'"', b"'", b"\x00", b"\xff", b"\r", b"\n", b"\r\n", b"\t", b",", b";", b"null", b"NaN", b"nan", b"[", b"]", b"{",
    b"}", b":", b"1e999", b"-1", b"\xef\xbb\xbf", b"9" * 30, b"\\ud800", b"\\", b"\x1b[2J", b"[]" * 9, b"0.0", b"true",
    b"\xe2\x80\xa8", b"-0",
]  # fmt: skip


def mutated(rng: random.Random, data: bytes, most: int = 4) -> bytes:
    """Spoil bytes in a few places: flip, set, cut, repeat, insert."""
    found = bytearray(data)
    for _ in range(rng.randint(1, most)):
        at = rng.randrange(len(found) + 1)
        end = min(len(found), at + rng.choice([1, 2, 9, 99]))
        way = rng.randrange(7)
        if way == 0 and at < len(found):
            found[at] ^= 1 << rng.randrange(8)
        elif way == 1 and at < len(found):
            found[at] = rng.randrange(256)
        elif way == 2:
            del found[at:end]
        elif way == 3:
            found[at:at] = found[at:end] * rng.choice([1, 2, 20])
        elif way in (4, 5):
            found[at:at] = rng.choice(TOKENS)
        elif rng.random() < 0.2:
            del found[at:]
    return bytes(found)


def spoiled(rng: random.Random, data: bytes, most: int = 3) -> bytes:
    """Spoil bytes of a binary file: most of the time its length stays."""
    found = bytearray(data)
    for _ in range(rng.randint(1, most)):
        at = rng.randrange(len(found))
        if rng.random() < 0.5:
            found[at] ^= 1 << rng.randrange(8)
        else:
            width = rng.choice([1, 2, 4, 8])
            value = rng.choice([0, 1, 255, 2**15, 2**31, 2**63 - 1, 2**64 - 1, rng.randrange(2**64)]) % 2 ** (8 * width)
            found[at : at + width] = value.to_bytes(width, "little")
    if rng.random() < 0.1:
        found = found[: rng.randrange(len(found))] if rng.random() < 0.5 else found + rng.randbytes(rng.randrange(99))
    return bytes(found)


def _json_lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _formats() -> list[tuple[str, str | None, bool, bytes]]:
    """Return a small file of each format: name, format, whether it holds items, content."""
    described = "['Writes.', 'Fine.']"
    found: list[tuple[str, str | None, bool, bytes]] = [
        (name, kind, is_items, text if isinstance(text, bytes) else _json_lines(*text))
        for name, kind, is_items, text in (
            ("X.item.json", None, True, [{"1": {"title": "Pen", "description": described}, "2": {"title": "Ink"}}]),
            ("X.inter.json", None, False, b'{"u": [1, 2, 1], "v": [2]}'),
            ("X.csv", "minionerec", False, b"user_id,history_item_id,item_id\nu,\"['1', '2']\",3\nv,[],1\n"),
            ("X.item", None, True, b"item_id:token\ttitle:token_seq\tv:float_seq\n1\tGel pen\t0.1 2\n2\tPaper\t1\n"),
            ("X.inter", None, False, b"user_id:token\titem_id:token\ttimestamp:float\nu\t2\t5\nu\t1\t1.5\n"),
            ("X.rows.inter", None, False, b"user_id:token\titem_id_list:token_seq\titem_id:token\n0\t1 2 3\t4\n"),
            ("meta.json", "amazon2018", True, [{"asin": "1", "description": ["a", "<b>c</b>"]}, {"asin": "2"}]),
            ("X.json", "amazon2018", False, [{"reviewerID": "u", "asin": "1", "unixReviewTime": 1325376000}]),
            (
                "meta.jsonl",
                "amazon2023",
                True,
                [{"parent_asin": "1", "title": "Pen", "store": None, "features": ["a"]}],
            ),
            ("X.jsonl", "amazon2023", False, [{"user_id": "u", "parent_asin": "1", "timestamp": 1325376000000}]),
            ("news.tsv", None, True, b'N1\tsports\tgolf\tA "birdie"\tIt was.\tu\t[]\t[]\n'),
            ("behaviors.tsv", None, False, b"2\tu\t11/12/2019 9:00:00 AM\tN1 N2\tN2-1 N1-0\n"),
            ("X.csv", "hllm", True, b'item_id,title,description\n1,Gel pen,"Writes. ""Fine""."\n2,Paper,NaN\n'),
            ("X.csv", "hllm", False, b"item_id,user_id,timestamp\n2,u,5\n1,u,1\n"),
            ("items.jsonl", None, True, [{"id": 1, "title": "Pen", "description": [["a"], None]}, {"id": "2"}]),
            ("items.json", None, True, [[{"id": 1, "title": "Pen"}, {"id": 2, "title": described}]]),
            ("items.csv", None, True, b'item_id,title\n1,"Gel\npen"\n2,Paper\n'),
            ("items.tsv", None, True, b"item_id\ttitle\n1\tGel pen\n2\tPaper\n"),
            ("events.csv", None, False, b"user_id,item_id,timestamp\nu,2,2024-05-01\nu,1,2024-05-03T18:30:00Z\n"),
        )
    ]
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return found
    stream = io.BytesIO()
    parquet.write_table(pyarrow.table({"item_id": ["1", "2"], "title": [["Gel", "pen"], None]}), stream)
    return [*found, ("items.parquet", None, True, stream.getvalue())]


FORMATS = _formats()


def random_tokenizer(rng: random.Random, number: int) -> Any:
    """Train a tokenizer on random texts; ``number`` chooses its kind, and chance whether it adds a space."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    options: dict[str, Any] = {"special_tokens": ["<pad>", "<s>", "</s>", "<unk>"], "show_progress": False}
    options["vocab_size"], space = rng.randint(3000, 4000), rng.random() < 0.5
    texts = [unicode_text(rng, 60) for _ in range(40)] + ["blue gel pen", "PEN-300x $3.99"] * 5
    core: Any
    trainer: Any
    if number % 4 == 0:
        core = Tokenizer(models.BPE())
        core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=space), decoders.ByteLevel()
        trainer = trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **options)
    elif number % 4 == 1:
        core = Tokenizer(models.WordPiece(unk_token="<unk>"))
        core.normalizer = normalizers.BertNormalizer(lowercase=space)
        core.pre_tokenizer, core.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(**options)
    elif number % 4 == 2:
        core = Tokenizer(models.Unigram())
        scheme = "always" if space else "never"
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
        core.decoder = decoders.Metaspace(prepend_scheme=scheme)
        trainer = trainers.UnigramTrainer(unk_token="<unk>", **options)
    else:
        core = Tokenizer(models.WordLevel(unk_token="<unk>"))
        core.pre_tokenizer = pre_tokenizers.Whitespace() if space else pre_tokenizers.WhitespaceSplit()
        trainer = trainers.WordLevelTrainer(**options)
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
