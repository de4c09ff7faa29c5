"""Name a tokenizer by its content.

Token ids mean nothing with another tokenizer. So catalogues, selectors and rewards store the fingerprint of theirs.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any
from weakref import WeakKeyDictionary

from tsporec._internal.digest import digest

_KNOWN: WeakKeyDictionary[Any, tuple[tuple[int, list[int]], str]] = WeakKeyDictionary()


def check_tokenizer(tokenizer: object) -> None:
    """Refuse what is no tokenizer of transformers, such as a model."""
    if not all(hasattr(tokenizer, name) for name in ("get_vocab", "__len__", "__call__")):
        raise TypeError(
            f"expected a Hugging Face tokenizer; found {type(tokenizer).__module__}.{type(tokenizer).__qualname__}. "
            "Load one with transformers.AutoTokenizer.from_pretrained(name), or make one of a tokenizers.Tokenizer "
            "with transformers.PreTrainedTokenizerFast(tokenizer_object=...)."
        )


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Compute a digest of a tokenizer's token -> id map and special tokens, which give its ids their meaning.

    >>> from tsporec.data.synthetic import word_tokenizer
    >>> tokenizer = word_tokenizer(["gel", "pen"])
    >>> tokenizer_fingerprint(tokenizer) == tokenizer_fingerprint(word_tokenizer(["gel", "pen"]))
    True
    >>> tokenizer_fingerprint(tokenizer) == tokenizer_fingerprint(word_tokenizer(["pen", "gel"]))
    False
    """
    check_tokenizer(tokenizer)
    special = sorted(int(i) for i in getattr(tokenizer, "all_special_ids", []))
    # Reading a vocabulary takes a third of a second. It is read again only if it grew or has other special tokens.
    state = (len(tokenizer), special)
    known = _KNOWN.get(tokenizer)
    if known is None or known[0] != state:
        ids = tokenizer.get_vocab()
        for token in ids:
            if not isinstance(token, str):
                raise ValueError(
                    f"the vocabulary of this tokenizer has the token {token!r}, {type(token).__name__}; expected "
                    "strings, as in the tokenizers of transformers."
                )
        # Sorting by the id alone takes less than half the time, and is enough if no two tokens share an id.
        unique = len(set(ids.values())) == len(ids)
        vocabulary = sorted(ids.items(), key=itemgetter(1) if unique else itemgetter(1, 0))
        known = _KNOWN[tokenizer] = state, digest(vocabulary, special)
    return known[1]
