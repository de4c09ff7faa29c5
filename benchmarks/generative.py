"""The case ``generative`` of the quality suite: a causal LM reads a prompt with the history and ranks titles.

The prompt shows the last items of a history, each cut to the budget, and the first words of the next item's title
follow. Candidates are the true next item and others sampled at random. They are ranked by the share of their title's
surprisal that the prompt takes away: ``1 - log p(title | prompt) / log p(title)``, where ``log p(title)`` is what the
untrained LM says after a prompt without items. The likelihood alone ranks short and plain titles first whatever the
history (Holtzman et al. 2021, arXiv 2104.08315), and a plain difference long ones.

The last layers of the LM learn to tell the next item of training users from random ones by that share, anew for each
scorer, budget and seed, always on the same rows. ``selector_total`` shares the tokens of a whole prompt out among its
items.
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
from tsporec.language_model import layer_stack
from tsporec.recommenders.generative import GenerativeRecommender, PromptTemplate
from tsporec.scorers import Scorer, Scores, make_scorer
from tsporec.tokens.ragged import RaggedTokens

TOTAL = "_total"
"""Ends the name of a scorer whose tokens are shared out among the items of a prompt."""
Row = list[int]


@dataclass(frozen=True)
class GenerativeConfig:
    """Prompts and training.

    Parameters
    ----------
    history, title_words : int
        Items in a prompt, and words of the next item's title. Default: 4, 6.
    candidates : int
        Items that are ranked, the target among them. Default: 10.
    train_rows, test_rows : int
        Rows that are sampled to train on and to rank. Default: 400, 500.
    train_candidates, train_layers : int
        Items that are told apart while learning, and last layers of the LM that learn. Default: 6, 4.
    epochs, batch_size : int
        Default: 1, 8. With 0 epochs the LM stays as it is.
    learning_rate : float
        Default: 3e-4.
    """

    history: int = 4
    title_words: int = 6
    candidates: int = 10
    train_rows: int = 400
    test_rows: int = 500
    train_candidates: int = 6
    train_layers: int = 4
    epochs: int = 1
    batch_size: int = 8
    learning_rate: float = 3e-4


class Known:
    """Look the scores of a catalogue's texts up, so that no text is scored twice."""

    def __init__(self, tokens: RaggedTokens, scores: Scores) -> None:
        parts = np.split(scores, tokens.cu_seqlens[1:-1])
        self.scores = {ids.tobytes(): part for ids, part in zip(tokens, parts, strict=True)}

    def score(self, tokens: RaggedTokens) -> Scores:
        """Return float32 ``[T]``."""
        return np.concatenate([self.scores[ids.tobytes()] for ids in tokens])


class Generative:
    """Fine-tune a causal LM on prompts of what a scorer keeps.

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
        Type to compute in. Weights that learn stay float32 while they do.
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

        task, self.config, self.dtype, self.lm = evaluator.task, config, dtype, lm
        new = np.flatnonzero(task.new)
        rows = np.random.default_rng(1).permutation(new)[: config.test_rows].tolist()
        self.task = replace(task, test=[task.test[i] for i in rows], users=[task.users[i] for i in rows])
        self.evaluator = evaluator
        self.collator = DataCollatorForSeq2Seq(tokenizer)
        short = [" ".join(title.split()[: config.title_words]) for title in titles]
        self.template = PromptTemplate.build(task.tokens, short, tokenizer)
        places = [s[max(0, i - config.history) : i + 1] for s in task.train for i in range(1, len(s))]
        places = [row for row in places if row[-1] not in row[:-1]]
        order = np.random.default_rng(0).permutation(len(places))[: config.train_rows]
        self.train = [places[i] for i in order]

    @cached_property
    def plain(self) -> NDArray[np.float32]:
        """Log-likelihood of every title by the untrained LM, without a history: float32 ``[N]``."""
        model = copy.deepcopy(self.lm)
        cast(model, self.dtype)
        return GenerativeRecommender(model, self.template).plain_log_likelihoods()

    def settings(self) -> dict[str, Any]:
        """Return what decides the figures, beside the task and the scorer."""
        return {"encoder": self.evaluator.encoder.fingerprint, "layers": self.lm.config.num_hidden_layers,
                "recommender": asdict(self.config), "dtype": str(self.dtype).removeprefix("torch.")}  # fmt: skip

    def fit(self, scorer: Scorer | None, cell: Cell, seed: int, granularity: str = "token") -> dict[str, Any]:
        """Fine-tune the LM and rank the rows."""
        tokens, score_seconds = self.task.tokens, 0.0
        if scorer is None or cell.budget is None:
            collator = SelectorCollator(self.collator, make_scorer("head"), Budget(keep_ratio=1.0))
        else:
            total = cell.scorer.endswith(TOTAL)
            budget = Budget(total=cell.budget * self.config.history) if total else Budget(tokens=cell.budget)
            scored = self.evaluator.scores(scorer)
            score_seconds = float(scored["seconds"])
            collator = SelectorCollator(self.collator, Known(tokens, scored["scores"]), budget, granularity=granularity)
        config, rng, rows = self.config, np.random.default_rng(seed), self.train
        listed = [self._candidates(row, rng, config.train_candidates) for row in rows]
        prompts = collator.cut([self._feature(row) for row in (*rows, *self.task.test)])
        learned, prompts = prompts[: len(rows)], prompts[len(rows) :]
        model, plain = GenerativeRecommender(copy.deepcopy(self.lm), self.template), self.plain
        train_last_layers(model.model, config.train_layers)
        cast(model.model, self.dtype, learning=False)
        start = time.perf_counter()
        with torch.autocast("cpu", self.dtype, enabled=self.dtype != torch.float32):
            model.fit(learned, listed, plain, config.epochs, config.batch_size, config.learning_rate, seed=seed)
        fitted = time.perf_counter() - start
        cast(model.model, self.dtype)
        ranks = self._rank(model, prompts)
        return {
            **measured(self.task, ranks),
            "tokens": sum(len(prompt["input_ids"]) for prompt in prompts),
            "seconds": {"score": score_seconds, "fit": fitted, "rank": time.perf_counter() - start - fitted},
        }

    def _feature(self, row: Row) -> dict[str, Any]:
        """Make the prompt of the last items before a row's target."""
        return self.template.feature(row[:-1][-self.config.history :])

    def _rank(self, model: GenerativeRecommender, prompts: Sequence[Any]) -> NDArray[np.int64]:
        """Rank each row's target among its candidates: int64 ``[M]``. An equal share counts against it."""
        rng, found = np.random.default_rng(0), []
        for prompt, row in progress(list(zip(prompts, self.task.test, strict=True)), "rank"):
            candidates = self._candidates(row, rng, self.config.candidates)
            left = model.candidate_log_likelihoods(prompt, candidates) / self.plain[candidates]
            found.append(int((left <= left[0]).sum()))
        return np.array(found)

    def _candidates(self, row: Row, rng: np.random.Generator, count: int) -> list[int]:
        """Return the target, then others that are not in the row."""
        size = min(count + len(set(row)), len(self.task.tokens))
        others = rng.choice(len(self.task.tokens), size=size, replace=False).tolist()
        return [row[-1], *[item for item in others if item not in row][: count - 1]]


def cast(model: Any, dtype: torch.dtype, learning: bool = True) -> None:
    """Cast the weights, or only those that do not learn. Buffers stay: positions need their precision."""
    for weight in model.parameters():
        if learning or not weight.requires_grad:
            weight.data = weight.data.to(dtype)


def train_last_layers(model: Any, count: int) -> None:
    """Leave the weights below the last ``count`` layers as they are, embeddings included."""
    if count < 1:
        raise ValueError(f"at least the last layer must learn; found {count}.")
    model.requires_grad_(False)
    for layer in layer_stack(model)[-count:]:
        layer.requires_grad_(True)
