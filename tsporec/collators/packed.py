"""Features whose columns hold the texts of several items end to end, as HLLM's do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tsporec.collators.columns import Ints, Part, cut, flat_ids, length_of, like
from tsporec.collators.positions import policy


class PackedColumns:
    """A spec of packed columns: give it to :class:`~tsporec.collators.selector.SelectorCollator` as ``spans``.

    Parameters
    ----------
    *prefixes : str
        Each names ``{prefix}input_ids [T]``, ``{prefix}cu_input_lens [N]`` (the *lengths* of the N items, in spite
        of its name) and, if there, ``{prefix}position_ids [T]``. A prefix that a feature lacks is passed over, but
        not all of them.
    tail : int
        Placeholder tokens at the end of each item: always kept, outside the budget.
    positions : str
        What becomes of the positions. HLLM's are right-aligned: the tail stays where it was.

    Examples
    --------
    >>> SelectorCollator(customize_rmpad_collate, selector, Budget(tokens=64),     # doctest: +SKIP
    ...                  spans=PackedColumns("pos_", "neg_", tail=1))
    """

    def __init__(
        self,
        *prefixes: str,
        tail: int = 0,
        positions: str = "right_align",
        ids: str = "input_ids",
        lengths: str = "cu_input_lens",
        position_ids: str = "position_ids",
    ) -> None:
        if not prefixes or tail < 0:
            raise ValueError(f"give at least one prefix and a tail of 0 or more; found {prefixes} and {tail}.")
        self.prefixes, self.tail, self.reposition = prefixes, tail, policy(positions)
        self.ids, self.lengths, self.position_ids = ids, lengths, position_ids

    def parts(self, feature: Mapping[str, Any]) -> list[Part]:
        """One part a prefix; a span an item, its tail aside."""
        return [self._part(feature, prefix) for prefix in self._present(feature)]

    def _present(self, feature: Mapping[str, Any]) -> list[str]:
        present = [p for p in self.prefixes if p + self.ids in feature]
        if not present:
            wanted = ", ".join(p + self.ids for p in self.prefixes)
            raise ValueError(f"none of the columns {wanted} is among {sorted(feature)}.")
        return present

    def _part(self, feature: Mapping[str, Any], prefix: str) -> Part:
        ids = flat_ids(feature[prefix + self.ids], prefix + self.ids)
        lengths = flat_ids(feature.get(prefix + self.lengths, []), prefix + self.lengths)
        if lengths.sum() != len(ids) or (lengths < self.tail).any():
            raise ValueError(
                f"{prefix}{self.lengths} must be lengths of at least {self.tail} that add up to the {len(ids)} tokens "
                f"of {prefix}{self.ids}; found {lengths.tolist()[:10]}, {lengths.sum()} in all."
            )
        positions = length_of(feature.get(prefix + self.position_ids))
        if positions is not None and positions != len(ids):
            raise ValueError(f"{prefix}{self.position_ids} has {positions} values for {len(ids)} tokens.")
        ends = np.cumsum(lengths)
        spans = list(zip((ends - lengths).tolist(), (ends - self.tail).tolist(), strict=True))
        return Part(ids, spans, [0] * len(spans))

    def rebuild(self, feature: Mapping[str, Any], kept: Sequence[Ints | None]) -> Mapping[str, Any]:
        """The feature with ids, lengths and positions of the ``kept`` tokens of each part."""
        columns = dict(feature)
        for prefix, places in zip(self._present(feature), kept, strict=True):
            if places is None:
                continue
            lengths = feature[prefix + self.lengths]
            ends = np.searchsorted(places, np.cumsum(np.asarray(lengths)))
            columns[prefix + self.ids] = cut(feature[prefix + self.ids], places)
            columns[prefix + self.lengths] = like(lengths, np.diff(ends, prepend=0))
            name = prefix + self.position_ids
            if name in feature:
                columns[name] = cut(feature[name], places, self.reposition)
        return columns
