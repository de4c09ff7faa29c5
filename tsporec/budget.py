"""How many tokens each segment may keep."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Budget:
    """A number of tokens, a ratio, or a total that the segments of a sample share.

    Exactly one of ``tokens``, ``keep_ratio`` and ``total`` is given.

    Parameters
    ----------
    tokens : int, optional
        Tokens each segment may keep, at least 1.
    keep_ratio : float, optional
        Share of each segment's tokens, in (0, 1]; rounded up, so a non-empty segment keeps something.
    total : int, optional
        Tokens that all segments of a sample keep together; the segments with the higher scores get more.
    minimum : int
        With ``total``: what every segment gets before the rest is shared out (or its length, if shorter).
        A total too small for it is overrun: an item never vanishes.
    recency : float
        With ``total``: added to the scores, times the segment's place in its sample from 0 (oldest) to 1
        (newest), so that recent items get more. 0 treats all alike; the unit is that of the scores.

    Examples
    --------
    >>> Budget(tokens=16), Budget(keep_ratio=0.25), Budget(total=128, minimum=2)  # doctest: +SKIP
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
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least
            ):
                raise ValueError(f"{name} must be a whole number of at least {least} tokens; found {value!r}.")
        if self.keep_ratio is not None and not 0 < self.keep_ratio <= 1:
            raise ValueError(f"keep_ratio must be in (0, 1]; found {self.keep_ratio!r}.")
        if self.total is None and (self.minimum != 1 or self.recency != 0):
            raise ValueError("minimum and recency share out a total; give total=… with them.")
        if not np.isfinite(self.recency):
            raise ValueError(f"recency must be finite; found {self.recency!r}.")

    def resolve(
        self,
        scores: NDArray[np.floating],
        cu_seqlens: NDArray[np.int32],
        sample_offsets: ArrayLike | None = None,
        protected: NDArray[np.bool_] | None = None,
        forbidden: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.int32]:
        """Tokens asked of each segment: int32 ``[N]``.

        The effective number kept is ``min(max(k, protected), allowed)``, which the top-k operation sees to;
        a total counts protected tokens as spent and never assigns more than a segment's allowed tokens.

        Parameters
        ----------
        scores : float ``[T]``
            Looked at by a total only.
        cu_seqlens : int32 ``[N + 1]``
        sample_offsets : int ``[S + 1]``, optional
            Sample ``s`` owns segments ``sample_offsets[s]`` to ``sample_offsets[s + 1]``, oldest first. By
            default all segments are one sample.
        protected, forbidden : bool ``[T]``, optional
            As in the top-k operation; forbidden beats protected.

        Notes
        -----
        A total goes to the best tokens over all segments of the sample by (score, earlier first), after
        each segment's protected tokens and its best ``minimum`` tokens. NaN ranks below every number.
        """
        lengths = np.diff(cu_seqlens)
        if self.tokens is not None:
            return np.full(len(lengths), min(self.tokens, 2**31 - 1), dtype=np.int32)
        if self.keep_ratio is not None:
            # A ratio such as 0.1 is not exact in binary: without the slack 0.1 * 30 would round up to 4.
            return np.ceil(lengths * self.keep_ratio - 1e-9).astype(np.int32)
        return self._share_total(scores, cu_seqlens, sample_offsets, protected, forbidden)

    def _share_total(
        self,
        scores: NDArray[np.floating],
        cu_seqlens: NDArray[np.int32],
        sample_offsets: ArrayLike | None,
        protected: NDArray[np.bool_] | None,
        forbidden: NDArray[np.bool_] | None,
    ) -> NDArray[np.int32]:
        assert self.total is not None
        count = len(cu_seqlens) - 1
        samples = np.asarray([0, count] if sample_offsets is None else sample_offsets, dtype=np.int64)
        if (
            samples.ndim != 1
            or len(samples) == 0
            or samples[0] != 0
            or samples[-1] != count
            or (np.diff(samples) < 0).any()
        ):
            raise ValueError(
                f"sample_offsets must start at 0, never fall and end at the {count} segments; "
                f"found {samples.tolist()[:8]}."
            )
        allowed = np.ones(len(scores), dtype=bool) if forbidden is None else ~forbidden
        fixed = np.zeros(len(scores), dtype=bool) if protected is None else protected & allowed
        segment = np.repeat(np.arange(count), np.diff(cu_seqlens))
        sample_of_segment = np.repeat(np.arange(len(samples) - 1), np.diff(samples))
        place = np.arange(count) - samples[sample_of_segment]
        span = np.maximum(np.diff(samples)[sample_of_segment] - 1, 1)
        value = scores.astype(np.float64) + self.recency * (place / span)[segment]
        value = np.where(fixed, np.inf, np.where(np.isnan(value), -np.inf, value))
        # Best first within a segment; lexsort is stable, so ties go to the earlier token.
        tokens = np.flatnonzero(allowed)
        within = tokens[np.lexsort((-value[tokens], segment[tokens]))]
        start = np.searchsorted(segment[within], np.arange(count))
        rank = np.arange(len(within)) - start[segment[within]]
        first = fixed[within] | (rank < self.minimum)
        guaranteed = np.bincount(segment[within][first], minlength=count)
        rest = np.sort(within[~first])
        sample = sample_of_segment[segment[rest]]
        order = np.lexsort((-value[rest], sample))
        room = self.total - np.bincount(sample_of_segment, weights=guaranteed, minlength=len(samples) - 1)
        sample_start = np.searchsorted(sample[order], np.arange(len(samples) - 1))
        won = rest[order][(np.arange(len(order)) - sample_start[sample[order]]) < room[sample[order]]]
        return (guaranteed + np.bincount(segment[won], minlength=count)).astype(np.int32)
