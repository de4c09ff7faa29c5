"""Collect preferences: sample candidates, rate them, pair better with worse, and write the pairs to a folder.

A preference dataset separates collecting, which reads with language models, from training, which is small. It has one
parquet file a shard, so collecting resumes after the last finished shard. ``datasets.Dataset.from_generator`` cannot
resume, and keeps a second copy in a cache folder outside the output.
"""

from __future__ import annotations

import errno
import hashlib
import io
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.digest import digest, fingerprint_of
from tsporec._internal.extras import require
from tsporec._internal.files import write_whole
from tsporec._internal.progress import progress
from tsporec.learning.candidates import PAIRS, CandidateConfig, Candidates, sample_candidates
from tsporec.learning.resume import describe_texts, keep, result, working_in
from tsporec.learning.rewards.base import Floats, ProxyReward, checked_rewards
from tsporec.tokens.ragged import RaggedTokens

MANIFEST = "preferences.json"
_ROUNDING = 1e-5  # relative error of a float32 reward that went through a few layers
COLUMNS = {
    "segment": "int64: number of the segment in the corpus (the item's index)",
    "tokenizer": "string: fingerprint of the tokenizer that made the ids",
    "input_ids": "list of int32: ids of the segment's tokens",
    "budget": "list of int32: tokens asked for, of each pair",
    "chosen": "list of lists of int32: places of each pair's better subset in the segment, ascending",
    "rejected": "list of lists of int32: places of each pair's worse subset; as many as in the better one",
    "chosen_reward": "list of float32: proxy reward of each pair's better subset",
    "rejected_reward": "list of float32: proxy reward of each pair's worse subset",
}
"""The columns of a preference dataset. A row is a segment with all of its pairs."""


def collect_preferences(
    tokens: RaggedTokens,
    scores: Floats,
    reward: ProxyReward,
    output: str | Path,
    *,
    tokenizer_fingerprint: str,
    candidates: CandidateConfig | None = None,
    pairs: int = PAIRS,
    segments: Sequence[int] | NDArray[np.int64] | None = None,
    seed: int = 0,
    shard_segments: int = 512,
) -> Any:
    """Collect preference pairs in the folder ``output``; the same call resumes after the last finished shard.

    Parameters
    ----------
    tokens : RaggedTokens
        The whole corpus: N segments of T tokens in all.
    scores : float32 ``[T]``
        Scores of the policy that candidates are sampled from: ``selector.score(tokens)``.
    reward : ProxyReward
        Rates the candidates.
    output : folder
        Nothing is written outside it.
    tokenizer_fingerprint : str
        Fingerprint of the tokenizer that made the ids (:func:`tsporec.tokens.fingerprint.tokenizer_fingerprint`). The
        trainer refuses a selector that is bound to another tokenizer.
    candidates : CandidateConfig, optional
        How candidates are sampled.
    pairs : int
        Pairs of a segment at a budget, at most. The best candidate is paired with the worst, the second best with the
        second worst, and so on. Equal rewards make no pair. Default: 8.
    segments : ints, optional
        Segments to collect for. Default: all.
    seed : int
        Random seed. Default: 0.
    shard_segments : int
        Segments of a shard. Default: 512.

    Returns
    -------
    datasets.Dataset
        Its columns are :data:`COLUMNS`. A segment without pairs has no row.

    Raises
    ------
    ValueError
        If ``output`` was made from other arguments or is in use, if a reward has no fingerprint, is NaN or has the
        wrong shape, if the rewards of no two candidates differ by more than rounding, or if there are no pairs.
    OSError
        If the disk is full. Finished shards are kept.

    Examples
    --------
    >>> import tempfile
    >>> from tsporec.learning.rewards.coconsumption import CoConsumptionReward
    >>> tokens = RaggedTokens.from_lists([[5, 6, 7], [7, 8, 9], [9, 5, 6]])
    >>> reward, scores = CoConsumptionReward(tokens, [[0, 1], [0, 2]]), np.zeros(9, np.float32)
    >>> pairs = collect_preferences(tokens, scores, reward, tempfile.mkdtemp(), tokenizer_fingerprint="words",
    ...                             candidates=CandidateConfig((1,), count=8), pairs=1)
    >>> pairs[0]["input_ids"], pairs[0]["chosen"]  # 7 stands in items of the same users
    ([7, 8, 9], [[0]])
    """
    require("datasets", extra="train")
    output, config = Path(output), candidates or CandidateConfig()
    if pairs < 1 or shard_segments < 1:
        raise ValueError(f"pairs and shard_segments must be at least 1; found {pairs} and {shard_segments}.")
    chosen = np.arange(len(tokens)) if segments is None else np.asarray(segments, dtype=np.int64)
    made_from = {
        "texts": describe_texts(tokens), "scores": digest(scores), "reward": fingerprint_of(reward),
        "candidates": asdict(config), "pairs": pairs, "segments": digest(chosen), "seed": seed,
        "shard_segments": shard_segments, "tokenizer": tokenizer_fingerprint,
    }  # fmt: skip
    shards = [chosen[start : start + shard_segments] for start in range(0, len(chosen), shard_segments)]
    with working_in(output, made_from):
        if result(output / MANIFEST) is None:
            keep(output / MANIFEST, {"shards": len(shards), "columns": COLUMNS})
        finished = {path.name.rpartition("-")[0] for path in output.glob("preferences-*.parquet")}
        for number, part in enumerate(progress(shards, "preferences")):
            if f"preferences-{number:05d}" not in finished:
                sampled = sample_candidates(scores, tokens, config, seed, part)
                rewards = checked_rewards(reward(tokens, sampled), sampled, type(reward).__name__)
                _write(output, number, _rows(tokens, sampled, rewards, pairs, tokenizer_fingerprint))
        dataset = load_preferences(output)
    _check_depends(dataset)
    return dataset


def load_preferences(folder: str | Path) -> Any:
    """Load the dataset that :func:`collect_preferences` wrote to ``folder``.

    Raises
    ------
    ValueError
        If the folder holds no dataset, an unfinished one, or one without pairs.
    """
    datasets = require("datasets", extra="train")
    folder = Path(folder)
    paths = sorted(folder.glob("preferences-*.parquet"))
    manifest = result(folder / MANIFEST)
    if manifest is None or not paths:
        raise ValueError(f"{folder} holds no preference dataset; write one with collect_preferences.")
    shards = manifest.get("shards")
    if len(paths) != shards:
        raise ValueError(
            f"{folder} has {len(paths)} of {shards} shards; call collect_preferences again with the same arguments to "
            "finish it."
        )
    # Dataset.from_parquet would copy everything to a cache folder.
    dataset = datasets.concatenate_datasets([read_shard(path) for path in paths])
    if len(dataset) == 0:
        raise ValueError(
            f"{folder} has no pairs: all candidates of every segment were equal or equally rewarded. Texts may be no "
            "longer than the budget: use smaller budgets or longer texts. Or the reward does not depend on the tokens: "
            "check that the recommender reads the item's text, and that the spans are those of the text."
        )
    return dataset


def read_shard(path: Path) -> Any:
    """Read a shard as a dataset; ValueError if its bytes are not those that were written."""
    from datasets import Dataset
    from pyarrow import parquet

    data = path.read_bytes()
    if not path.stem.endswith(f"-{_checksum(data)}"):
        raise ValueError(f"{path} is damaged: its checksum is not the one in its name. Delete it and collect again.")
    return Dataset(parquet.read_table(io.BytesIO(data)))


def _checksum(data: bytes) -> str:
    """Return 16 hexadecimal digits. Parquet's own checksums leave out the headers of pages."""
    return hashlib.sha256(data).hexdigest()[:16]


def _check_depends(dataset: Any) -> None:
    """Refuse rewards of which no two of a segment differ by more than rounding."""
    columns = dataset.with_format("arrow")[:]
    better, worse = (
        columns[f"{side}_reward"].combine_chunks().flatten().to_numpy().astype(np.float64)
        for side in ("chosen", "rejected")
    )
    if (better - worse <= _ROUNDING * np.maximum(np.abs(better), np.abs(worse))).all():
        raise ValueError(
            f"the rewards of all {len(better)} pairs differ by no more than rounding, so the recommender's loss does "
            "not depend on the tokens. Check that it reads the item's text, and that the spans are those of the text."
        )


def _rows(
    tokens: RaggedTokens, candidates: Candidates, rewards: Floats, pairs: int, tokenizer: str
) -> list[dict[str, Any]]:
    """Pair the candidates of each segment and budget; return one row for each segment that has pairs."""
    rows: dict[int, dict[str, Any]] = {}
    groups = candidates.groups()
    order = np.lexsort((-rewards, groups))
    # One array of candidates a group, best first: 10 rewards of 2 groups -> [4, 0, 3, 1, 2], [9, 5, 7, 6, 8]
    for members in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        half = min(pairs, len(members) // 2)
        better, worse = members[:half], members[::-1][:half]
        differ = rewards[better] > rewards[worse]
        if not differ.any():
            continue
        segment = int(candidates.segment[members[0]])
        start = int(tokens.cu_seqlens[segment])
        row = rows.setdefault(
            segment,
            {"segment": segment, "tokenizer": tokenizer, "input_ids": tokens[segment].tolist()}
            | {name: [] for name in COLUMNS if name not in ("segment", "tokenizer", "input_ids")},
        )
        row["budget"] += candidates.budget[better[differ]].tolist()
        for side, found in (("chosen", better[differ]), ("rejected", worse[differ])):
            row[side] += [(candidates[one] - start).tolist() for one in found]
            row[f"{side}_reward"] += rewards[found].tolist()
    return list(rows.values())


def _write(output: Path, number: int, rows: list[dict[str, Any]]) -> None:
    """Write shard ``number``, whose name ends with its checksum."""
    import pyarrow as pa
    from pyarrow import parquet

    places, rewards = pa.list_(pa.list_(pa.int32())), pa.list_(pa.float32())
    types = [pa.int64(), pa.string(), pa.list_(pa.int32()), pa.list_(pa.int32()), places, places, rewards, rewards]
    table = pa.Table.from_pylist(rows, schema=pa.schema(list(zip(COLUMNS, types, strict=True))))
    parquet.write_table(table, stream := io.BytesIO())
    data = stream.getvalue()
    try:
        write_whole(output / f"preferences-{number:05d}-{_checksum(data)}.parquet", data)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(
            error.errno,
            f"the disk is full at {output}; {number} finished shards are kept. Free some space and call again with the "
            "same arguments to resume",
        ) from error
