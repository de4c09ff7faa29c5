"""Stage 2, prefer: rounds of collecting preferences and training on them, each from the policy of the one before."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from tsporec._internal.digest import digest
from tsporec._internal.files import write_whole
from tsporec.learning.candidates import CandidateConfig
from tsporec.learning.config import MEMORY, LearningConfig
from tsporec.learning.dataset import collect_preferences
from tsporec.learning.rewards.base import ProxyReward, reward_fingerprint
from tsporec.learning.steps import claim, measured
from tsporec.selector.item_weights import CatalogueSelector
from tsporec.selector.model import TokenSelector
from tsporec.tokens.ragged import RaggedTokens

WEIGHTS = "weights.safetensors"
Policy = TokenSelector | CatalogueSelector
Gate = Callable[[Policy], float]


def learn_selector(
    tokens: RaggedTokens,
    selector: TokenSelector,
    reward: ProxyReward,
    folder: str | Path,
    config: LearningConfig,
    quality: Gate | None = None,
    segments: Sequence[int] | NDArray[np.int64] | None = None,
) -> tuple[Policy, list[dict[str, Any]]]:
    """Collect preferences and train on them, for some rounds, each from the policy of the one before.

    The first rounds train the network; those after them, offsets of the tokens of ``tokens``.

    Parameters
    ----------
    tokens : RaggedTokens
        The whole corpus.
    selector : TokenSelector
        Bound to the tokenizer; the reference policy of the first round of the network. It is not changed.
    reward : ProxyReward
        Any: the recommender behind it is the user's.
    folder : folder
        Gone on with if it was begun with the same arguments (``quality`` is not looked at), refused if with others.
    config : LearningConfig
    quality : callable, optional
        Held-out quality of a selector: a round that lowers it is dropped. Without one every round is kept.
    segments : ints, optional
        Segments to learn from; by default all.

    Returns
    -------
    selector, rounds
        As in :class:`Trained`.
    """
    folder = Path(folder)
    chosen = None if segments is None else np.asarray(segments).tolist()
    given = (tokens.ids, tokens.cu_seqlens, selector.fingerprint, reward_fingerprint(reward), config.plain(), chosen)
    claim(folder, digest(*given))
    best: Policy = selector
    value = None if quality is None else measured(folder / "start.json", lambda: {"quality": quality(best)})["quality"]
    rounds = []
    for number in range(config.rounds + config.memory_rounds):
        place, of_memory = folder / f"round-{number}", number >= config.rounds
        trained = copy.deepcopy(best)
        if of_memory and isinstance(trained, TokenSelector):
            trained = CatalogueSelector(trained, tokens)
        arguments = {**MEMORY, **config.memory} if of_memory else config.preference
        report = measured(
            place / "round.json",
            lambda trained=trained, place=place, number=number, arguments=arguments: _round(  # type: ignore[misc]
                tokens, trained, reward, place, config, number, arguments, quality, segments
            ),
        )
        kept = value is None or report["quality"] >= value
        rounds.append({**report, "memory": of_memory, "kept": kept})
        if kept:
            trained.load_state_dict(load_file(place / WEIGHTS))
            best, value = trained, report["quality"]
    return best, rounds


def _round(
    tokens: RaggedTokens,
    policy: Policy,
    reward: ProxyReward,
    place: Path,
    config: LearningConfig,
    number: int,
    arguments: dict[str, Any],
    quality: Gate | None,
    segments: Sequence[int] | NDArray[np.int64] | None,
) -> dict[str, Any]:
    from transformers import PrinterCallback

    from tsporec.learning.trainer import PreferenceConfig, PreferenceTrainer, last_checkpoint

    assert policy.vocabulary is not None
    seed = config.seed * 1000 + number
    pairs = collect_preferences(
        tokens,
        policy.score(tokens),
        reward,
        place / "preferences",
        candidates=CandidateConfig(config.budgets, config.candidates, config.uniform, config.swapped),
        pairs=config.pairs,
        tokenizer_fingerprint=policy.vocabulary.fingerprint,
        segments=segments,
        seed=seed,
    )

    def optimise() -> dict[str, Any]:
        checkpoints = place / "checkpoints"
        args = PreferenceConfig(
            output_dir=str(checkpoints), **{"disable_tqdm": True, "logging_strategy": "no", "seed": seed, **arguments}
        )
        trainer = PreferenceTrainer(policy, args, pairs)
        trainer.remove_callback(PrinterCallback)  # rounds report; a dictionary a log line is not for users
        trainer.train(resume_from_checkpoint=last_checkpoint(checkpoints))
        write_whole(place / WEIGHTS, to_bytes(policy.state_dict()))
        return {"pairs": len(pairs), "accuracy": trainer.state.best_metric}

    report = measured(place / "optimised.json", optimise)
    policy.load_state_dict(load_file(place / WEIGHTS))
    policy.eval()
    shutil.rmtree(place / "checkpoints", ignore_errors=True)
    return {**report, "quality": None if quality is None else quality(policy)}
