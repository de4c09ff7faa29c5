"""Sample token subsets to compare.

Three kinds of subsets are sampled. *Policy* samples of size k follow ``p(S) ∝ exp(sum of scores)`` approximately: the k
best of ``score + Gumbel noise`` are kept (Gumbel top-k; Kool et al., 2019). *Uniform* samples keep the search open.
*Swaps* exchange a few tokens of the policy's best subset, which compares single tokens better than whole subsets do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tsporec._internal.types import check_types
from tsporec.budget import Budget, as_budget
from tsporec.tokens.ragged import RaggedTokens, lengths_to_offsets, ranges
from tsporec.topk import cpu

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
SWAPS = 2
"""Tokens that a swap exchanges, at most."""
PAIRS = 8
"""Pairs that are made of a segment's candidates at a budget, at most."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Hold C token subsets of the segments of a corpus.

    Parameters
    ----------
    segment : int64 ``[C]``
        Segment of each candidate.
    budget : int64 ``[C]``
        Tokens asked for. A shorter segment keeps all of its tokens.
    kept : int64 ``[K]``
        Positions in the packed ``[T]`` tokens, ascending within a candidate.
    cu_seqlens : int32 ``[C + 1]``
        Candidate ``c`` is ``kept[cu_seqlens[c]:cu_seqlens[c + 1]]``.
    """

    segment: Ints
    budget: Ints
    kept: Ints
    cu_seqlens: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.segment)

    def __getitem__(self, index: int) -> Ints:
        """Return the positions of one candidate as a view."""
        return self.kept[self.cu_seqlens[index] : self.cu_seqlens[index + 1]]

    @property
    def owner(self) -> Ints:
        """Candidate of each kept position: int64 ``[K]``."""
        return np.repeat(np.arange(len(self)), np.diff(self.cu_seqlens))

    def apply(self, tokens: RaggedTokens) -> RaggedTokens:
        """Return the tokens of every candidate in text order: C segments."""
        items = None if tokens.items is None else tokens.items[self.segment]
        return RaggedTokens(tokens.ids[self.kept], self.cu_seqlens, items)

    def groups(self) -> Ints:
        """Number the pairs of (segment, budget) from 0: int64 ``[C]``."""
        pairs = np.stack([self.segment, self.budget], axis=1)
        return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)


@dataclass(frozen=True)
class CandidateConfig:
    """Configure how candidates are sampled.

    Parameters
    ----------
    budgets : tuple of int or Budget
        Tokens of a segment, or shares of its tokens. Default: ``(8,)``.
    count : int
        Candidates of a segment at each budget. The first is the policy's best subset. Default: 16.
    uniform : float
        Share of uniform samples among the others. Default: 0.3.
    swapped : float
        Share of swaps among the others. The rest are samples of the policy. Default: 0.4.
    """

    budgets: tuple[Budget | int, ...] = (8,)
    count: int = 16
    uniform: float = 0.3
    swapped: float = 0.4

    def __post_init__(self) -> None:
        check_types(self)
        if not self.budgets or any(as_budget(budget).total for budget in self.budgets):
            raise ValueError(f"budgets must be one or more, of tokens or keep_ratio; found {self.budgets}.")
        if self.count < 2:
            raise ValueError(f"count must be at least 2, because a pair needs two; found {self.count}.")
        if min(self.uniform, self.swapped) < 0 or self.uniform + self.swapped > 1:
            raise ValueError(
                f"uniform and swapped must be shares that sum to at most 1; found {self.uniform} and {self.swapped}."
            )

    def kinds(self) -> list[str]:
        """Return the kind of each candidate of a segment at one budget.

        >>> CandidateConfig(count=6, uniform=0.2, swapped=0.4).kinds()
        ['best', 'swap', 'swap', 'policy', 'policy', 'uniform']
        """
        rest = self.count - 1
        uniform = round(rest * self.uniform)
        swapped = min(round(rest * self.swapped), rest - uniform)
        return ["best", *["swap"] * swapped, *["policy"] * (rest - uniform - swapped), *["uniform"] * uniform]


def sample_candidates(
    scores: Floats,
    tokens: RaggedTokens,
    config: CandidateConfig,
    seed: int,
    segments: Sequence[int] | Ints | None = None,
) -> Candidates:
    """Sample ``config.count`` subsets of every segment at every budget.

    Parameters
    ----------
    scores : float ``[T]``
        Scores of the policy.
    tokens : RaggedTokens
        N segments of T tokens in all.
    config : CandidateConfig
    seed : int
        Random seed. A segment's candidates depend on the seed and the segment's number alone.
    segments : ints, optional
        Segments to sample from. Default: all.

    Returns
    -------
    Candidates
        Ordered by segment, then budget, then kind. Two candidates may be equal.

    Raises
    ------
    ValueError
        If there is not one finite score for each token.

    Examples
    --------
    >>> tokens = RaggedTokens.from_lists([[5, 6, 7, 8]])
    >>> found = sample_candidates(np.float32([1, 9, 2, 8]), tokens, CandidateConfig((2,), count=3), seed=0)
    >>> found[0].tolist(), len(found)
    ([1, 3], 3)
    """
    if scores.shape != (tokens.num_tokens,) or not np.isfinite(scores).all():
        raise ValueError(
            f"expected a finite score for each of {tokens.num_tokens} tokens; found shape {scores.shape} with "
            f"{int((~np.isfinite(scores)).sum())} values that are not finite. Check the scorer."
        )
    chosen = np.arange(len(tokens)) if segments is None else np.asarray(segments, dtype=np.int64)
    lengths = tokens.lengths[chosen].astype(np.int64)
    cu = lengths_to_offsets(lengths)
    place = ranges(tokens.cu_seqlens[:-1][chosen], lengths)
    policy = scores[place].astype(np.float32)
    # For each budget: tokens asked of each segment, those that it has, and its best subset
    asked = [as_budget(budget).resolve(policy, cu).astype(np.int64) for budget in config.budgets]
    sizes = [np.minimum(lengths, k) for k in asked]
    best = [_select(policy, cu, size) for size in sizes]
    plan = [(number, kind) for number in range(len(asked)) for kind in config.kinds()]
    noise = _noise(seed, chosen, lengths, 2 * len(plan))
    found = []
    for (number, kind), first, second in zip(plan, noise[::2], noise[1::2], strict=True):
        if kind == "best":
            found.append(best[number])
        elif kind == "swap":
            found.append(_swap(policy, cu, sizes[number], best[number], first, second))
        else:
            found.append(_select(policy + first if kind == "policy" else first, cu, sizes[number]))
    # From one array a sample, each with all segments, to all samples of the first segment, then of the second, …
    size, budget = (np.stack([counts[number] for number, _ in plan]) for counts in (sizes, asked))
    starts = np.cumsum(size).reshape(size.shape) - size
    kept = np.concatenate(found)[ranges(starts.T.reshape(-1), size.T.reshape(-1))]
    return Candidates(
        np.repeat(chosen, len(plan)),
        budget.T.reshape(-1),
        place[kept],
        lengths_to_offsets(size.T.reshape(-1)),
    )


def _noise(seed: int, segments: Ints, lengths: Ints, samples: int) -> Floats:
    """Return Gumbel noise float32 ``[samples, T]``. Each segment has a generator of its own."""
    columns = [
        np.random.default_rng([seed, int(segment)]).gumbel(size=(samples, int(length)))
        for segment, length in zip(segments, lengths, strict=True)
    ]
    return np.concatenate(columns, axis=1).astype(np.float32) if columns else np.zeros((samples, 0), dtype=np.float32)


def _select(key: Floats, cu: NDArray[np.int32], k: Ints, forbidden: NDArray[np.bool_] | None = None) -> Ints:
    """Return the positions int64 of the ``k [N]`` highest keys of each segment."""
    return cpu.select(key.astype(np.float32), cu, k.astype(np.int32), None, forbidden)[0]


def _swap(policy: Floats, cu: NDArray[np.int32], size: Ints, best: Ints, first: Floats, second: Floats) -> Ints:
    """Exchange 1 to ``SWAPS`` tokens of each segment's ``best`` subset for others.

    Low scores leave and high scores enter more often: both sides are Gumbel samples.
    """
    kept = np.zeros(len(policy), dtype=bool)
    kept[best] = True
    # The noise of a segment's first token also gives the number of its swaps: [N] noise -> [N] in 1 .. SWAPS.
    start = np.append(second, np.float32(0))[np.minimum(cu[:-1], len(second))]
    wanted = np.minimum(1 + (np.abs(np.modf(start * 7919)[0]) * SWAPS).astype(np.int64), SWAPS)
    change = np.minimum(wanted, np.minimum(size, np.diff(cu) - size))
    leave = _select(first - policy, cu, change, ~kept)
    enter = _select(policy + second, cu, change, kept)
    kept[leave], kept[enter] = False, True
    return np.flatnonzero(kept)
