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

from tsporec.extras import require
from tsporec.files import write_whole
from tsporec.fingerprint import digest
from tsporec.preference.candidates import CandidateConfig, Candidates, sample_candidates
from tsporec.preference.rewards.base import Floats, ProxyReward, checked_rewards
from tsporec.preference.rewards.weighted import group_ids
from tsporec.progress import progress
from tsporec.ragged import RaggedTokens

MANIFEST = "preferences.json"
COLUMNS = {
    "segment": "int64: number of the segment in the corpus (the item's index)",
    "budget": "int64: tokens asked for",
    "input_ids": "list of int32: the segment's tokens",
    "chosen": "list of int32: places of the better subset within the segment, ascending",
    "rejected": "list of int32: places of the worse subset; as many",
    "chosen_reward": "float32: proxy reward of the better subset",
    "rejected_reward": "float32: proxy reward of the worse subset",
}
"""The columns of a preference dataset."""


def collect_preferences(
    tokens: RaggedTokens,
    scores: Floats,
    reward: ProxyReward,
    output: str | Path,
    *,
    candidates: CandidateConfig | None = None,
    pairs: int = 3,
    tokenizer_fingerprint: str = "",
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
    candidates : CandidateConfig, optional
    pairs : int
        Of a segment at a budget, at most: best against worst, second best against second worst, and so on. Equal
        rewards make no pair.
    tokenizer_fingerprint : str
        Of the tokenizer that made the ids (:func:`tsporec.fingerprint.tokenizer_fingerprint`); the trainer
        refuses a selector bound to another.
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
        If a reward is NaN or misshapen, does not depend on the tokens, or no pair was found.
    OSError
        If the disk is full; finished shards are kept.
    """
    require("datasets", extra="train")
    output, config = Path(output), candidates or CandidateConfig()
    if pairs < 1 or shard_segments < 1:
        raise ValueError(f"pairs and shard_segments must be at least 1; found {pairs} and {shard_segments}.")
    chosen = np.arange(len(tokens)) if segments is None else np.asarray(segments, dtype=np.int64)
    name = getattr(reward, "fingerprint", type(reward).__name__)
    begun = {
        "made_from": digest(
            tokens.ids, tokens.cu_seqlens, scores, name, asdict(config), pairs, chosen, seed, shard_segments
        ),
        "tokenizer": tokenizer_fingerprint,
        "columns": COLUMNS,
    }
    _begin(output, begun)
    shards = [chosen[start : start + shard_segments] for start in range(0, len(chosen), shard_segments)]
    for number, part in enumerate(progress(shards, description="preferences")):
        path = output / f"pairs-{number:05d}.parquet"
        if path.exists():
            continue
        drawn = sample_candidates(scores, tokens, config, seed, part)
        rewards = checked_rewards(reward(tokens, drawn), drawn, getattr(reward, "name", type(reward).__name__))
        _check_depends(rewards, drawn, tokens)
        _write(path, _pair(tokens, drawn, rewards, pairs), number)
    return load_preferences(output)


def load_preferences(folder: str | Path) -> Any:
    """The dataset in a folder that :func:`collect_preferences` wrote.

    Raises
    ------
    ValueError
        If there is none, or it has no pairs.
    """
    datasets = require("datasets", extra="train")
    folder = Path(folder)
    manifest = _read_manifest(folder)
    paths = sorted(map(str, folder.glob("pairs-*.parquet")))
    if manifest is None or not paths:
        raise ValueError(f"{folder} holds no preference dataset; write one with collect_preferences.")
    # Not Dataset.from_parquet: that copies everything into a cache folder of its own, known by path and time.
    dataset = datasets.concatenate_datasets([_table(path) for path in paths])
    if len(dataset) == 0:
        raise ValueError(
            f"{folder} has no pairs: all candidates of every segment were equal or equally rewarded. Texts may be no "
            "longer than the budget; use smaller budgets or longer texts."
        )
    dataset.info.description = json.dumps({"tokenizer": manifest["tokenizer"]})
    return dataset


def dataset_tokenizer(dataset: Any) -> str:
    """The tokenizer's fingerprint that a loaded dataset carries; empty if it carries none."""
    try:
        return str(json.loads(dataset.info.description or "{}").get("tokenizer", ""))
    except (AttributeError, json.JSONDecodeError):
        return ""


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


def _check_depends(rewards: Floats, candidates: Candidates, tokens: RaggedTokens) -> None:
    """Refuse a reward that is one number for all the different candidates of every segment."""
    if len(candidates) == 0:
        return
    groups = group_ids(candidates)
    low = np.full(groups.max() + 1, np.inf, dtype=np.float32)
    high = -low
    np.minimum.at(low, groups, rewards)
    np.maximum.at(high, groups, rewards)
    room = (tokens.lengths[candidates.segment] > candidates.budget).any()
    if room and (low == high).all():
        raise ValueError(
            f"the reward is the same for all candidates of each of {len(low)} segments: the recommender's loss "
            "does not depend on the tokens. Does it read the item's text, and are the spans those of the text?"
        )


def _pair(tokens: RaggedTokens, candidates: Candidates, rewards: Floats, pairs: int) -> dict[str, list[Any]]:
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
                (candidates[worse] - start).tolist(), float(rewards[better]), float(rewards[worse]),
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
