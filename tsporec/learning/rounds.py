"""Stage 2, prefer: rounds of collecting preferences and training on them. Each starts from the policy of the last."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.digest import digest, fingerprint_of
from tsporec._internal.seeds import seeded
from tsporec._internal.tensors import read_tensors, write_tensors
from tsporec._internal.types import expect
from tsporec.learning.candidates import CandidateConfig
from tsporec.learning.config import ITEM_TRAINING, LearningConfig
from tsporec.learning.preferences import collect_preferences
from tsporec.learning.resume import describe_texts, keep, result, working_in
from tsporec.learning.rewards.base import ProxyReward
from tsporec.selector.model import TokenSelector
from tsporec.tokens.ragged import RaggedTokens

WEIGHTS, CHECKPOINTS = "weights.safetensors", "checkpoints"
TRAINED, ROUND = "trained.json", "round.json"
NETWORK, ITEM_WEIGHTS = "network", "item weights"
Gate = Callable[[TokenSelector], float]


def learn_selector(
    tokens: RaggedTokens,
    selector: TokenSelector,
    reward: ProxyReward,
    folder: str | Path,
    config: LearningConfig,
    quality: Gate | None = None,
    segments: Sequence[int] | NDArray[np.int64] | None = None,
) -> tuple[TokenSelector, list[dict[str, Any]]]:
    """Learn a selector from a reward, in ``config.network_rounds`` and then ``config.item_rounds`` rounds.

    Parameters
    ----------
    tokens : RaggedTokens
        The whole corpus.
    selector : TokenSelector
        Bound to the tokenizer. It is the reference policy of the first round, and is not changed.
    reward : ProxyReward
        Any reward; the recommender behind it may be the user's.
    folder : folder
        The same call resumes the work in it. A folder made from other arguments is refused. ``quality`` is compared
        only in whether it is given.
    config : LearningConfig
    quality : callable, optional
        Held-out quality of a selector. A round that lowers it is dropped. Default: every round is kept.
    segments : ints, optional
        Segments to learn from. Default: all.

    Returns
    -------
    selector, rounds
        The fields of :class:`~tsporec.learning.pipeline.Trained`.

    Raises
    ------
    ValueError
        If another process works in ``folder``, it was made from other arguments, or the reward has no fingerprint.

    Examples
    --------
    >>> import tempfile
    >>> from tsporec.data.synthetic import word_tokenizer
    >>> from tsporec.learning.rewards.coconsumption import CoConsumptionReward
    >>> tokenizer = word_tokenizer("blue gel pen red ink".split())
    >>> ids = tokenizer(["blue gel pen", "red gel pen", "red ink"], add_special_tokens=False)["input_ids"]
    >>> tokens = RaggedTokens.from_lists(ids)
    >>> start = TokenSelector().for_tokenizer(tokenizer).fit(tokens)
    >>> reward, config = CoConsumptionReward(tokens, [[0, 1], [1, 2]]), LearningConfig(budgets=(1,), item_rounds=1)
    >>> selector, rounds = learn_selector(tokens, start, reward, tempfile.mkdtemp(), config)
    >>> rounds[0]["learned"], rounds[0]["kept"]
    ('item weights', True)
    """
    folder = Path(folder)
    expect("config", config, LearningConfig, "a LearningConfig")
    made_from = {
        "texts": describe_texts(tokens), "selector given": selector.fingerprint, "reward": fingerprint_of(reward),
        "segments": "all" if segments is None else digest(np.asarray(segments).tolist()),
        "quality": quality is not None,
        **config.plain(),
    }  # fmt: skip
    best: TokenSelector = selector
    value: float | None = None
    reports: list[dict[str, Any]] = []
    with working_in(folder, made_from):
        if quality is not None:
            path = folder / "start.json"
            value = (result(path) or keep(path, {"quality": quality(selector)}))["quality"]
        for number in range(config.network_rounds + config.item_rounds):
            of_items, place = number >= config.network_rounds, folder / f"round-{number}"
            policy = copy.deepcopy(best)
            policy.tokenizer = best.tokenizer  # copies are made without it
            if of_items and policy.item_weights is None:
                policy = policy.with_item_weights(tokens)
            trained = result(place / TRAINED) or keep(
                place / TRAINED, train_round(tokens, policy, reward, place, config, number, segments)
            )
            policy.load_state_dict(read_tensors(place / WEIGHTS))
            policy.eval()
            shutil.rmtree(place / CHECKPOINTS, ignore_errors=True)
            report = result(place / ROUND) or keep(
                place / ROUND, {**trained, "quality": None if quality is None else quality(policy)}
            )
            kept = value is None or report["quality"] >= value
            reports.append({**report, "learned": ITEM_WEIGHTS if of_items else NETWORK, "kept": kept})
            if kept:
                best, value = policy, report["quality"]
    return best, reports


def train_round(
    tokens: RaggedTokens,
    policy: TokenSelector,
    reward: ProxyReward,
    place: Path,
    config: LearningConfig,
    number: int,
    segments: Sequence[int] | NDArray[np.int64] | None,
) -> dict[str, Any]:
    """Collect preferences of ``policy``, train it on them, and write its weights to ``place``; returns figures.

    The arguments are those of :func:`learn_selector`, with the ``number`` of the round and its folder ``place``.
    """
    from transformers import PrinterCallback

    from tsporec.learning.trainer import PreferenceConfig, PreferenceTrainer, last_checkpoint

    assert policy.tokenizer_fingerprint is not None
    seed, checkpoints = config.seed * 1000 + number, place / CHECKPOINTS
    pairs = collect_preferences(
        tokens,
        policy.score(tokens),
        reward,
        place / "preferences",
        candidates=CandidateConfig(config.budgets, config.candidates, config.uniform, config.swapped),
        pairs=config.pairs,
        tokenizer_fingerprint=policy.tokenizer_fingerprint,
        segments=segments,
        seed=seed,
    )
    of_items = number >= config.network_rounds
    arguments = {**ITEM_TRAINING, **config.item_training} if of_items else config.network_training
    options = {"disable_tqdm": True, "logging_strategy": "no", "seed": seed, **arguments}
    with seeded(seed):  # the Trainer seeds the global generators
        trainer = PreferenceTrainer(policy, PreferenceConfig(output_dir=str(checkpoints), **options), pairs)
        trainer.remove_callback(PrinterCallback)  # it prints every log as a dictionary
        trainer.train(resume_from_checkpoint=last_checkpoint(checkpoints))
    write_tensors(place / WEIGHTS, policy.state_dict())
    return {"pairs": sum(map(len, pairs["budget"])), "accuracy": trainer.state.best_metric}
