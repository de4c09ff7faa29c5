"""Search for better subsets on a reward, and see what an adapted recommender makes of them.

python -m benchmarks.search --data DIR --model DIR --cache DIR --budget 4 --output FILE

The reward is the strictest that there is: how much likelier the next items of unseen users become when one item's short
text is replaced while all others keep theirs, by two recommenders that are fitted to halves of the training users and
to the short texts around the present ones. Where the gain's mean over both halves is above 0 by more than its standard
error, an item takes its best candidate. A control takes a random candidate for as many items. Rows are each training
user's last item, so no test row is read.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import CATALOGUES, read_task
from benchmarks.learned import untrained
from benchmarks.options import make_parser
from tsporec.evaluation.evaluator import Evaluator
from tsporec.evaluation.results_file import environment, write_results
from tsporec.evaluation.task import Task
from tsporec.language_model import load_causal_lm
from tsporec.learning.candidates import CandidateConfig, Candidates, sample_candidates
from tsporec.learning.pipeline import ridge_ndcg
from tsporec.learning.rewards.base import CandidateEncoder, Floats
from tsporec.learning.rewards.recommendation import RecommendationReward
from tsporec.metrics import ndcg
from tsporec.recommenders.embedding import EmbeddingConfig
from tsporec.recommenders.encoder import ItemEncoder
from tsporec.tokens.ragged import RaggedTokens

LAYERS = 4
VIEWS = 6
"""Candidates of each item that the recommenders of a reward are fitted to, the present selection among them."""


def gains(
    task: Task, encode: CandidateEncoder, sampled: Candidates, count: int, config: EmbeddingConfig
) -> NDArray[np.float64]:
    """Rate ``count`` candidates of each of N items, the first of them in place: gains ``[2, N, count]``, in nats.

    A gain is that of the sum of log-likelihoods over all next items of the users that the recommender has not seen.
    """
    vectors = encode(task.tokens, sampled).reshape(len(task.tokens), count, -1)
    views, present, found = vectors[:, :VIEWS].transpose(1, 0, 2), np.ascontiguousarray(vectors[:, 0]), []
    for fold in range(2):
        half, unseen = Task(task.tokens, task.train[fold::2], task.held_out, [], []), task.train[1 - fold :: 2]
        fitted = half.fit(views, replace(config, seed=config.seed + fold), f"half {fold + 1}/2")
        rated = RecommendationReward(encode, fitted, present, unseen)(task.tokens, sampled).reshape(-1, count)
        # The reward is divided by the number of an item's own contexts plus one.
        touched = np.bincount([i for s in unseen for i in s[1:]], minlength=len(task.tokens)) + 1
        found.append((rated - rated[:, :1]).astype(np.float64) * touched[:, None])
    return np.stack(found)


def better(gain: NDArray[np.float64]) -> NDArray[np.int64]:
    """Choose each item's candidate from gains ``[2, N, M]``: the best by mean less standard error, if above 0.

    >>> better(np.array([[[0.0, 2.0], [0.0, 2.0]], [[0.0, 2.0], [0.0, -2.0]]])).tolist()
    [1, 0]
    """
    lower = gain.mean(axis=0) - gain.std(axis=0, ddof=1) / np.sqrt(2)
    return lower.argmax(axis=1)


def search(
    evaluator: Evaluator, scores: Floats, budget: int, candidates: int, config: EmbeddingConfig
) -> dict[str, Any]:
    """Search one round from the selection of ``scores``; measure the start, what is found, and the control."""
    task, start = evaluator.task, time.perf_counter()
    sampled = sample_candidates(scores, task.tokens, CandidateConfig((budget,), candidates, 0.0, 0.8), config.seed)
    encode, items = CandidateEncoder(evaluator.encoder), np.arange(len(task.tokens))
    gain = gains(task, encode, sampled, candidates, config)
    chosen = better(gain)
    rng = np.random.default_rng(config.seed)
    control = np.where(rng.permutation(chosen > 0), rng.integers(1, candidates, len(items)), 0)
    texts = sampled.apply(task.tokens)
    seconds = time.perf_counter() - start
    rows = {}
    for name, picked in (("start", np.zeros_like(chosen)), ("found", chosen), ("control", control)):
        rows[name] = _measured(evaluator, texts.take(items * candidates + picked), config)
        print(name, rows[name], flush=True)
    between = [np.corrcoef(*gain[:, item, 1:])[0, 1] for item in items if (gain[:, item, 1:].std(axis=1) > 0).all()]
    return {
        "moved": float((chosen > 0).mean()), "agreement of halves": float(np.mean(between)), "seconds": seconds, **rows,
    }  # fmt: skip


def _measured(evaluator: Evaluator, texts: RaggedTokens, config: EmbeddingConfig) -> dict[str, float]:
    task, vectors = evaluator.task, evaluator.encode(texts)["vectors"]
    found = ndcg(task.ranks(task.fit(vectors, config), vectors), 10)
    return {"adapted": float(found[task.new].mean()), "ridge": ridge_ndcg(task, vectors)}


def main() -> None:
    """Search from the placed rule with distinct selections, and write the results file."""
    parser = make_parser(__doc__, seeds=[0])
    parser.add_argument("--catalogue", default=CATALOGUES[0], choices=CATALOGUES)
    parser.add_argument("--budget", type=int, default=4)
    parser.add_argument("--candidates", type=int, default=12)
    parser.add_argument("--cache", type=Path, required=True)
    options = parser.parse_args()
    origin = environment(options.seeds[0])
    lm, tokenizer = load_causal_lm(options.model, LAYERS)
    task = read_task(options.data, options.catalogue, tokenizer).last_items()
    evaluator = Evaluator(task, ItemEncoder(lm), cache=options.cache)
    start = untrained("placed", task, tokenizer).make_distinct(task.tokens, [options.budget]).score(task.tokens)
    settings = {"catalogue": options.catalogue, "budget": options.budget, "candidates": options.candidates}
    rows = [
        {"seed": seed, **search(evaluator, start, options.budget, options.candidates, EmbeddingConfig(seed=seed))}
        for seed in options.seeds
    ]
    settings["recommender"] = asdict(EmbeddingConfig())
    write_results(options.output, {"settings": settings, "rows": rows}, origin)


if __name__ == "__main__":
    main()
