"""The seam between collecting preferences (language-model work) and optimising on them (small): a preference dataset.

One parquet row a pair, in shards, each written beside its place and then renamed: what is finished is kept, and a
second call with the same arguments goes on after it.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.digest import digest
from tsporec._internal.extras import require
from tsporec._internal.files import write_whole
from tsporec._internal.progress import progress
from tsporec.learning.candidates import CandidateConfig, Candidates, sample_candidates
from tsporec.learning.rewards.base import Floats, ProxyReward, checked_rewards, reward_fingerprint
from tsporec.learning.rewards.weighted import group_ids
from tsporec.tokens.ragged import RaggedTokens

MANIFEST = "preferences.json"
_ROUNDING = 1e-5  # of rewards: float32 through a few layers
COLUMNS = {
    "segment": "int64: number of the segment in the corpus (the item's index)",
    "budget": "int64: tokens asked for",
    "input_ids": "list of int32: the segment's tokens",
    "chosen": "list of int32: places of the better subset within the segment, ascending",
    "rejected": "list of int32: places of the worse subset; as many",
    "chosen_reward": "float32: proxy reward of the better subset",
    "rejected_reward": "float32: proxy reward of the worse subset",
    "tokenizer": "string: fingerprint of the tokenizer that made the ids",
}
"""The columns of a preference dataset."""


def collect_preferences(
    tokens: RaggedTokens,
    scores: Floats,
    reward: ProxyReward,
    output: str | Path,
    *,
    tokenizer_fingerprint: str,
    candidates: CandidateConfig | None = None,
    pairs: int = 3,
    segments: Sequence[int] | NDArray[np.int64] | None = None,
    seed: int = 0,
    shard_segments: int = 512,
) -> Any:
    """Sample candidates, rate them, pair better with worse, and write the pairs to the folder ``output``.

    Parameters
    ----------
    tokens : RaggedTokens
        The whole corpus: N segments, T tokens.
    scores : float32 ``[T]``
        Of the policy that candidates are drawn from: ``selector.score(tokens)``.
    reward : ProxyReward
    output : folder
        Gone on with if it was begun with the same arguments, refused if with others.
    tokenizer_fingerprint : str
        Of the tokenizer that made the ids (:func:`tsporec.tokens.fingerprint.tokenizer_fingerprint`); the trainer
        refuses a selector bound to another.
    candidates : CandidateConfig, optional
    pairs : int
        Of a segment at a budget, at most: best against worst, second best against second worst, and so on. Equal
        rewards make no pair.
    segments : ints, optional
        Which to collect for; by default all.
    seed : int
    shard_segments : int
        Segments a shard.

    Returns
    -------
    datasets.Dataset
        With the columns of :data:`COLUMNS`.

    Raises
    ------
    ValueError
        If a reward has no fingerprint, is NaN or misshapen, does not depend on the tokens (candidates of every segment
        differ by no more than rounding), or no pair was found.
    OSError
        If the disk is full; finished shards are kept.
    """
    require("datasets", extra="train")
    output, config = Path(output), candidates or CandidateConfig()
    if pairs < 1 or shard_segments < 1:
        raise ValueError(f"pairs and shard_segments must be at least 1; found {pairs} and {shard_segments}.")
    chosen = np.arange(len(tokens)) if segments is None else np.asarray(segments, dtype=np.int64)
    begun = {
        "made_from": digest(
            tokens.ids, tokens.cu_seqlens, scores, reward_fingerprint(reward), asdict(config), pairs, chosen, seed,
            shard_segments, tokenizer_fingerprint,
        ),
        "shards": -(-len(chosen) // shard_segments),
        "columns": COLUMNS,
    }  # fmt: skip
    _begin(output, begun)
    shards = [chosen[start : start + shard_segments] for start in range(0, len(chosen), shard_segments)]
    for number, part in enumerate(progress(shards, description="preferences")):
        path = output / f"pairs-{number:05d}.parquet"
        if path.exists():
            continue
        drawn = sample_candidates(scores, tokens, config, seed, part)
        rewards = checked_rewards(reward(tokens, drawn), drawn, getattr(reward, "name", type(reward).__name__))
        _write(path, _pair(tokens, drawn, rewards, pairs, tokenizer_fingerprint), number)
    dataset = load_preferences(output)
    _check_depends(dataset)
    return dataset


def load_preferences(folder: str | Path) -> Any:
    """The dataset in a folder that :func:`collect_preferences` wrote.

    Raises
    ------
    ValueError
        If there is none, it is not finished, or it has no pairs.
    """
    datasets = require("datasets", extra="train")
    folder = Path(folder)
    manifest = _read_manifest(folder)
    paths = sorted(map(str, folder.glob("pairs-*.parquet")))
    if manifest is None or not paths:
        raise ValueError(f"{folder} holds no preference dataset; write one with collect_preferences.")
    if len(paths) != manifest["shards"]:
        raise ValueError(
            f"{folder} has {len(paths)} of {manifest['shards']} shards: call collect_preferences again with the same "
            "arguments to go on."
        )
    # Not Dataset.from_parquet: that copies everything into a cache folder of its own, known by path and time.
    dataset = datasets.concatenate_datasets([_table(path) for path in paths])
    if len(dataset) == 0:
        raise ValueError(
            f"{folder} has no pairs: all candidates of every segment were equal or equally rewarded. Texts may be no "
            "longer than the budget (use smaller budgets or longer texts), or the reward does not depend on the "
            "tokens: does the recommender read the item's text, and are the spans those of the text?"
        )
    return dataset


def _table(path: str) -> Any:
    from datasets import Dataset
    from pyarrow import parquet

    try:
        return Dataset(parquet.read_table(path))
    except Exception as error:
        raise ValueError(f"{path} is not a parquet file ({error}); delete it and collect again.") from error


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}); delete the folder and collect again.") from error
    return found


def _begin(output: Path, begun: dict[str, Any]) -> None:
    found = _read_manifest(output)
    if found is not None and found != begun:
        raise ValueError(
            f"{output} was begun with other tokens, scores, reward, budgets or seed; give another folder, or delete "
            "it to collect anew."
        )
    if found is None:
        write_whole(output / MANIFEST, (json.dumps(begun, indent=1) + "\n").encode())


def _check_depends(dataset: Any) -> None:
    """Refuse a reward that tells no two candidates of any segment apart by more than rounding."""
    better, worse = (np.asarray(dataset[f"{side}_reward"], dtype=np.float64) for side in ("chosen", "rejected"))
    if (better - worse <= _ROUNDING * np.maximum(np.abs(better), np.abs(worse))).all():
        raise ValueError(
            f"the rewards of all {len(better)} pairs differ by no more than rounding: the recommender's loss does not "
            "depend on the tokens. Does it read the item's text, and are the spans those of the text?"
        )


def _pair(
    tokens: RaggedTokens, candidates: Candidates, rewards: Floats, pairs: int, tokenizer: str
) -> dict[str, list[Any]]:
    groups = group_ids(candidates)
    order = np.lexsort((-rewards, groups))
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for members in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        segment, budget = int(candidates.segment[members[0]]), int(candidates.budget[members[0]])
        start, ids = int(tokens.cu_seqlens[segment]), tokens[segment]
        for better, worse in zip(members[: min(pairs, len(members) // 2)], members[::-1], strict=False):
            if not rewards[better] > rewards[worse]:
                break
            row = (
                segment, budget, ids.tolist(), (candidates[better] - start).tolist(),
                (candidates[worse] - start).tolist(), float(rewards[better]), float(rewards[worse]), tokenizer,
            )  # fmt: skip
            for name, value in zip(COLUMNS, row, strict=True):
                columns[name].append(value)
    return columns


def _write(path: Path, columns: dict[str, list[Any]], finished: int) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    places = pa.list_(pa.int32())
    schema = pa.schema(
        [
            ("segment", pa.int64()), ("budget", pa.int64()), ("input_ids", places), ("chosen", places),
            ("rejected", places), ("chosen_reward", pa.float32()), ("rejected_reward", pa.float32()),
            ("tokenizer", pa.string()),
        ]
    )  # fmt: skip
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        parquet.write_table(pa.table(columns, schema=schema), part)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(
            error.errno,
            f"the disk is full at {path.parent}; {finished} finished shards are kept. Free some space and call again "
            "with the same arguments to go on",
        ) from error
