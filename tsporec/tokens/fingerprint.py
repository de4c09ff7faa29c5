"""Names for things by their content.

A store of kept token ids means nothing with another tokenizer, and a ranking means nothing with another
scorer, so both are known by a digest of what they are.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Protocol
from weakref import WeakKeyDictionary

from tsporec._internal.digest import digest


class HasVocabulary(Protocol):
    """What is asked of a tokenizer: Hugging Face's, fast or slow, or one that looks like it."""

    def get_vocab(self) -> dict[str, int]:
        """Token -> id, added tokens included."""

    def __len__(self) -> int:
        """How many there are."""


_KNOWN: WeakKeyDictionary[HasVocabulary, tuple[tuple[int, list[int]], str]] = WeakKeyDictionary()


def tokenizer_fingerprint(tokenizer: HasVocabulary) -> str:
    """Digest of a tokenizer's token -> id map and of which tokens are special: what its ids mean.

    Raises
    ------
    ValueError
        If it is no Hugging Face tokenizer, or has entries that are no strings.
    """
    if not (hasattr(tokenizer, "get_vocab") and hasattr(tokenizer, "__len__")):
        raise ValueError(
            f"expected a Hugging Face tokenizer; found {type(tokenizer).__module__}.{type(tokenizer).__qualname__}. "
            "Load one with transformers.AutoTokenizer.from_pretrained(name), or make one of a tokenizers.Tokenizer "
            "with transformers.PreTrainedTokenizerFast(tokenizer_object=...)."
        )
    special = sorted(int(i) for i in getattr(tokenizer, "all_special_ids", []))
    # Reading a vocabulary takes a third of a second; one that has grown or has other special tokens is read again.
    state = (len(tokenizer), special)
    known = _KNOWN.get(tokenizer)
    if known is None or known[0] != state:
        entries = tokenizer.get_vocab()
        for entry in entries:
            if not isinstance(entry, str):
                raise ValueError(
                    f"the vocabulary of this tokenizer has the entry {entry!r}, {type(entry).__name__}; expected "
                    "strings, as those that come with transformers have."
                )
        # By id alone where no two share one: less than half the time.
        unique = len(set(entries.values())) == len(entries)
        vocabulary = sorted(entries.items(), key=itemgetter(1) if unique else itemgetter(1, 0))
        known = _KNOWN[tokenizer] = state, digest(vocabulary, special)
    return known[1]
