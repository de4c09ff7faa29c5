"""Token subsets to compare: what the policy would keep, what chance would, and small changes to the best.

A subset of size k is drawn from the policy ``p(S) ∝ exp(sum of its scores)`` approximately, by Gumbel top-k: the k
best of ``score / temperature + Gumbel noise`` (Kool et al., 2019; sampling without replacement in the order of
Plackett and Luce). Samples from the uniform policy keep the search open, and *swaps* of a few tokens of the policy's
best subset tell single tokens apart, which whole subsets do badly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tsporec.tokens.ragged import RaggedTokens, lengths_to_offsets, ranges
from tsporec.topk import cpu

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Candidates:
    """C token subsets of the segments of a corpus.

    Parameters
    ----------
    segment : int64 ``[C]``
        Whose tokens they are.
    budget : int64 ``[C]``
        What was asked for, in tokens; a shorter segment keeps all of its tokens.
    kept : int64 ``[K]``
        Positions into the packed ``[T]`` tokens, ascending within a candidate.
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
        """The positions of one candidate, a view."""
        return self.kept[self.cu_seqlens[index] : self.cu_seqlens[index + 1]]

    def apply(self, tokens: RaggedTokens) -> RaggedTokens:
        """The tokens of every candidate, in text order: C segments."""
        return tokens.keep(self.kept, self.cu_seqlens)


@dataclass(frozen=True)
class CandidateConfig:
    """How candidates are drawn.

    Parameters
    ----------
    budgets : ints
        Sizes, in tokens.
    count : int
        Candidates of a segment at each budget, the policy's best subset among them.
    uniform, swapped : float
        Shares of uniform samples and of swaps in what remains; the rest are samples of the policy.
    swaps : int
        Tokens a swap changes, at most.
    temperature : float
        Scores are divided by it; higher is nearer to uniform.
    """

    budgets: tuple[int, ...] = (8,)
    count: int = 8
    uniform: float = 0.2
    swapped: float = 0.5
    swaps: int = 2
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not self.budgets or min(self.budgets) < 1:
            raise ValueError(f"budgets must be whole numbers of at least 1 token; found {self.budgets}.")
        if self.count < 2:
            raise ValueError(f"count must be at least 2, for a pair needs two; found {self.count}.")
        if min(self.uniform, self.swapped) < 0 or self.uniform + self.swapped > 1:
            raise ValueError(
                f"uniform and swapped are shares that sum to at most 1; found {self.uniform} and {self.swapped}."
            )
        if self.swaps < 1 or not self.temperature > 0:
            raise ValueError(
                f"swaps must be at least 1 and temperature above 0; found {self.swaps}, {self.temperature}."
            )


def sample_candidates(
    scores: Floats,
    tokens: RaggedTokens,
    config: CandidateConfig,
    seed: int,
    segments: Sequence[int] | Ints | None = None,
) -> Candidates:
    """``count`` subsets of every segment at every budget.

    Parameters
    ----------
    scores : float ``[T]``
        Of the policy.
    tokens : RaggedTokens
        N segments, T tokens.
    config : CandidateConfig
    seed : int
        A segment's candidates follow the seed and its number alone, whatever else is sampled with it.
    segments : ints, optional
        Which to sample; by default all.

    Returns
    -------
    Candidates
        By segment, then budget, the policy's best first. Two candidates may be equal.

    Raises
    ------
    ValueError
        If there is not one finite score a token.
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
    plan = _plan(config)
    noise = _noise(seed, chosen, lengths, len(config.budgets) * config.count * 2)
    parts: list[list[NDArray[np.int64]]] = [[] for _ in chosen]
    draw = 0
    for budget in config.budgets:
        best = _select(policy, cu, np.minimum(lengths, budget))
        for kind in plan:
            first, second = noise[draw], noise[draw + 1]
            draw += 2
            if kind == "best":
                found = best
            elif kind == "swap":
                found = _swap(policy / config.temperature, cu, lengths, best, config.swaps, first, second)
            else:
                key = first if kind == "uniform" else policy / config.temperature + first
                found = _select(key, cu, np.minimum(lengths, budget))
            kept = place[found]
            for i, piece in enumerate(np.split(kept, np.cumsum(np.minimum(lengths, budget))[:-1])):
                parts[i].append(piece)
    flat = [piece for pieces in parts for piece in pieces]
    each = len(config.budgets) * config.count
    return Candidates(
        np.repeat(chosen, each),
        np.tile(np.repeat(np.asarray(config.budgets, dtype=np.int64), config.count), len(chosen)),
        np.concatenate(flat) if flat else np.zeros(0, dtype=np.int64),
        lengths_to_offsets([len(piece) for piece in flat]),
    )


def _plan(config: CandidateConfig) -> list[str]:
    rest = config.count - 1
    uniform, swapped = round(rest * config.uniform), round(rest * config.swapped)
    swapped = min(swapped, rest - uniform)
    return ["best", *["swap"] * swapped, *["policy"] * (rest - uniform - swapped), *["uniform"] * uniform]


def _noise(seed: int, segments: Ints, lengths: Ints, draws: int) -> Floats:
    """Gumbel noise float32 ``[draws, T]``, each segment's from a generator of its own."""
    columns = [
        np.random.default_rng([seed, int(segment)]).gumbel(size=(draws, int(length)))
        for segment, length in zip(segments, lengths, strict=True)
    ]
    return np.concatenate(columns, axis=1).astype(np.float32) if columns else np.zeros((draws, 0), dtype=np.float32)


def _select(key: Floats, cu: NDArray[np.int32], k: Ints) -> Ints:
    return cpu.select(key.astype(np.float32), cu, k.astype(np.int32))[0]


def _swap(
    policy: Floats, cu: NDArray[np.int32], lengths: Ints, best: Ints, swaps: int, first: Floats, second: Floats
) -> Ints:
    """``best`` with 1 to ``swaps`` of each segment's tokens exchanged for others."""
    kept = np.zeros(len(policy), dtype=bool)
    kept[best] = True
    size = (
        np.add.reduceat(np.append(kept, False).astype(np.int64), cu[:-1])
        if len(lengths)
        else np.zeros(0, dtype=np.int64)
    )
    size = np.where(lengths > 0, size, 0)
    # The noise of a segment's first token also says how many it changes; a segment's draw stays its own.
    start = np.append(second, np.float32(0))[np.minimum(cu[:-1], len(second))]
    wanted = 1 + (np.abs(np.modf(start * 7919)[0]) * swaps).astype(np.int64)
    change = np.minimum(np.minimum(wanted, swaps), np.minimum(size, lengths - size))
    out, _ = cpu.select(first - policy, cu, change.astype(np.int32), None, ~kept)
    into, _ = cpu.select(policy + second, cu, change.astype(np.int32), None, kept)
    kept[out], kept[into] = False, True
    return np.flatnonzero(kept)
