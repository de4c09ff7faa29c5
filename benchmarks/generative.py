"""The case ``generative`` of the quality suite: a causal LM reads a prompt with the history and ranks titles.

The prompt shows the last items of a history, each cut to the budget, and the first words of the next item's title
follow. Candidates are the true next item and others sampled at random. They are ranked by the share of their title's
surprisal that the prompt takes away: ``1 - log p(title | prompt) / log p(title)``, where ``log p(title)`` is what the
LM says after a prompt without items. The likelihood alone ranks short and plain titles first whatever the
history (Holtzman et al. 2021, arXiv 2104.08315), and a plain difference long ones.

The LM is not fine-tuned: what was tried made the ranking worse or left it level (``docs/research/generative.md``).
``selector_total`` shares the tokens of a whole prompt out among its items.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.cells import Cell, measured
from tsporec._internal.progress import progress
from tsporec.budget import Budget
from tsporec.collators.selector import SelectorCollator
from tsporec.evaluation.evaluator import Evaluator
from tsporec.recommenders.generative import GenerativeRecommender, PromptTemplate
from tsporec.scorers import Scorer, Scores, make_scorer
from tsporec.tokens.ragged import RaggedTokens

TOTAL = "_total"
"""Ends the name of a scorer whose tokens are shared out among the items of a prompt."""
Row = list[int]


@dataclass(frozen=True)
class GenerativeConfig:
    """Prompts and rows.

    Parameters
    ----------
    history, title_words : int
        Items in a prompt, and words of the next item's title. Default: 4, 6.
    candidates : int
        Items that are ranked, the target among them. Default: 10.
    test_rows : int
        Rows that are sampled to rank. Default: 500.
    """

    history: int = 4
    title_words: int = 6
    candidates: int = 10
    test_rows: int = 500


class Known:
    """Look the scores of a catalogue's texts up, so that no text is scored twice."""

    def __init__(self, tokens: RaggedTokens, scores: Scores) -> None:
        parts = np.split(scores, tokens.cu_seqlens[1:-1])
        self.scores = {ids.tobytes(): part for ids, part in zip(tokens, parts, strict=True)}

    def score(self, tokens: RaggedTokens) -> Scores:
        """Return float32 ``[T]``."""
        return np.concatenate([self.scores[ids.tobytes()] for ids in tokens])


class Generative:
    """Rank by a causal LM that reads prompts of what a scorer keeps.

    Parameters
    ----------
    evaluator : Evaluator
        It holds the task, and keeps scores.
    titles : sequence of str
        The title of each item.
    lm, tokenizer
        The whole language model and its tokenizer.
    config : GenerativeConfig
    dtype : torch.dtype
        Type to compute in.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        titles: Sequence[str],
        lm: Any,
        tokenizer: Any,
        config: GenerativeConfig,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        from transformers import DataCollatorForSeq2Seq

        task, self.config, self.dtype = evaluator.task, config, dtype
        new = np.flatnonzero(task.new)
        rows = np.random.default_rng(1).permutation(new)[: config.test_rows].tolist()
        self.task = replace(task, test=[task.test[i] for i in rows], users=[task.users[i] for i in rows])
        self.evaluator = evaluator
        self.collator = DataCollatorForSeq2Seq(tokenizer)
        short = [" ".join(title.split()[: config.title_words]) for title in titles]
        self.template = PromptTemplate.build(task.tokens, short, tokenizer)
        lm = copy.deepcopy(lm) if lm.dtype != dtype else lm
        for weight in lm.parameters():  # buffers stay: positions need their precision
            weight.data = weight.data.to(dtype)
        self.model = GenerativeRecommender(lm, self.template)

    @cached_property
    def plain(self) -> NDArray[np.float32]:
        """Log-likelihood of every title without a history: float32 ``[N]``."""
        return self.model.plain_log_likelihoods()

    def settings(self) -> dict[str, Any]:
        """Return what decides the figures, beside the task and the scorer."""
        return {"encoder": self.evaluator.encoder.fingerprint, "layers": self.model.model.config.num_hidden_layers,
                "recommender": asdict(self.config), "dtype": str(self.dtype).removeprefix("torch.")}  # fmt: skip

    def fit(self, scorer: Scorer | None, cell: Cell, seed: int, granularity: str = "token") -> dict[str, Any]:
        """Rank the rows. Nothing is fitted, so ``seed`` decides nothing here."""
        tokens, score_seconds = self.task.tokens, 0.0
        if scorer is None or cell.budget is None:
            collator = SelectorCollator(self.collator, make_scorer("head"), Budget(keep_ratio=1.0))
        else:
            total = cell.scorer.endswith(TOTAL)
            budget = Budget(total=cell.budget * self.config.history) if total else Budget(tokens=cell.budget)
            scored = self.evaluator.scores(scorer)
            score_seconds = float(scored["seconds"])
            collator = SelectorCollator(self.collator, Known(tokens, scored["scores"]), budget, granularity=granularity)
        prompts = collator.cut([self.template.feature(row[:-1][-self.config.history :]) for row in self.task.test])
        plain, start = self.plain, time.perf_counter()
        ranks = self._rank(prompts, plain)
        return {
            **measured(self.task, ranks),
            "tokens": sum(len(prompt["input_ids"]) for prompt in prompts),
            "seconds": {"score": score_seconds, "rank": time.perf_counter() - start},
        }

    def _rank(self, prompts: Sequence[Any], plain: NDArray[np.float32]) -> NDArray[np.int64]:
        """Rank each row's target among its candidates: int64 ``[M]``. An equal share counts against it."""
        rng, found = np.random.default_rng(0), []
        for prompt, row in progress(list(zip(prompts, self.task.test, strict=True)), "rank"):
            candidates = self._candidates(row, rng)
            left = self.model.candidate_log_likelihoods(prompt, candidates) / plain[candidates]
            found.append(int((left <= left[0]).sum()))
        return np.array(found)

    def _candidates(self, row: Row, rng: np.random.Generator) -> list[int]:
        """Return the target, then others that are not in the row."""
        size = min(self.config.candidates + len(set(row)), len(self.task.tokens))
        others = rng.choice(len(self.task.tokens), size=size, replace=False).tolist()
        return [row[-1], *[item for item in others if item not in row][: self.config.candidates - 1]]
