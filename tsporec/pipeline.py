"""The three stages in a row: warm up a recommender, learn a selector from preferences, adapt the recommender to it.

Every step leaves its result in a folder that appears whole or not at all (made beside its place, then renamed), and a
step whose result is there is not run again. So a run that was killed, at any point, goes on where it was, to the same
weights. Each stage can be called alone.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from tsporec.budget import Budget
from tsporec.evaluation import Task, prepare, warm_up_rules
from tsporec.extras import require
from tsporec.files import write_whole
from tsporec.fingerprint import digest, tokenizer_fingerprint
from tsporec.items import FIELDS, Interactions, Item
from tsporec.memory import CatalogueSelector
from tsporec.preference.candidates import CandidateConfig
from tsporec.preference.dataset import collect_preferences
from tsporec.preference.rewards.base import CandidateEncoder, ProxyReward, reward_fingerprint
from tsporec.preference.rewards.coconsumption import CoConsumptionReward
from tsporec.preference.rewards.identity import IdentityReward
from tsporec.preference.rewards.recommendation import RecommendationReward
from tsporec.preference.rewards.weighted import WeightedReward, cross_fitted
from tsporec.ragged import RaggedTokens
from tsporec.recommenders.embedding import EmbeddingConfig, EmbeddingRecommender, make_recommender
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.scorers import Scorer, make_scorer
from tsporec.selection import select
from tsporec.selector import SelectorConfig, TokenSelector

WEIGHTS = "weights.safetensors"
MEMORY = {"learning_rate": 5e-3, "weight_decay": 0.0, "held_out": 0.0, "num_train_epochs": 6, "beta": 0.3}
"""How offsets learn. They say nothing of other segments, so none is held out."""
_SPREAD = 4.0
_REPEATED = 1e-3  # tf-idf's score of what stands in a text for the second time is below 0
Vectors = NDArray[np.float32]
Policy = TokenSelector | CatalogueSelector
Gate = Callable[[Policy], float]


@dataclass(frozen=True)
class LearningConfig:
    """What the three stages do.

    Parameters
    ----------
    budgets : ints
        Tokens of each item; the selector learns at all of them, the recommender is adapted to the first.
    rounds, memory_rounds : int
        On-policy rounds of stage 2: of the selector's network, which serves any text, and then of the offsets of the
        catalogue's own texts (:class:`~tsporec.memory.CatalogueSelector`; 0: none).
    candidates, pairs : int
        Of an item at each budget, in each round.
    uniform, swapped : float
        Shares of candidates; see :class:`CandidateConfig`.
    rewards : name -> weight
        Of "coconsumption", "recommendation" and "identity"; 0 leaves one out. The last two read items with a
        recommender, so they need stage 1.
    start : "tfidf" or "selector"
        What offsets begin from where no round of the network comes before them: a ranking as tf-idf's, or the
        selector's own scores. The first is hard to lose to: on repeated words, the rule of an untrained selector is
        behind it.
    gate : bool
        Drop a round after which a recommender adapted to the selection does worse on held-out users. It costs a fit a
        round and budget, and two fits of one selection may differ by more than two rounds do: on 289 held-out users
        by up to .03 NDCG@10. For catalogues with thousands of them.
    preference, memory : dict
        Arguments of :class:`~tsporec.preference.trainer.PreferenceConfig` for the rounds of either kind, instead of its
        defaults or, for offsets, of :data:`MEMORY`.
    selector : SelectorConfig
    recommender : EmbeddingConfig
        Its seed is replaced by ``seed``.
    seed : int
    """

    budgets: tuple[int, ...] = (8,)
    rounds: int = 0
    memory_rounds: int = 2
    candidates: int = 16
    pairs: int = 8
    uniform: float = 0.3
    swapped: float = 0.4
    rewards: dict[str, float] = field(default_factory=lambda: {"coconsumption": 1.0})
    start: str = "tfidf"
    gate: bool = False
    preference: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    selector: SelectorConfig = field(default_factory=SelectorConfig)
    recommender: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "recommender", replace(self.recommender, seed=self.seed))
        if not self.budgets or min(self.budgets) < 1:
            raise ValueError(f"budgets are one or more numbers of tokens, each at least 1; found {self.budgets}.")
        unknown = sorted(set(self.rewards) - {"coconsumption", "recommendation", "identity"})
        if unknown or not any(self.rewards.values()):
            raise ValueError(
                f"rewards are weights, not all 0, of coconsumption, recommendation and identity; found {self.rewards}."
            )
        if self.start not in ("tfidf", "selector"):
            raise ValueError(f"start is 'tfidf' or 'selector'; found {self.start!r}.")
        if min(self.rounds, self.memory_rounds) < 0 or self.rounds + self.memory_rounds < 1:
            raise ValueError(
                f"at least one round is needed and none less than 0; found rounds={self.rounds} and "
                f"memory_rounds={self.memory_rounds}."
            )


@dataclass(frozen=True, eq=False)
class Trained:
    """What :func:`train` leaves.

    Parameters
    ----------
    selector : TokenSelector, or CatalogueSelector if a memory round was kept
    recommender : EmbeddingRecommender
        Adapted to the selector's selection at the first budget.
    rounds : list of dict
        Of each round: held-out ``quality``, whether it was ``kept``, pairs, held-out preference accuracy (None where
        nothing was held out), and whether it was one ``memory`` learned in.
    """

    selector: Policy
    recommender: EmbeddingRecommender
    rounds: list[dict[str, Any]]


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
    """Run the three stages; run again with the same arguments, it goes on where it was stopped.

    Stage 1 is run where a reward needs its recommenders: the default one does not.

    Parameters
    ----------
    items, sequences : the catalogue and what users did (training data only)
        A tenth of the users is held out to choose by.
    model : a Hugging Face causal LM
        Reads the items; stays as it is. Cut it with :func:`tsporec.language_model.cut_layers` for speed.
    tokenizer : the model's
    output : folder
        Gets ``rounds/``, ``selector/``, ``recommender/`` and, from stage 1, ``warm-up/``.
    config : LearningConfig, optional
    fields, max_tokens, unknown : as in :func:`tsporec.evaluation.prepare`
    reward : ProxyReward, optional
        Instead of those that ``config.rewards`` names.

    Raises
    ------
    ValueError
        If ``output`` holds a run with other arguments, or the input is not what it should be.
    """
    config, output = config or LearningConfig(), Path(output)
    require("accelerate", extra="train")
    require("datasets", extra="train")
    given = "" if reward is None else reward_fingerprint(reward)
    if not any(len(row.item_ids) > 1 for row in sequences):
        raise ValueError(f"none of {len(sequences)} training sequences has two items; there is nothing to learn from.")
    # The last item of a row is a target to prepare; here it is only learned from.
    task = prepare(items, sequences, list(sequences), tokenizer, fields, max_tokens, unknown, config.seed)
    encoder = ItemEncoder(model)
    _claim(
        output,
        digest(
            task.tokens.ids, task.tokens.cu_seqlens, task.train, task.held_out, encoder.fingerprint, _plain(config),
            given, tokenizer_fingerprint(tokenizer),
        ),
    )  # fmt: skip
    torch.manual_seed(config.seed)
    embeddings = model.get_input_embeddings().weight if config.selector.table == "embeddings" else None
    start = TokenSelector(config.selector).for_tokenizer(tokenizer, embeddings=embeddings).fit(task.tokens)
    if reward is None:
        reward = make_reward(task, encoder, start, config, output / "warm-up")

    def quality(policy: Policy) -> float:
        return adapted_quality(task, encoder, policy, config)

    gate = quality if config.gate else None
    selector, rounds = learn_selector(task.tokens, start, reward, output / "rounds", config, gate)
    if isinstance(selector, CatalogueSelector):
        selector.max_tokens = max_tokens
    _step(output / "selector", lambda folder: selector.save_pretrained(folder))
    recommender = adapt(task, encoder, selector, config, output / "recommender")
    return Trained(selector, recommender, rounds)


# -- stage 1


def warm_up(
    task: Task, encoder: ItemEncoder, policy: Scorer, config: LearningConfig, folder: Path
) -> tuple[Vectors, list[tuple[EmbeddingRecommender, list[list[int]]]]]:
    """Fit two recommenders on token subsets of the budgets in use, each on half of the users.

    ``folder`` keeps them, and is refused where it has those of other arguments.

    Returns
    -------
    reference : float32 ``[N, W]``
        The mean over views of every item.
    folds : two pairs of a recommender and the training sequences it has *not* seen
    """

    def make(part: Path) -> None:
        views = warm_up_views(task.tokens, encoder, policy, config.budgets)
        np.save(part / "reference.npy", views.mean(axis=0))
        for fold in range(2):
            recommender = make_recommender(views.shape[2], config.recommender)
            recommender.fit(views, task.train[fold::2], task.held_out, f"warm-up {fold + 1}/2")
            recommender.save(part / f"fold-{fold}")

    _step(folder, make, _made_from(task, encoder, policy.score(task.tokens), config))
    reference: Vectors = np.load(folder / "reference.npy", allow_pickle=False)
    return reference, [
        (EmbeddingRecommender.load(folder / f"fold-{fold}"), task.train[1 - fold :: 2]) for fold in range(2)
    ]


def warm_up_views(tokens: RaggedTokens, encoder: ItemEncoder, policy: Scorer, budgets: Sequence[int]) -> Vectors:
    """float32 ``[V, N, W]``: all items as the rules of a warm-up and the policy keep them at each budget."""
    rules = [*warm_up_rules(tokens), policy]
    return np.stack(
        [encoder.encode(select(rule, tokens, Budget(tokens=b)).apply(tokens)) for b in budgets for rule in rules]
    )


def make_reward(
    task: Task, encoder: ItemEncoder, policy: Scorer, config: LearningConfig, folder: Path
) -> WeightedReward:
    """The rewards that ``config.rewards`` names; stage 1 runs where one of them needs a recommender."""
    weights = {name: weight for name, weight in config.rewards.items() if weight}
    made: dict[str, ProxyReward] = {}
    if "coconsumption" in weights:
        made["coconsumption"] = CoConsumptionReward(task.tokens, task.train)
    if weights.keys() & {"recommendation", "identity"}:
        reference, folds = warm_up(task, encoder, policy, config, folder)
        encode = CandidateEncoder(encoder)
        if "recommendation" in weights:
            made["recommendation"] = cross_fitted(
                [RecommendationReward(encode, model, reference, unseen) for model, unseen in folds]
            )
        if "identity" in weights:
            made["identity"] = cross_fitted([IdentityReward(encode, reference, model) for model, _ in folds])
    return WeightedReward(made, weights)


# -- stage 2


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

    The first rounds train the network; those after them, offsets of the tokens of ``tokens``, which without a first
    round begin from ``config.start``.

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
    given = (tokens.ids, tokens.cu_seqlens, selector.fingerprint, reward_fingerprint(reward), _plain(config), chosen)
    _claim(folder, digest(*given))
    best: Policy = selector if config.rounds or config.start == "selector" else as_tfidf(selector, tokens)
    value = None if quality is None else _measured(folder / "start.json", lambda: {"quality": quality(best)})["quality"]
    rounds = []
    for number in range(config.rounds + config.memory_rounds):
        place, of_memory = folder / f"round-{number}", number >= config.rounds
        trained = copy.deepcopy(best)
        if of_memory and isinstance(trained, TokenSelector):
            trained = CatalogueSelector(trained, tokens)
        arguments = {**MEMORY, **config.memory} if of_memory else config.preference
        report = _measured(
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


def as_tfidf(selector: TokenSelector, tokens: RaggedTokens) -> CatalogueSelector:
    """A selector whose offsets rank the tokens of each of ``tokens`` as tf-idf does, with room for learning.

    Logits are logarithms, spread about as wide as the inverse document frequencies of the selector's own rule.
    """
    scores = make_scorer("tfidf").fit(tokens).score(tokens)
    logits = _SPREAD * np.log(np.maximum(scores, _REPEATED))
    return CatalogueSelector(selector, tokens).with_scores(tokens, logits.astype(np.float32))


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

    from tsporec.preference.trainer import PreferenceConfig, PreferenceTrainer, last_checkpoint

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

    report = _measured(place / "optimised.json", optimise)
    policy.load_state_dict(load_file(place / WEIGHTS))
    policy.eval()
    shutil.rmtree(place / "checkpoints", ignore_errors=True)
    return {**report, "quality": None if quality is None else quality(policy)}


# -- stage 3


def adapt(
    task: Task, encoder: ItemEncoder, selector: Scorer, config: LearningConfig, folder: Path
) -> EmbeddingRecommender:
    """Fit a recommender on what the selector keeps at the first budget.

    ``folder`` keeps it, and is refused where it has that of other arguments.
    """

    def make(part: Path) -> None:
        _fit(task, encoder, selector, config.budgets[0], config)[0].save(part)

    _step(folder, make, _made_from(task, encoder, selector.score(task.tokens), config))
    return EmbeddingRecommender.load(folder)


def adapted_quality(task: Task, encoder: ItemEncoder, selector: Scorer, config: LearningConfig) -> float:
    """Mean over budgets of NDCG@10 on held-out users, at every place, of a recommender adapted to the selection.

    Not their log-likelihood: that ranks selections by how sure the recommender is, and often the other way round.
    """
    values = []
    for budget in config.budgets:
        recommender, vectors = _fit(task, encoder, selector, budget, config)
        values.append(recommender.held_out_ndcg(vectors, task.held_out))
    return float(np.mean(values))


def _fit(
    task: Task, encoder: ItemEncoder, selector: Scorer, budget: int, config: LearningConfig
) -> tuple[EmbeddingRecommender, Vectors]:
    vectors = encoder.encode(select(selector, task.tokens, Budget(tokens=budget)).apply(task.tokens))
    recommender = make_recommender(vectors.shape[1], config.recommender)
    return recommender.fit(vectors, task.train, task.held_out, f"adapt to {budget} tokens"), vectors


# -- going on


def _made_from(task: Task, encoder: ItemEncoder, scores: NDArray[np.float32], config: LearningConfig) -> str:
    return digest(
        task.tokens.ids, task.tokens.cu_seqlens, task.train, task.held_out, encoder.fingerprint, scores, _plain(config)
    )


def _step(folder: Path, make: Callable[[Path], Any], key: str | None = None) -> None:
    """Make ``folder`` by ``make(part)``, unless it is there; made from another ``key``, it is refused."""
    if not folder.exists():
        part = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        make(part)
        if key is not None:
            _claim(part, key)
        os.replace(part, folder)
    if key is not None:
        _claim(folder, key)


def _measured(path: Path, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``measure`` gives, kept as JSON at ``path``."""
    if not path.exists():
        found = measure()
        write_whole(path, (json.dumps(found) + "\n").encode())
    known: dict[str, Any] = json.loads(path.read_text())
    return known


def _claim(output: Path, key: str) -> None:
    found = _measured(output / "run.json", lambda: {"made_from": key})
    if found["made_from"] != key:
        raise ValueError(f"{output} holds a run with other arguments; give another folder, or delete it to start anew.")


def _plain(config: LearningConfig) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return plain
