"""Measure what a selector keeps of its gain when it is used with a tokenizer it did not learn with.

python -m benchmarks.portability planted --data DIR --model DIR --work DIR --seeds 0,1,2 --output FILE
python -m benchmarks.portability real --data DIR --model DIR --work DIR --selector FOLDER --output FILE

*planted*: a selector learns on a generated catalogue (``tsporec.data.synthetic``), its invented words replaced by real
ones, with SmolLM2's tokenizer, and is then used with others; the figure is the share of planted tokens kept, where each
text keeps as many tokens as are planted in it. *real*: NDCG@10 of a recommender of SmolLM2 tokens, each scored
by the tokens of the other tokenizer it overlaps. The BPE and the Unigram tokenizers are trained on texts that the
selector has not seen: item texts for *planted*, those of the other category for *real*.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.datasets import CATEGORIES, read_task, read_texts
from benchmarks.learning import learn
from benchmarks.options import comma_separated, make_parser
from benchmarks.vocabularies import load_minilm, saved_tokenizer
from tsporec._internal.digest import digest
from tsporec.cli.demo import LEARNING
from tsporec.data.items import Item
from tsporec.data.synthetic import CatalogueConfig, generate
from tsporec.evaluation.evaluator import Evaluator
from tsporec.evaluation.results import environment, write_results
from tsporec.evaluation.task import Task, prepare
from tsporec.scorers import Scorer, make_scorer
from tsporec.selector.model import TokenSelector
from tsporec.tokens.pieces import read_pieces
from tsporec.tokens.ragged import RaggedTokens
from tsporec.topk import cpu

Floats = NDArray[np.float32]


def tokenizers(texts: list[str], work: Path) -> dict[str, Any]:
    """all-MiniLM's WordPiece, and a BPE and a Unigram tokenizer of 30,000 ids trained on ``texts``."""
    found = {"all-MiniLM WordPiece": load_minilm()}
    for kind in ("bpe", "unigram"):
        found[f"{kind} 30,000"] = saved_tokenizer(kind, texts, work / kind)
    return {name: tokenizer for name, tokenizer in found.items() if tokenizer is not None}


# -- planted words


def real_words(tokenizer: Any, count: int, seed: int) -> list[str]:
    """Words of four to nine letters that are one token each, of the 12,000 most frequent ids of a BPE."""
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda piece: piece[1])[:12_000]
    words = [e[1:] for e, _ in pieces if e[0] == "Ġ" and 4 <= len(e[1:]) <= 9 and e[1:].isalpha() and e[1:].islower()]
    return [str(word) for word in np.random.default_rng(seed).permutation([w for w in words if w.isascii()])[:count]]


def tokenised(texts: list[str], planted: NDArray[np.bool_], tokenizer: Any) -> tuple[RaggedTokens, NDArray[np.bool_]]:
    """The tokens of ``texts`` and which of them are part of a planted word; ``planted`` is by word, in order."""
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    truth, first = [], 0
    for text, spans in zip(texts, encoded["offset_mapping"], strict=True):
        word = first + np.cumsum([c == " " for c in text])
        first = int(word[-1]) + 1
        truth += [planted[word[end - 1]] for _, end in spans]
    return RaggedTokens.from_lists(encoded["input_ids"]), np.array(truth)


def recall(scorer: Scorer, tokens: RaggedTokens, truth: NDArray[np.bool_]) -> float:
    """Share of the tokens in ``truth`` kept, where each text keeps as many as it has of them."""
    k = np.bincount(tokens.segment_ids()[truth], minlength=len(tokens)).astype(np.int32)
    kept, _ = cpu.select(scorer.score(tokens), tokens.cu_seqlens, k)
    return float(truth[kept].mean())


def planted(seed: int, model: str, others: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows: recall of idf and of the selector by tokenizer, and the share of the gain that is kept."""
    from transformers import AutoTokenizer

    source = AutoTokenizer.from_pretrained(model)
    catalogue = generate(CatalogueConfig(seed=seed))
    invented = sorted({word for item in catalogue.items for word in item.fields["description"].split()})
    real = dict(zip(invented, real_words(source, len(invented), seed), strict=True))
    texts = [" ".join(real[word] for word in item.fields["description"].split()) for item in catalogue.items]
    items = [Item(item.id, {"description": text}) for item, text in zip(catalogue.items, texts, strict=True)]
    task = prepare(items, catalogue.train, catalogue.test, source, ("description",), seed=seed)
    torch.manual_seed(seed)
    start = TokenSelector().for_tokenizer(source).fit(task.tokens)
    learned, *_ = learn(task, start, replace(LEARNING, seed=seed))
    rows: list[dict[str, Any]] = []
    for name, tokenizer in {"SmolLM2": source, **others}.items():
        tokens, truth = tokenised(texts, catalogue.planted, tokenizer)
        row = {
            "seed": seed, "tokenizer": name, "ids": len(tokenizer),
            "tokens a word": tokens.num_tokens / (600 * 48),
            "idf": recall(TokenSelector().for_tokenizer(tokenizer).fit(tokens), tokens, truth),
            "selector": recall(learned.for_tokenizer(tokenizer), tokens, truth),
        }  # fmt: skip
        first = rows[0] if rows else row
        row["gain kept"] = (row["selector"] - row["idf"]) / (first["selector"] - first["idf"])
        rows.append(row)
        print(row, flush=True)
    return rows


# -- real items


class Ported:
    """Scores tokens of one tokenizer by a selector bound to another: the best score of what a token overlaps."""

    def __init__(self, selector: TokenSelector, other: Any, source: Any) -> None:
        self.selector, self.other, self.pieces = selector.for_tokenizer(other), other, read_pieces(source)
        self.fingerprint = digest("ported", self.selector.fingerprint, self.pieces.fingerprint)

    def score(self, tokens: RaggedTokens) -> Floats:
        """float32 ``[T]``."""
        spelled = [self.pieces.text(tokens[i]) for i in range(len(tokens))]
        encoded = self.other([text for text, _ in spelled], add_special_tokens=False, return_offsets_mapping=True)
        scores = self.selector.score(RaggedTokens.from_lists(encoded["input_ids"]))
        lowest, first, out = float(scores.min()) - 1, 0, []
        for (text, spans), found in zip(spelled, encoded["offset_mapping"], strict=True):
            by_character = np.full(len(text) + 1, lowest, dtype=np.float32)
            for (start, end), score in zip(found, scores[first : first + len(found)], strict=True):
                by_character[start:end] = score
            first += len(found)
            out += [by_character[start : max(end, start + 1)].max() for start, end in spans]
        return np.array(out, dtype=np.float32)


def real(
    data: Path, model: str, work: Path, selector: str, category: str, budgets: list[int], seeds: list[int]
) -> list[dict[str, Any]]:
    """Rows: NDCG@10 at each budget by tokenizer, its gain over head, and the share of the gain that is kept."""
    from tsporec.language_model import cut_layers, load_causal_lm
    from tsporec.recommenders.encoder import ItemEncoder

    lm, source = load_causal_lm(model)
    task: Task = read_task(data, category, source)
    (unseen,) = (other for other in CATEGORIES if other != category)
    others = tokenizers(read_texts(data, unseen), work / f"tokenizers-{unseen}")
    learned = TokenSelector.from_pretrained(selector)
    scorers: dict[str, Scorer] = {"head": make_scorer("head"), "SmolLM2": learned.for_tokenizer(source)}
    scorers.update({name: Ported(learned, other, source) for name, other in others.items()})
    evaluator = Evaluator(task, ItemEncoder(cut_layers(lm, 4)), seeds=seeds, cache=work / "evaluate")
    cells = evaluator.run(scorers, budgets, rivals=["head"]).cells
    gain = {cell.budget: cell.versus["head"]["ndcg@10"][0] for cell in cells if cell.scorer == "SmolLM2"}
    rows = []
    for cell in cells:
        row = {"category": category, "k": cell.budget, "tokenizer": cell.scorer, "NDCG@10": cell.metrics["ndcg@10"]}
        if cell.versus:
            row["minus head"] = cell.versus["head"]["ndcg@10"]
            row["gain kept"] = row["minus head"][0] / gain[cell.budget]
        rows.append(row)
        print(row, flush=True)
    return rows


def main() -> None:
    """Run one of the two."""
    parser = make_parser(__doc__, seeds=[0])
    parser.add_argument("what", choices=["planted", "real"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--selector", default="tsporec/base", help="real: the selector that is measured")
    parser.add_argument("--category", default=CATEGORIES[0], choices=CATEGORIES)
    parser.add_argument("--budgets", type=comma_separated, default=["2", "4", "8", "16"], help="of real")
    options = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    origin = environment(options.seeds[0])
    if options.what == "planted":
        trained = options.work / "tokenizers"
        known = trained.exists()
        texts = [] if known else [text for category in CATEGORIES for text in read_texts(options.data, category)]
        others = tokenizers(texts, trained)
        rows = [row for seed in options.seeds for row in planted(seed, options.model, others)]
    else:
        budgets = [int(budget) for budget in options.budgets]
        rows = real(
            options.data, options.model, options.work, options.selector, options.category, budgets, options.seeds
        )
    write_results(options.output, {"command": options.what, "seeds": options.seeds, "rows": rows}, origin)


if __name__ == "__main__":
    main()
