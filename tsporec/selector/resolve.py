"""Find the selector that an argument names, bound to a tokenizer."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from tsporec.scorers.base import Scorer, bind
from tsporec.selector.hub import DEFAULT
from tsporec.selector.model import TokenSelector


def bound_selector(selector: Scorer | str | Path | None, tokenizer: Any = None) -> Scorer:
    """Return a scorer for ids of ``tokenizer``. Without a tokenizer, a scorer is returned as it is.

    ``selector`` is a selector or any other scorer; or a name, a folder or a Hub id for
    :meth:`TokenSelector.from_pretrained`. It is used as it is. One that is bound to another tokenizer is a ValueError.
    None is the bundled selector, with a warning: whoever sees no catalogue cannot fit it to one.

    >>> from tsporec.data.synthetic import word_tokenizer
    >>> bound_selector("tsporec/base", word_tokenizer(["pen"])).name
    'selector'
    """
    if selector is None or isinstance(selector, str | Path):
        if tokenizer is None:
            raise ValueError("a selector that is loaded has to be bound to a tokenizer; give tokenizer=….")
        if selector is None:
            selector = DEFAULT
            warnings.warn(
                f"no selector was given, so words count as in the texts of {DEFAULT}, not as in your catalogue. Give "
                "TokenSelector.from_pretrained().for_tokenizer(tokenizer).fit(items) to keep what a catalogue does, or "
                f"{DEFAULT!r} to use it as it is.",
                stacklevel=3,
            )
        selector = TokenSelector.from_pretrained(selector)
    if not callable(getattr(selector, "score", None)):
        raise ValueError(
            f"selector is {type(selector).__name__}; expected a TokenSelector, another object with a score method, or "
            "a name, a folder or a Hub id."
        )
    return selector if tokenizer is None else bind(selector, tokenizer)
