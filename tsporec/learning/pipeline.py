"""Run the three stages of learning in a row.

:func:`train` does this in ``output``:

1. Prepare the task: tokenise the texts and hold out a tenth of the users.
2. Choose the rule to start from and how far selections are made distinct, by training users' last items (``starts/``).
3. Warm up two recommenders, if a reward reads with them (stage 1, ``warm-up/``).
4. Prefer: collect preferences and train the selector on them, in rounds (stage 2, ``rounds/``).
5. Make the items' selections distinct and save the selector (``selector/``).
6. Adapt a recommender to what the selector keeps (stage 3, ``recommender/``).

A step whose result is there is skipped. So a run that was killed at any point resumes and ends at the same weights.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.digest import fingerprint_of
from tsporec._internal.extras import require
from tsporec._internal.seeds import seeded
from tsporec._internal.types import expect
from tsporec.budget import Budget
from tsporec.data.items import FIELDS, Interactions, Item, check_records
from tsporec.evaluation.measures import amount, size_of
from tsporec.evaluation.task import Task, encode_selection, prepare
from tsporec.learning.config import LearningConfig
from tsporec.learning.resume import keep, result, step, working_in
from tsporec.learning.rewards.base import ProxyReward
from tsporec.learning.rounds import ROUND, learn_selector
from tsporec.learning.warm_up import made_from, make_reward
from tsporec.metrics import ndcg
from tsporec.recommenders.embedding import EmbeddingRecommender
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.recommenders.ridge import RidgeRecommender
from tsporec.scorers import Scorer
from tsporec.scorers.patterns import Keeping
from tsporec.selector.model import TokenSelector
from tsporec.tokens.fingerprint import tokenizer_fingerprint
from tsporec.tokens.ragged import RaggedTokens

_log = logging.getLogger("tsporec")


@dataclass(frozen=True, eq=False)
class Trained:
    """Hold the result of :func:`train`.

    Parameters
    ----------
    selector : TokenSelector
        The learned selector, bound to the tokenizer. It has item weights if selections were made distinct or a round
        of them was kept.
    recommender : EmbeddingRecommender
        Adapted to the selector's selection at the first budget.
    rounds : list of dict
        For each round: what was ``learned`` ("network" or "item weights"), the number of ``pairs``, the held-out
        preference ``accuracy`` (None if no pair was held out), the held-out ``quality`` (None without a gate) and
        whether the round was ``kept``.
    start : Start
        The rule that was started from, and how far selections were made distinct.
    trials : dict of str to float
        NDCG@10 of last items for each start that was tried; see :func:`choose_start`.
    """

    selector: TokenSelector
    recommender: EmbeddingRecommender
    rounds: list[dict[str, Any]]
    start: Start
    trials: dict[str, float]


class Start(NamedTuple):
    """Name a rule to start from, and the strength with which selections are made distinct.

    >>> str(Start("placed", 1.2)), str(Start("idf", None))
    ('placed, distinct 1.2', 'idf')
    """

    weighting: str
    distinct: float | None

    def __str__(self) -> str:
        return self.weighting if self.distinct is None else f"{self.weighting}, distinct {self.distinct:g}"


def train(
    items: Sequence[Item],
    sequences: Sequence[Interactions],
    model: Any,
    tokenizer: Any,
    output: str | Path,
    config: LearningConfig | None = None,
    *,
    fields: Sequence[str] = FIELDS,
    max_tokens: int | None = None,
    unknown: str = "error",
    reward: ProxyReward | None = None,
) -> Trained:
    """Run the three stages in ``output``; the same call resumes a run that was cut off.

    Parameters
    ----------
    items : sequence of Item
        The catalogue.
    sequences : sequence of Interactions
        The items that training users touched, oldest first. A tenth of the users is held out to choose by.
    model : Hugging Face causal LM
        It reads the items and is not trained. Cut it with :func:`tsporec.language_model.cut_layers` for speed.
    tokenizer : Hugging Face tokenizer
        The model's tokenizer.
    output : folder
        See the list at the top of this module for what it holds.
    config : LearningConfig, optional
        The arguments of the stages.
    fields, max_tokens, unknown
        Arguments of :func:`tsporec.evaluation.task.prepare`.
    reward : ProxyReward, optional
        A reward of your own, used in the rounds instead of those that ``config.rewards`` names.

    Raises
    ------
    ValueError
        If another process works in ``output``, it holds a run with other arguments, or the input is malformed.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> from tsporec.data.synthetic import CatalogueConfig, generate
    >>> made = generate(CatalogueConfig(items=30, users=30, tastes=3, words_per_taste=2, mentions=4))
    >>> _ = torch.manual_seed(0)  # weights of the model, which decide what a round is worth
    >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=len(made.tokenizer), n_embd=8, n_layer=1, n_head=2))
    >>> config = LearningConfig(budgets=(2,), item_rounds=1, candidates=4, pairs=1)
    >>> given = made.items, made.train, model, made.tokenizer
    >>> trained = train(*given, tempfile.mkdtemp(), config, fields=["description"])
    >>> [(report["learned"], report["kept"]) for report in trained.rounds], len(trained.trials)
    ([('item weights', True)], 4)
    """
    expect("output", output, str | Path, "a folder, such as 'run'")
    config, output = config or LearningConfig(), Path(output)
    expect("config", config, LearningConfig, "a LearningConfig")
    check_records(sequences, Interactions, "sequences")
    require("accelerate", extra="train")
    require("datasets", extra="train")
    task = prepare(items, sequences, [], tokenizer, fields, max_tokens, unknown, config.seed)  # 1.
    encoder = ItemEncoder(model)
    arguments = {
        **made_from(task, encoder, config), "tokenizer": tokenizer_fingerprint(tokenizer),
        "reward": None if reward is None else fingerprint_of(reward),
    }  # fmt: skip

    def untrained(weighting: str) -> TokenSelector:
        with seeded(config.seed):
            selector = TokenSelector(replace(config.selector, weighting=weighting))
        return selector.for_tokenizer(tokenizer).fit(task.tokens)

    with working_in(output, arguments):
        marks = finished_marks(output, config, reward)
        if done := sum(mark.exists() for mark in marks):
            _log.info("resumed: %d of %d steps were done", done, len(marks))
        start, trials = choose_start(task, encoder, untrained, config, output / "starts")  # 2.

        def quality(policy: TokenSelector) -> float:
            policy = made_distinct(policy, task.tokens, config.budgets, start)
            return held_out_quality(task, encoder, policy, config.budgets)

        selector = untrained(start.weighting)
        rounds: list[dict[str, Any]] = []
        if config.network_rounds + config.item_rounds:
            if reward is None:  # 3.
                reward = make_reward(task, encoder, selector, config, output / "warm-up")
            gate = quality if config.gate else None
            selector, rounds = learn_selector(task.tokens, selector, reward, output / "rounds", config, gate)  # 4.
        selector = made_distinct(selector, task.tokens, config.budgets, start)  # 5.
        step(output / "selector", lambda folder: selector.save_pretrained(folder))
        TokenSelector.from_pretrained(output / "selector")  # refuses one that was damaged since
        kept = Keeping(selector, tokenizer, config.keep) if config.keep else selector
        recommender = adapt(task, encoder, kept, config, output / "recommender")  # 6.
    return Trained(selector, recommender, rounds, start, trials)


def all_starts(config: LearningConfig) -> list[Start]:
    """Return every pair of a weighting and a strength of ``config``."""
    return [Start(name, strength) for name in config.weightings for strength in config.distinct or (None,)]


def finished_marks(output: Path, config: LearningConfig, reward: ProxyReward | None) -> list[Path]:
    """List a file or folder for each step of a run, which is there when the step is finished.

    >>> [mark.name for mark in finished_marks(Path("run"), LearningConfig(weightings=("idf",)), None)]
    ['0.json', '1.json', 'selector', 'recommender']
    """
    starts, rounds = len(all_starts(config)), config.network_rounds + config.item_rounds
    marks = [output / "starts" / f"{number}.json" for number in range(starts)] if starts > 1 else []
    if rounds and reward is None and (config.rewards.get("recommendation") or config.rewards.get("identity")):
        marks.append(output / "warm-up")
    marks += [output / "rounds" / f"round-{number}" / ROUND for number in range(rounds)]
    return [*marks, output / "selector", output / "recommender"]


def made_distinct(
    selector: TokenSelector, tokens: RaggedTokens, budgets: Sequence[Budget | int], start: Start
) -> TokenSelector:
    """Make the selections of ``tokens`` distinct, as far as ``start`` says."""
    return selector if start.distinct is None else selector.make_distinct(tokens, budgets, start.distinct)


def choose_start(
    task: Task, encoder: ItemEncoder, untrained: Callable[[str], TokenSelector], config: LearningConfig, folder: Path
) -> tuple[Start, dict[str, float]]:
    """Choose the start whose selection best predicts the last items of training users.

    The starts are those of ``config.weightings`` and ``config.distinct``. Each keeps its tokens of the first budget. A
    :class:`~tsporec.recommenders.ridge.RidgeRecommender` learns from the items before the last ones. A single start is
    taken as it is. ``folder`` keeps the figures; one made from other arguments is refused.

    Returns
    -------
    Start, dict of str to float
        The start, and NDCG@10 of new targets for each start that was tried.

    Raises
    ------
    ValueError
        If there are several starts and no training user has three items.
    """
    starts = all_starts(config)
    if len(starts) == 1:
        return starts[0], {}
    part, budget = task.last_items(), config.budgets[0]
    if not part.new.any():
        raise ValueError(
            "starts are compared on the last of three items or more, but no training user has three, the last a new "
            "one; name one weighting (--weighting) and one strength (--distinct)."
        )

    def trial(start: Start) -> float:
        selector = made_distinct(untrained(start.weighting), part.tokens, config.budgets, start)
        return ridge_ndcg(part, encode_selection(part, encoder, selector, budget))

    trials = {}
    with working_in(folder, made_from(part, encoder, config)):
        for number, start in enumerate(starts):
            path = folder / f"{number}.json"
            trials[str(start)] = (result(path) or keep(path, {"ndcg@10": trial(start)}))["ndcg@10"]
    return max(starts, key=lambda start: trials[str(start)]), trials


def adapt(
    task: Task, encoder: ItemEncoder, selector: Scorer, config: LearningConfig, folder: Path
) -> EmbeddingRecommender:
    """Fit a recommender on what the selector keeps at the first budget.

    ``folder`` keeps the recommender. A folder made from other arguments is refused.
    """

    def make(part: Path) -> None:
        vectors = encode_selection(task, encoder, selector, config.budgets[0])
        task.fit(vectors, config.recommender, f"fit to {amount(size_of(config.budgets[0]))}").save(part)

    step(folder, make, made_from(task, encoder, config, selector))
    return EmbeddingRecommender.load(folder)


def held_out_quality(task: Task, encoder: ItemEncoder, selector: Scorer, budgets: Sequence[Budget | int]) -> float:
    """Return NDCG@10 of the next items of held-out users, by a ridge recommender, as a mean over the budgets."""
    part = task.next_items(task.held_out)
    values = [ridge_ndcg(part, encode_selection(task, encoder, selector, budget)) for budget in budgets]
    return float(np.mean(values))


def ridge_ndcg(task: Task, vectors: NDArray[np.float32]) -> float:
    """Return NDCG@10 of the new targets of ``task`` by a ridge recommender that is fitted to its training sequences.

    ``vectors`` float32 ``[N, W]`` are the encoded selections of all items. This takes about a second for 4,000 items.
    """
    if not task.new.any():
        raise ValueError("the target of every row stands in its history; there is nothing to compare selections by.")
    found = ndcg(task.ranks(RidgeRecommender().fit(vectors, task.train), vectors), 10)
    return float(found[task.new].mean())
