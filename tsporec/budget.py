"""How many tokens each segment may keep."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tsporec._internal.types import is_number, is_whole

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Budget:
    """Say how many tokens each segment may keep: a number, a ratio, or a total for all segments of a sample.

    Give exactly one of ``tokens``, ``keep_ratio`` and ``total``.

    Parameters
    ----------
    tokens : int, optional
        Tokens that each segment may keep, at least 1.
    keep_ratio : float, optional
        Share of each segment's tokens, in (0, 1]. It is rounded up, and a segment with tokens keeps at least one.
    total : int, optional
        Tokens that all segments of a sample keep together. Segments with higher scores get more of them.
    minimum : int
        Tokens that each segment gets before the rest of a ``total`` is shared out. Shorter segments get their length.
        A total that is too small for this is exceeded, so that no item vanishes. Default 1.
    recency : float
        Bonus for recent segments of a ``total``, in units of the scores. The scores of the newest segment are raised
        by ``recency``, those of the oldest by 0, and those between in proportion to their place. Default 0.

    Raises
    ------
    ValueError
        If none or several of the three are given, or a value is out of range.

    Examples
    --------
    >>> cu_seqlens = np.int32([0, 8, 10])  # two segments, of 8 and of 2 tokens
    >>> scores = np.float32([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    >>> Budget(tokens=4).resolve(scores, cu_seqlens).tolist()
    [4, 4]
    >>> Budget(keep_ratio=0.25).resolve(scores, cu_seqlens).tolist()
    [2, 1]
    >>> Budget(total=3).resolve(scores, cu_seqlens).tolist()
    [1, 2]
    """

    tokens: int | None = None
    keep_ratio: float | None = None
    total: int | None = None
    minimum: int = 1
    recency: float = 0.0

    def __post_init__(self) -> None:
        given = [name for name in ("tokens", "keep_ratio", "total") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"a Budget takes exactly one of tokens, keep_ratio and total; found {given or 'none'}. "
                "For example Budget(tokens=16)."
            )
        for name, least in (("tokens", 1), ("total", 1), ("minimum", 0)):
            value = getattr(self, name)
            if value is not None and not (is_whole(value) and value >= least):
                raise ValueError(f"a budget's {name} must be a whole number of at least {least}; found {value!r}.")
        if self.keep_ratio is not None and not (is_number(self.keep_ratio) and 0 < self.keep_ratio <= 1):
            raise ValueError(f"keep_ratio must be a number in (0, 1]; found {self.keep_ratio!r}.")
        if self.total is None and (self.minimum != 1 or self.recency != 0):
            raise ValueError("minimum and recency share out a total; give total=… with them.")
        if not (is_number(self.recency) and np.isfinite(self.recency)):
            raise ValueError(f"recency must be a finite number; found {self.recency!r}.")

    def resolve(
        self,
        scores: NDArray[np.floating],
        cu_seqlens: NDArray[np.int32],
        sample_offsets: ArrayLike | None = None,
        protected: Bools | None = None,
    ) -> NDArray[np.int32]:
        """Return the number of tokens that each segment may keep.

        Selection keeps ``min(max(k, protected), length)`` tokens of a segment.

        A ``total`` alone reads the other arguments. It pays for the protected tokens and the best ``minimum`` tokens of
        each segment. The rest goes to the best remaining tokens of the sample, whichever segment they are in.

        Parameters
        ----------
        scores : float ``[T]``
            NaN ranks below every number. Ties go to the earlier token.
        cu_seqlens : int32 ``[N + 1]``
            Offsets of N segments.
        sample_offsets : int ``[S + 1]``, optional
            Sample ``s`` has the segments ``sample_offsets[s]`` to ``sample_offsets[s + 1]``, oldest first. By default
            all segments are one sample.
        protected : bool ``[T]``, optional
            Tokens that are always kept.

        Returns
        -------
        int32 ``[N]``

        Raises
        ------
        ValueError
            If ``sample_offsets`` do not start at 0, ascend and end at N.
        """
        lengths = np.diff(cu_seqlens)
        if self.tokens is not None:
            return np.full(len(lengths), min(self.tokens, 2**31 - 1), dtype=np.int32)
        if self.keep_ratio is not None:
            # 0.1 is not exact in binary: without the slack, 0.1 * 30 would round up to 4.
            share = np.ceil(lengths * self.keep_ratio - 1e-9).astype(np.int32)
            return np.maximum(share, np.minimum(lengths, 1))
        total, count = int(self.total or 0), len(lengths)
        samples = _checked_samples(sample_offsets, count)
        segment = np.repeat(np.arange(count), lengths)
        sample_of_segment = np.repeat(np.arange(len(samples) - 1), np.diff(samples))
        fixed = np.zeros(len(scores), dtype=bool) if protected is None else protected
        # Value of each token: scores [T] -> float64 [T], protected tokens +inf, NaN -inf.
        value = scores.astype(np.float64) + self.recency * _age(samples, sample_of_segment)[segment]
        value = np.where(fixed, np.inf, np.where(np.isnan(value), -np.inf, value))
        # Tokens that their segment gets in any case: protected ones and its best `minimum`.
        first = fixed | (_rank_within(-value, segment, count) < self.minimum)
        counts: Ints = np.bincount(segment[first], minlength=count)
        # The rest of the total goes to the best of the other tokens: ranks within a sample < the room left in it.
        rest = np.flatnonzero(~first)
        sample = sample_of_segment[segment[rest]]
        room = total - np.bincount(sample_of_segment, weights=counts, minlength=len(samples) - 1)
        won = rest[_rank_within(-value[rest], sample, len(samples) - 1) < room[sample]]
        counts += np.bincount(segment[won], minlength=count)
        return counts.astype(np.int32)


def as_budget(value: Budget | int) -> Budget:
    """Return ``value`` as a :class:`Budget`; a whole number is a number of tokens. Anything else is a ``ValueError``.

    >>> as_budget(16) == Budget(tokens=16)
    True
    """
    if isinstance(value, Budget):
        return value
    if not is_whole(value):
        raise ValueError(
            f"a budget is a Budget or a whole number of tokens; found {value!r} ({type(value).__name__}). "
            "For example budget=16 or budget=Budget(keep_ratio=0.25)."
        )
    return Budget(tokens=int(value))


def truncated_lengths(lengths: Ints, room: int, truncation: str) -> Ints:
    """Return how many tokens of each text (one, or the two of a pair) a tokenizer's truncation leaves of ``room``.

    >>> truncated_lengths(np.array([9, 3]), 8, "longest_first").tolist()
    [5, 3]
    """
    if len(lengths) == 1:
        if truncation == "only_second":
            raise ValueError("truncation='only_second' needs a pair of texts; found one text.")
        return np.minimum(lengths, max(room, 0))
    first, second = lengths.tolist()
    if truncation == "only_first":
        left = [room - second, second]
    elif truncation == "only_second":
        left = [first, room - first]
    elif min(first, second) * 2 <= room:  # the shorter stays whole
        left = [first, room - first] if first <= second else [room - second, second]
    else:
        left = [room - room // 2, room // 2] if first <= second else [room // 2, room - room // 2]
    if min(left) < 0 or (left[0] == 0 and first) or (left[1] == 0 and second):
        raise ValueError(
            f"truncation={truncation!r} cannot bring texts of {first} and {second} tokens to {room}; "
            "use a larger max_length or 'longest_first'."
        )
    return np.array(left)


def levelled_lengths(lengths: Ints, room: int) -> Ints:
    """Return the lengths of spans, the longest lowered to one number of tokens with which all fit into ``room``.

    >>> levelled_lengths(np.array([9, 3, 8]), 14).tolist()
    [5, 3, 5]
    """
    sizes = range(1, int(lengths.max(initial=0)) + 1)
    if most := bisect_right(sizes, room, key=lambda size: int(np.minimum(lengths, size).sum())):
        return np.minimum(lengths, most)
    raise ValueError(
        f"max_length leaves {max(room, 0)} tokens for {len(lengths)} spans, since a text is never cut outside of them; "
        "expected one for each. Use a larger max_length, or shorten the rest of the text."
    )


def _checked_samples(sample_offsets: ArrayLike | None, count: int) -> Ints:
    """Return the offsets of the samples over ``count`` segments: int64 ``[S + 1]``."""
    samples = np.asarray([0, count] if sample_offsets is None else sample_offsets, dtype=np.int64)
    if samples.ndim != 1 or not len(samples) or samples[0] != 0 or samples[-1] != count or (np.diff(samples) < 0).any():
        raise ValueError(
            f"sample_offsets must start at 0, never fall and end at the {count} segments; "
            f"found {samples.reshape(-1)[:8].tolist()}."
        )
    return samples


def _age(samples: Ints, sample_of_segment: Ints) -> Floats:
    """Return each segment's place in its sample, from 0 (oldest) to 1 (newest): float64 ``[N]``.

    >>> _age(np.array([0, 3, 4]), np.array([0, 0, 0, 1])).tolist()
    [0.0, 0.5, 1.0, 0.0]
    """
    place = np.arange(len(sample_of_segment)) - samples[sample_of_segment]
    last = np.maximum(np.diff(samples)[sample_of_segment] - 1, 1)
    age: Floats = place / last
    return age


def _rank_within(keys: Floats, group: Ints, groups: int) -> Ints:
    """Return each key's rank within its group, lowest first, ties to the earlier: int64 ``[M]``.

    >>> _rank_within(np.array([2.0, 1.0, 5.0, 1.0]), np.array([0, 0, 1, 0]), 2).tolist()
    [2, 0, 0, 1]
    """
    order = np.lexsort((keys, group))
    start = np.searchsorted(group[order], np.arange(groups))
    rank = np.empty(len(keys), dtype=np.int64)
    rank[order] = np.arange(len(keys)) - start[group[order]]
    return rank
