"""Run the three stages of learning in a row.

:func:`train` does this in ``output``:

1. Prepare the task: tokenise the texts and hold out a tenth of the users.
2. Choose the weighting that learning starts from, if several are named (``trials/``).
3. Warm up two recommenders, if a reward reads with them (stage 1, ``warm-up/``).
4. Prefer: collect preferences and train the selector on them, in rounds (stage 2, ``rounds/``).
5. Save the selector (``selector/``).
6. Adapt a recommender to what the selector keeps (stage 3, ``recommender/``).

A step whose result is there is skipped. So a run that was killed at any point resumes and ends at the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tsporec._internal.digest import digest
from tsporec._internal.extras import require
from tsporec._internal.seeds import seeded
from tsporec.data.items import FIELDS, Interactions, Item
from tsporec.evaluation.task import Task, fit_on_selection, prepare
from tsporec.learning.config import LearningConfig
from tsporec.learning.rewards.base import ProxyReward, reward_fingerprint
from tsporec.learning.rounds import learn_selector
from tsporec.learning.steps import measured, step, working_in
from tsporec.learning.warm_up import made_from, make_reward
from tsporec.metrics import ndcg
from tsporec.recommenders.embedding import EmbeddingRecommender
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.scorers import Scorer
from tsporec.selector.model import TokenSelector
from tsporec.tokens.fingerprint import tokenizer_fingerprint


@dataclass(frozen=True, eq=False)
class Trained:
    """Hold the result of :func:`train`.

    Parameters
    ----------
    selector : TokenSelector
        The learned selector, bound to the tokenizer, with item weights if a round of them was kept.
    recommender : EmbeddingRecommender
        Adapted to the selector's selection at the first budget.
    rounds : list of dict
        For each round: what was ``learned`` ("network" or "item weights"), the number of ``pairs``, the held-out
        preference ``accuracy`` (None if no pair was held out), the held-out ``quality`` (None without a gate) and
        whether the round was ``kept``.
    trials : dict of str to float
        NDCG@10 of last items for each weighting that was tried; see :func:`try_weightings`.
    """

    selector: TokenSelector
    recommender: EmbeddingRecommender
    rounds: list[dict[str, Any]]
    trials: dict[str, float]


def train(
    items: Sequence[Item],
    sequences: Sequence[Interactions],
    model: Any,
    tokenizer: Any,
    output: str | Path,
    config: LearningConfig | None = None,
    *,
    fields: Sequence[str] = FIELDS,
    max_tokens: int | None = 256,
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
        A reward of your own, used instead of those that ``config.rewards`` names.

    Raises
    ------
    ValueError
        If another process works in ``output``, it holds a run with other arguments, or the input is malformed.

    Examples
    --------
    >>> import tempfile
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> from tsporec.data.synthetic import CatalogueConfig, generate
    >>> made = generate(CatalogueConfig(items=30, users=30, tastes=3, words_per_taste=2, phrases=4))
    >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=len(made.tokenizer), n_embd=8, n_layer=1, n_head=2))
    >>> config = LearningConfig(budgets=(2,), item_rounds=1, candidates=4, pairs=1)
    >>> given = made.items, made.train, model, made.tokenizer
    >>> trained = train(*given, tempfile.mkdtemp(), config, fields=["description"])
    >>> [(report["learned"], report["kept"]) for report in trained.rounds]
    [('item weights', True)]
    """
    config, output = config or LearningConfig(), Path(output)
    require("accelerate", extra="train")
    require("datasets", extra="train")
    if config.weightings and reward is not None:
        raise ValueError(
            "weightings are compared on items before the last ones, but the reward given may know the last ones. Leave "
            "config.weightings empty, or name rewards in config.rewards."
        )
    if not any(len(row.item_ids) > 1 for row in sequences):
        raise ValueError(f"none of {len(sequences)} training sequences has two items; there is nothing to learn from.")
    # 1. `prepare` takes the last item of each test row as a target. Nothing is tested here: rows are given as both.
    task = prepare(items, sequences, list(sequences), tokenizer, fields, max_tokens, unknown, config.seed)
    encoder = ItemEncoder(model)
    given = None if reward is None else reward_fingerprint(reward)
    parts = task.fingerprint, encoder.fingerprint, config.plain(), given, tokenizer_fingerprint(tokenizer)

    def untrained(weighting: str) -> TokenSelector:
        with seeded(config.seed):
            selector = TokenSelector(replace(config.selector, weighting=weighting))
        return selector.for_tokenizer(tokenizer).fit(task.tokens)

    def quality(policy: TokenSelector) -> float:
        return adapted_quality(task, encoder, policy, config)

    gate = quality if config.gate else None
    with working_in(output, digest(*parts)):
        # 2.
        trials = try_weightings(task, encoder, untrained, config, output / "trials") if config.weightings else {}
        start = untrained(max(trials, key=lambda name: trials[name]) if trials else config.selector.weighting)
        if reward is None:  # 3.
            reward = make_reward(task, encoder, start, config, output / "warm-up")
        # 4.
        selector, rounds = learn_selector(task.tokens, start, reward, output / "rounds", config, gate)
        step(output / "selector", lambda folder: selector.save_pretrained(folder))  # 5.
        recommender = adapt(task, encoder, selector, config, output / "recommender")  # 6.
    return Trained(selector, recommender, rounds, trials)


def try_weightings(
    task: Task, encoder: ItemEncoder, untrained: Callable[[str], TokenSelector], config: LearningConfig, folder: Path
) -> dict[str, float]:
    """Measure how well learning from each of ``config.weightings`` predicts the last items of training users.

    The stages are run on what came before these items, from ``untrained(weighting)``. ``folder`` keeps what is done. A
    folder made from other arguments is refused.

    Returns
    -------
    dict of str to float
        NDCG@10 at the first budget for each weighting.

    Raises
    ------
    ValueError
        If no training user has three items.
    """
    part, starts = task.last_items(), {name: untrained(name) for name in config.weightings}
    if not part.test:
        raise ValueError(
            "weightings are compared on the last of three items or more, but no training user has three; name one by "
            "SelectorConfig.weighting (--weighting)."
        )

    def trial(name: str) -> dict[str, Any]:
        start, place = starts[name], folder / name
        reward = make_reward(part, encoder, start, config, place / "warm-up")
        selector, _ = learn_selector(part.tokens, start, reward, place / "rounds", config)
        recommender, vectors = fit_on_selection(part, encoder, selector, config.budgets[0], config.recommender)
        return {"ndcg@10": float(ndcg(part.ranks(recommender, vectors), 10).mean())}

    parts = part.fingerprint, encoder.fingerprint, [start.fingerprint for start in starts.values()], config.plain()
    with working_in(folder, digest(*parts)):
        return {
            name: measured(folder / f"{name}.json", lambda name=name: trial(name))["ndcg@10"]  # type: ignore[misc]
            for name in config.weightings
        }


def adapt(
    task: Task, encoder: ItemEncoder, selector: Scorer, config: LearningConfig, folder: Path
) -> EmbeddingRecommender:
    """Fit a recommender on what the selector keeps at the first budget.

    ``folder`` keeps the recommender. A folder made from other arguments is refused.
    """

    def make(part: Path) -> None:
        fit_on_selection(task, encoder, selector, config.budgets[0], config.recommender)[0].save(part)

    step(folder, make, made_from(task, encoder, selector, config))
    return EmbeddingRecommender.load(folder)


def adapted_quality(task: Task, encoder: ItemEncoder, selector: Scorer, config: LearningConfig) -> float:
    """Return NDCG@10 on held-out users of a recommender adapted to the selection, as a mean over the budgets.

    Log-likelihood is not used: it ranks selections by how sure the recommender is, often in the reverse order.
    """
    values = []
    for budget in config.budgets:
        recommender, vectors = fit_on_selection(task, encoder, selector, budget, config.recommender)
        values.append(recommender.held_out_ndcg(vectors, task.held_out))
    return float(np.mean(values))
