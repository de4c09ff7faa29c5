"""Features whose columns hold the texts of several items end to end, as HLLM's do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tsporec.collators.columns import Part, cut, flat_ids, like, span_items
from tsporec.collators.positions import Ints, right_align

_IDS, _LENGTHS, _POSITIONS = "input_ids", "cu_input_lens", "position_ids"


class PackedColumns:
    """Describe packed columns; give it to :class:`~tsporec.collators.selector.SelectorCollator` as ``spans``.

    Parameters
    ----------
    *prefixes : str
        A prefix names three columns: ``{prefix}input_ids [T]``, ``{prefix}cu_input_lens [N]``, which are the *lengths*
        of N items, and, if it is there, ``{prefix}position_ids [T]``. A feature may lack some prefixes, but not all.
    tail : int
        Placeholder tokens at the end of each item. They are always kept and do not count. Default 0.
    item_ids : str, optional
        Suffix, behind the prefix, of a column of the items' ids. It is removed before the base collator. Default: none.

    Notes
    -----
    Positions are right-aligned, as HLLM has them, so the tail keeps its positions.

    Examples
    --------
    >>> from tsporec import SelectorCollator, make_scorer
    >>> spans = PackedColumns("pos_", tail=1)
    >>> collator = SelectorCollator(list, make_scorer("head"), budget=2, spans=spans)
    >>> collator([{"pos_input_ids": [5, 6, 7, 0, 8, 0], "pos_cu_input_lens": [4, 2]}])
    [{'pos_input_ids': [5, 6, 0, 8, 0], 'pos_cu_input_lens': [3, 2]}]
    """

    def __init__(self, *prefixes: str, tail: int = 0, item_ids: str | None = None) -> None:
        if not prefixes or tail < 0:
            raise ValueError(f"give at least one prefix and a tail of 0 or more; found {prefixes} and {tail}.")
        self.prefixes, self.tail, self.item_ids = prefixes, tail, item_ids

    def parts(self, feature: Mapping[str, Any]) -> list[Part]:
        """Return one part for each prefix, with a span for each item, without its tail."""
        return [self._part(feature, prefix) for prefix in self._present(feature)]

    def _present(self, feature: Mapping[str, Any]) -> list[str]:
        present = [p for p in self.prefixes if p + _IDS in feature]
        if not present:
            wanted = ", ".join(p + _IDS for p in self.prefixes)
            raise ValueError(f"none of the columns {wanted} is among {sorted(feature)}.")
        return present

    def _part(self, feature: Mapping[str, Any], prefix: str) -> Part:
        ids = flat_ids(feature[prefix + _IDS], prefix + _IDS)
        lengths = flat_ids(feature.get(prefix + _LENGTHS, []), prefix + _LENGTHS)
        if lengths.sum() != len(ids) or (lengths < self.tail).any():
            raise ValueError(
                f"{prefix}{_LENGTHS} must be lengths of at least {self.tail} that add up to the {len(ids)} tokens "
                f"of {prefix}{_IDS}; found {lengths.tolist()[:10]}, {lengths.sum()} in all."
            )
        name = prefix + _POSITIONS
        if name in feature and len(positions := flat_ids(feature[name], name)) != len(ids):
            raise ValueError(f"{name} has {len(positions)} values for {len(ids)} tokens.")
        # Lengths [4, 2] with a tail of 1 -> spans [(0, 3), (4, 5)].
        ends = np.cumsum(lengths)
        spans = list(zip((ends - lengths).tolist(), (ends - self.tail).tolist(), strict=True))
        items = span_items(feature, self.item_ids and prefix + self.item_ids, len(spans))
        return Part(ids, spans, [0] * len(spans), items, np.zeros(len(ids), dtype=bool))

    def rebuild(self, feature: Mapping[str, Any], kept: Sequence[Ints | None]) -> Mapping[str, Any]:
        """Return the feature with the ids, lengths and positions of the ``kept`` tokens of each part (None: all)."""
        columns = dict(feature)
        for prefix, places in zip(self._present(feature), kept, strict=True):
            columns.pop(f"{prefix}{self.item_ids}", None)
            if places is None:
                continue
            lengths = feature[prefix + _LENGTHS]
            ends = np.searchsorted(places, np.cumsum(np.asarray(lengths)))
            columns[prefix + _IDS] = cut(feature[prefix + _IDS], places)
            columns[prefix + _LENGTHS] = like(lengths, np.diff(ends, prepend=0))
            name = prefix + _POSITIONS
            if name in feature:
                columns[name] = like(feature[name], right_align(np.asarray(feature[name], np.int64), places))
        return columns
