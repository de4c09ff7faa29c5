"""Choose the rule of the bundled selector by validation rows; the test rows are left alone.

python -m benchmarks.rule --data DIR --model DIR --work DIR --output benchmarks/results/rule.json

A rule has the frequencies of one category, in four tokenizers, and is judged on the other: a frozen recommender, which
learned from what came before each user's first row of ``X.valid.csv``, ranks the targets of all of these rows by what
the rule keeps of the items. Its weights were chosen by the mean over both categories and budgets, on which their
neighbours, and other priors, are level.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.datasets import CATEGORIES, read_catalogue, read_task, read_texts
from benchmarks.learning import RULE, untrained
from benchmarks.options import make_parser
from benchmarks.real import BUDGETS, LAYERS, warm_up
from benchmarks.vocabularies import KINDS, saved_tokenizer
from tsporec.budget import Budget
from tsporec.evaluation.evaluator import Evaluator
from tsporec.evaluation.results import environment, write_results
from tsporec.evaluation.task import prepare
from tsporec.language_model import load_causal_lm
from tsporec.metrics import ndcg
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.scorers import Scorer, make_scorer
from tsporec.selection import select
from tsporec.selector.model import TokenSelector
from tsporec.selector.network import SIGNALS
from tsporec.tokens.ragged import RaggedTokens

JUDGED = (8, 16)
"""Budgets, in tokens."""


@dataclass(frozen=True)
class Rule:
    """``4 log idf + log_count * log tf + log_place * log(1 + place)``, of a token at its first place.

    Parameters
    ----------
    log_count, log_place : float
        4 and 0 are tf-idf.
    prior : float
        Texts that every word is assumed to be in; see :meth:`tsporec.TokenSelector.fit`.
    """

    log_count: float = 4.0
    log_place: float = 0.0
    prior: float = 10.0

    def fit(self, corpora: Iterable[tuple[Any, RaggedTokens]]) -> TokenSelector:
        """Make a selector that is this rule, with the frequencies of ``corpora``."""
        selector = TokenSelector(RULE).fit(list(corpora), prior=self.prior)
        with torch.no_grad():
            for signal in ("log_count", "log_place"):
                selector.blend[SIGNALS.index(signal)] = getattr(self, signal)
        return selector


CHOSEN = Rule(log_count=2.0, log_place=-1.6, prior=10.0)
"""The same order as ``idf * sqrt(tf) / (1 + place) ** 0.4``."""
TRIED = [Rule(*pair) for pair in product((4.0, 2.0, 1.0), (0.0, -0.8, -1.6, -2.4))]
TRIED += [replace(CHOSEN, prior=prior) for prior in (1.0, 30.0)]


def read_tokenizers(data: Path, tokenizer: Any, work: Path) -> dict[str, Any]:
    """``tokenizer``, which is SmolLM2's, and one of each other kind, trained on the texts of both categories."""
    texts = [text for category in CATEGORIES for text in read_texts(data, category)]
    return {"SmolLM2": tokenizer, **{kind: saved_tokenizer(kind, texts, work / "tokenizers" / kind) for kind in KINDS}}


def measure(data: Path, model: str, work: Path, seeds: list[int]) -> list[dict[str, Any]]:
    """A row for each baseline and rule: NDCG@10 on either category at either budget, and the mean of these."""
    lm, tokenizer = load_causal_lm(model, LAYERS)
    tokenizers = read_tokenizers(data, tokenizer, work)
    corpora = {c: [(t, read_task(data, c, t).tokens) for t in tokenizers.values()] for c in CATEGORIES}
    tasks, evaluators = {}, {}
    for category in CATEGORIES:
        catalogue = read_catalogue(data, category)
        items, valid = catalogue.items, catalogue.train
        tasks[category] = task = prepare(items, [], valid, tokenizer)
        policy = untrained(tokenizer, task)
        evaluators[category] = Evaluator(task, ItemEncoder(lm), None, seeds, work / "evaluate", warm_up(task, policy))

    def quality(category: str, scorer: Scorer, budget: int) -> float:
        task, evaluator = tasks[category], evaluators[category]
        kept = select(scorer, task.tokens, Budget(tokens=budget)).apply(task.tokens)
        vectors = evaluator.encode(kept)["vectors"]
        return float(np.mean([ndcg(task.ranks(evaluator.warmed(BUDGETS, s), vectors), 10).mean() for s in seeds]))

    rows = []
    for tried in ["head", "tfidf", *TRIED]:
        row: dict[str, Any] = {"scorer": tried} if isinstance(tried, str) else {"scorer": "rule", **asdict(tried)}
        for category, other in (CATEGORIES, CATEGORIES[::-1]):
            scorer: Scorer = (
                make_scorer(tried).fit(tasks[category].tokens)
                if isinstance(tried, str)
                else tried.fit(corpora[other]).for_tokenizer(tokenizer)
            )
            row |= {f"{category}, k = {k}": quality(category, scorer, k) for k in JUDGED}
        row["mean"] = float(np.mean([value for key, value in row.items() if "k = " in key]))
        rows.append(row)
        print(row, flush=True)
    return rows


def main() -> None:
    """Measure, and write the results file."""
    parser = make_parser(__doc__, seeds=[0])
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    origin = environment(options.seeds[0])
    rows = measure(options.data, options.model, options.work, options.seeds)
    write_results(options.output, {"budgets": JUDGED, "seeds": options.seeds, "rows": rows}, origin)


if __name__ == "__main__":
    main()
