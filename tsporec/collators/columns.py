"""The per-token columns of a feature: which they are, and how they are cut alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsporec.collators.spans import IGNORED_LABEL, Span, SpanFinder, check_spans

Ints = NDArray[np.int64]
Reposition = Callable[[Ints, Ints], Ints]

MASKS = (
    "attention_mask",
    "token_type_ids",
    "special_tokens_mask",
    "position_ids",
    "completion_mask",
    "assistant_masks",
)
"""Columns that are per token wherever they stand."""


@dataclass(frozen=True)
class Part:
    """One run of ids in a feature, and what of it may be dropped.

    Parameters
    ----------
    ids : int64 ``[L]``
    spans : list of (start, end)
        Ascending and apart.
    budgets : list of int
        Which budget each span has.
    labelled : bool ``[L]`` or None
        Tokens that have a label.
    """

    ids: Ints
    spans: list[Span]
    budgets: list[int]
    labelled: NDArray[np.bool_] | None = None


class FlatColumns:
    """The layout of nearly every dataset: one flat list of ids and columns of its length.

    Parameters
    ----------
    finders : list of SpanFinder
        One for each budget.
    ids : str
    token_columns : names, optional
        The per-token columns besides ``ids``; by default every column of its length.
    reposition : callable
        For ``position_ids``; see :mod:`tsporec.collators.positions`.
    """

    def __init__(
        self, finders: Sequence[SpanFinder], ids: str, token_columns: Sequence[str] | None, reposition: Reposition
    ) -> None:
        self.finders, self.ids, self.reposition = list(finders), ids, reposition
        self.prefix = ids.removesuffix("input_ids").removesuffix("ids")
        self.token_columns = None if token_columns is None else (ids, *token_columns)
        self.own = {name for finder in finders for name in getattr(finder, "columns", ())}

    def parts(self, feature: Mapping[str, Any]) -> list[Part]:
        """The one part of the feature; none if it has no span."""
        found = [(span, n) for n, finder in enumerate(self.finders) for span in finder(feature)]
        if not isinstance(feature, Mapping) or self.ids not in feature:
            if not found:
                return []
            names = sorted(feature) if isinstance(feature, Mapping) else type(feature).__name__
            raise ValueError(f"there is no column {self.ids!r} among {names}. Tokenise before collating.")
        ids = flat_ids(feature[self.ids], self.ids)
        if len(self.finders) > 1:
            found.sort(key=lambda pair: pair[0])
        spans = check_spans([span for span, _ in found], len(ids))
        self._check_lengths(feature, len(ids))
        labels = feature.get(f"{self.prefix}labels")
        labelled = None
        if self._per_token(f"{self.prefix}labels", labels, len(ids)):
            labelled = np.asarray(labels) != IGNORED_LABEL
        return [Part(ids, spans, [n for _, n in found], labelled)]

    def rebuild(self, feature: Mapping[str, Any], kept: Sequence[Ints | None]) -> Mapping[str, Any]:
        """The feature cut to the ``kept`` positions of its part (None: all), its span columns gone."""
        if not kept and not (isinstance(feature, Mapping) and self.own.intersection(feature)):
            return feature
        columns = {name: value for name, value in feature.items() if name not in self.own}
        if not kept or kept[0] is None:
            return columns
        length = len(feature[self.ids])
        for name, value in columns.items():
            if name == "seq_lengths" and "seq_lengths" in feature:  # documents that TRL packed into one feature
                ends = np.searchsorted(kept[0], np.cumsum(np.asarray(value)))
                columns[name] = like(value, np.diff(ends, prepend=0))
            elif name == f"{self.prefix}attention_mask" and getattr(value, "ndim", 1) > 1:
                columns[name] = cut_grid(name, value, kept[0], length)
            elif self._per_token(name, value, length):
                columns[name] = cut(value, kept[0], self.reposition if name.endswith("position_ids") else None)
        return columns

    def _per_token(self, name: str, value: Any, length: int) -> bool:
        if self.token_columns is not None and name not in self.token_columns:
            return False
        return name.startswith(self.prefix) and length_of(value) == length

    def _check_lengths(self, feature: Mapping[str, Any], length: int) -> None:
        names = [self.prefix + name for name in MASKS] if self.token_columns is None else self.token_columns
        for name in names:
            value = feature.get(name)
            found = None if getattr(value, "ndim", 1) > 1 else length_of(value)
            if found is not None and found != length:
                raise ValueError(
                    f"{name} has {found} values and {self.ids} has {length} tokens; expected one value a token."
                )


def flat_ids(value: Any, name: str) -> Ints:
    """int64 ``[L]``, or a ValueError where ``value`` is no flat list of integers."""
    try:
        ids = np.asarray(value)
    except ValueError:
        ids = np.zeros((0, 0))
    if ids.ndim != 1 or (ids.size and not np.issubdtype(ids.dtype, np.integer)):
        raise ValueError(f"{name} must be one flat list of token ids; found shape {ids.shape}, {ids.dtype}.")
    return ids.astype(np.int64)


def length_of(value: Any) -> int | None:
    """The length of a column's value; None for scalars and text."""
    if isinstance(value, str | bytes) or not hasattr(value, "__len__"):
        return None
    return None if getattr(value, "ndim", 1) == 0 else len(value)


def cut(value: Any, kept: Ints, reposition: Reposition | None = None) -> Any:
    """``value`` at the ``kept`` places, as the type it was; positions go by ``reposition``."""
    if reposition is not None:
        return like(value, reposition(np.asarray(value, dtype=np.int64), kept))
    if isinstance(value, list | tuple):
        return type(value)(map(value.__getitem__, kept.tolist()))
    return value[kept]


def cut_grid(name: str, value: Any, kept: Ints, length: int) -> Any:
    """An attention mask of who sees whom, ``[..., L, L]``, cut on both sides."""
    if tuple(value.shape[-2:]) != (length, length):
        raise ValueError(
            f"{name} has shape {tuple(value.shape)} for {length} tokens, of which some are to be dropped; "
            f"expected one value a token or [..., {length}, {length}]."
        )
    return value[..., kept[:, None], kept]


def like(value: Any, array: Ints) -> Any:
    """``array`` as the type of ``value``: list, tuple, numpy array or tensor of its dtype."""
    if isinstance(value, list | tuple):
        return type(value)(array.tolist())
    if isinstance(value, np.ndarray):
        return array.astype(value.dtype)
    return value.new_tensor(array)
