"""Check the types of numbers, of arguments, and of the fields of a dataclass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from numbers import Real
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np


def expect(name: str, value: object, hint: Any, expected: str) -> None:
    """Refuse an argument that is not of a type, with what is ``expected`` in words.

    >>> expect("seeds", "012", list[int], "a list of whole numbers, such as [0, 1, 2]")
    Traceback (most recent call last):
    TypeError: seeds must be a list of whole numbers, such as [0, 1, 2]; found '012'.
    """
    if not _is(value, hint):
        raise TypeError(f"{name} must be {expected}; found {value!r:.60}.")


def check_types(config: Any) -> None:
    """Refuse values of a dataclass that are not of their fields' types. A list may stand for a tuple.

    >>> from tsporec.learning.candidates import CandidateConfig
    >>> CandidateConfig(count="16")
    Traceback (most recent call last):
    TypeError: CandidateConfig: count must be of type int, such as 16; found '16'.
    """
    hints = get_type_hints(type(config))
    for one in fields(config):
        value = getattr(config, one.name)
        if not _is(value, hints[one.name]):
            example = getattr(type(config), one.name, None)
            example = "" if example is None else f", such as {example!r}"
            raise TypeError(
                f"{type(config).__name__}: {one.name} must be of type {one.type}{example}; found {value!r:.60}."
            )


def is_whole(value: object) -> bool:
    """Return whether ``value`` is a Python or numpy integer, and no bool.

    >>> is_whole(np.int64(3)), is_whole(True), is_whole(3.0)
    (True, False, False)
    """
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Return whether ``value`` is a real number of Python or numpy, and no bool.

    >>> is_number(np.float32(0.5)), is_number(2), is_number("0.5")
    (True, True, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool)


def _is(value: object, hint: Any) -> bool:
    """Return whether a value is of a type: ``(8, 16)`` is of ``tuple[int, ...]``, and 1 is of ``float``."""
    kind, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if kind is UnionType:
        return any(_is(value, one) for one in inner)
    if kind in (list, tuple):
        return isinstance(value, Sequence) and not isinstance(value, str) and all(_is(one, inner[0]) for one in value)
    if kind is dict:
        return isinstance(value, dict) and all(_is(k, inner[0]) and _is(v, inner[1]) for k, v in value.items())
    if hint in (int, float):
        return is_whole(value) if hint is int else is_number(value)
    return isinstance(value, hint)
