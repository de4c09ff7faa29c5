"""Find the selector that an argument names, bound to a tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tsporec.scorers.base import Scorer, bind
from tsporec.selector.model import TokenSelector


def bound_selector(selector: Scorer | str | Path | None, tokenizer: Any = None) -> Scorer:
    """Return a scorer for ids of ``tokenizer``. Without a tokenizer, a scorer is returned as it is.

    ``selector`` is a selector or any other scorer; or a name, a folder or a Hub id for
    :meth:`TokenSelector.from_pretrained`. None is the bundled selector. One that is bound to another tokenizer is a
    ValueError.

    >>> from tsporec.data.synthetic import word_tokenizer
    >>> bound_selector("tsporec/base", word_tokenizer(["pen"])).name
    'selector'
    """
    if selector is None or isinstance(selector, str | Path):
        if tokenizer is None:
            raise ValueError("a selector that is loaded has to be bound to a tokenizer; give tokenizer=….")
        selector = TokenSelector.from_pretrained() if selector is None else TokenSelector.from_pretrained(selector)
    if not callable(getattr(selector, "score", None)):
        raise ValueError(
            f"selector is {type(selector).__name__}; expected a TokenSelector, another object with a score method, or "
            "a name, a folder or a Hub id."
        )
    return selector if tokenizer is None else bind(selector, tokenizer)
