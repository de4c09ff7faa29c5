"""Make the bundled selector, ``tsporec/selector/base``: a rule with the word frequencies of two catalogues.

python -m benchmarks.bundled --data DIR --model DIR --work DIR

The frequencies are counted by spelling, in four tokenizers: the model's, and a WordPiece, a BPE and a Unigram one of
30,000 ids each, which are trained on the same texts and kept in the work folder.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.datasets import CATEGORIES, read_task, read_texts
from benchmarks.options import make_parser
from tsporec.evaluation.results_file import environment
from tsporec.language_model import load_tokenizer
from tsporec.selector import files, hub
from tsporec.selector.card import model_card
from tsporec.selector.model import SelectorConfig, TokenSelector

KINDS = ("wordpiece", "bpe", "unigram")
SHAPE = SelectorConfig(weighting="placed")
PRIOR = 10.0
"""Texts that every word is assumed to be in."""
DESCRIBED: dict[str, Any] = {
    "summary": "A general rule for product texts, for any tokenizer: by what tokens spell, "
    "idf * sqrt(tf) / (1 + place) ** 0.4, signs last.",
    "terms": "the texts and sequences have their owners' terms and are not part of the package",
    "limits": [
        "English, and the words of two kinds of goods (office, industrial and scientific); other catalogues are less "
        "sure.",
        "A rule: no network has learned in it.",
    ],
    "license": "apache-2.0",
}


def make(corpora: list[Any]) -> TokenSelector:
    """Make the rule, with the frequencies of ``corpora``: pairs of a tokenizer and RaggedTokens."""
    selector = TokenSelector(SHAPE).fit(corpora, prior=PRIOR)
    selector.fitted_texts.zero_()  # none of them is a text of the user's
    return selector


def train_tokenizer(kind: str, texts: list[str], size: int = 30_000) -> Any:
    """Train a tokenizer of ``kind`` (of :data:`KINDS`) with at most ``size`` ids on ``texts``.

    It is cased but for WordPiece, as BERT's uncased one is. Training a Unigram vocabulary again may give another.
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
    """Return :func:`train_tokenizer`'s, kept in ``folder``: the same when it is asked for again."""
    if not folder.exists():
        train_tokenizer(kind, texts).save_pretrained(part := folder.with_name(f".{folder.name}"))
        part.rename(folder)
    return load_tokenizer(folder)


def main() -> None:
    """Make the selector, save it and write its card."""
    parser = make_parser(__doc__, str(hub.BUNDLED / "base"))
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    origin = environment(0)
    texts = [text for category in CATEGORIES for text in read_texts(options.data, category)]
    trained = {kind: saved_tokenizer(kind, texts, options.work / "tokenizers" / kind) for kind in KINDS}
    tokenizers = {"SmolLM2": load_tokenizer(options.model), **trained}
    tasks = {(c, name): read_task(options.data, c, t) for c in CATEGORIES for name, t in tokenizers.items()}
    selector = make([(tokenizers[name], task.tokens) for (_, name), task in tasks.items()])
    sizes = {c: (len(tasks[c, "SmolLM2"].tokens), len(tasks[c, "SmolLM2"].train)) for c in CATEGORIES}
    training = {
        **DESCRIBED,
        "data": [f"{c}, Amazon Reviews 2018 ({items:,} items, {users:,} users)" for c, (items, users) in sizes.items()],
        "tokenizers": [f"{name} ({len(t):,} ids)" + (", trained on the same texts" if name in trained else "")
                       for name, t in tokenizers.items()],
        "environment": origin,
    }  # fmt: skip
    selector.config = replace(selector.config, training=training)
    place = options.output
    shutil.rmtree(place, ignore_errors=True)
    selector.save_pretrained(place)
    (place / files.CARD).write_text(model_card(files.read_config(place / files.CONFIG), hub.DEFAULT))
    print(f"{place}: {sum(file.stat().st_size for file in place.iterdir()):,} bytes")


if __name__ == "__main__":
    main()
