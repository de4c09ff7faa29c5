"""Shorten texts: as text for models behind an API, as token ids for engines that take them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tsporec.budget import Budget
from tsporec.scorers.base import Scorer
from tsporec.selection import score_tokens, select_scored, select_words
from tsporec.tokens.pieces import read_pieces
from tsporec.tokens.ragged import RaggedTokens
from tsporec.tokens.words import word_of_tokens

Ints = NDArray[np.int64]


def compress_ids(
    scorer: Scorer, tokenizer: Any, text: str | Sequence[str], budget: Budget | int, granularity: str = "word"
) -> Any:
    """Return the ids of ``text`` that are worth keeping, in order, as the tokenizer gave them.

    Parameters
    ----------
    scorer : Scorer
        For ids of ``tokenizer``.
    tokenizer : a Hugging Face tokenizer
    text : str or list of str
        Special tokens that are written in it are always kept. None are added.
    budget : Budget or int
        Budget of each text, in tokens.
    granularity : "word" or "token"
        "word" keeps whole words, best first by the mean score of their tokens, as many as fit into the budget and at
        least one (:func:`tsporec.selection.select_words`). In scripts without spaces a token counts as a word, and a
        character with its marks is never split. "token" keeps exactly the best tokens. A character whose bytes are
        spread over several tokens may then lose some of them, and decodes to U+FFFD. Default "word".

    Returns
    -------
    list of int, or a list of such lists if ``text`` is a list

    Raises
    ------
    ValueError
        If ``granularity`` is another, or ``text`` is no text.

    Examples
    --------
    >>> from tsporec.data.synthetic import word_tokenizer
    >>> from tsporec.scorers import make_scorer
    >>> compress_ids(make_scorer("head"), word_tokenizer("a blue gel pen".split()), "blue gel pen", 2)
    [5, 6]
    """
    single, reads = _read(tokenizer, text)
    kept = _kept(scorer, reads, budget, granularity)
    ids = [read.ids[places].tolist() for read, places in zip(reads, kept, strict=True)]
    return ids[0] if single else ids


def compress_text(
    scorer: Scorer, tokenizer: Any, text: str | Sequence[str], budget: Budget | int, granularity: str = "word"
) -> Any:
    """Return what of ``text`` is worth keeping, in order.

    Words are spelled as in ``text``, with one space for the white space between them. With granularity "token" the
    result is what the tokenizer decodes the kept ids to. Parameters and errors are those of :func:`compress_ids`.

    Returns
    -------
    str, or a list of str if ``text`` is a list

    Examples
    --------
    >>> from tsporec.data.synthetic import word_tokenizer
    >>> from tsporec.scorers import make_scorer
    >>> compress_text(make_scorer("head"), word_tokenizer("a blue gel pen".split()), ["blue gel pen", "a pen"], 2)
    ['blue gel', 'a pen']
    """
    single, reads = _read(tokenizer, text)
    kept = _kept(scorer, reads, budget, granularity)
    spell = _spell if granularity == "word" else _decode
    texts = [spell(tokenizer, read, places) for read, places in zip(reads, kept, strict=True)]
    return texts[0] if single else texts


class _Read(NamedTuple):
    """A text and its L tokens."""

    text: str
    ids: NDArray[np.int32]
    special: NDArray[np.bool_]
    spans: Ints  # [L, 2]: start and end of each token in the text
    words: Ints  # [L]: the number of each token's word


def _read(tokenizer: Any, text: str | Sequence[str]) -> tuple[bool, list[_Read]]:
    """Return whether there is one text only, and each text with its tokens."""
    single = isinstance(text, str)
    if not single and not isinstance(text, Iterable):
        raise ValueError(f"expected a text or a list of texts; found {type(text).__name__}.")
    texts: list[Any] = [text] if single else list(text)
    for number, given in enumerate(texts):
        if not isinstance(given, str):
            raise ValueError(f"expected a text or a list of texts; text {number} is {type(given).__name__}.")
        try:
            given.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"text {number} is no valid Unicode: {error}. Replace its lone surrogates.") from error
    if not texts:
        return False, []
    fast = bool(getattr(tokenizer, "is_fast", False))
    whole = getattr(tokenizer, "unwrapped", tokenizer)  # a wrapped tokenizer would cut the texts itself
    encoded = whole(texts, add_special_tokens=False, return_offsets_mapping=fast, verbose=False)
    pieces, unknown, reads = read_pieces(tokenizer), getattr(tokenizer, "unk_token_id", None), []
    for number, given in enumerate(texts):
        ids = np.array(encoded["input_ids"][number], dtype=np.int32)
        if fast:
            spelled, spans = given, np.array(encoded["offset_mapping"][number], dtype=np.int64).reshape(-1, 2)
        else:
            spelled, spans = pieces.text(ids)
        special = pieces.special[ids] & (ids != (-1 if unknown is None else unknown))
        reads.append(_Read(spelled, ids, special, spans, word_of_tokens(spelled, spans, special)))
    return single, reads


def _kept(scorer: Scorer, reads: list[_Read], budget: Budget | int, granularity: str) -> list[Ints]:
    """Return the kept places of each text, ascending. All texts are scored in one call."""
    if granularity not in ("word", "token"):
        raise ValueError(f"granularity must be 'word' or 'token'; found {granularity!r}.")
    tokens = RaggedTokens.from_lists([read.ids for read in reads])
    scores, cu_seqlens = score_tokens(scorer, tokens), tokens.cu_seqlens
    special = np.concatenate([*(read.special for read in reads), np.zeros(0, dtype=bool)])
    each = np.arange(len(reads) + 1)  # a total is for one text
    if granularity == "token":
        kept = select_scored(scores, cu_seqlens, budget, sample_offsets=each, protected=special)
    else:
        words = np.concatenate([*(read.words for read in reads), np.zeros(0, dtype=np.int64)])
        kept = select_words(scores, words, cu_seqlens, budget, sample_offsets=each, protected=special)
    bounds = zip(pairwise(kept.cu_seqlens.tolist()), cu_seqlens[:-1].tolist(), strict=True)
    return [kept.kept[start:end] - before for (start, end), before in bounds]


def _decode(tokenizer: Any, read: _Read, kept: Ints) -> str:
    return str(tokenizer.decode(read.ids[kept].tolist(), clean_up_tokenization_spaces=False))


def _spell(tokenizer: Any, read: _Read, kept: Ints) -> str:
    """Return the kept words, with one space where there was white space between two of them."""
    text, words = read.text, read.words
    starts = np.searchsorted(words, np.unique(words[kept]))
    ends = np.searchsorted(words, words[starts], side="right") - 1
    out: list[str] = []
    before = 0
    for first, last in zip(starts.tolist(), ends.tolist(), strict=True):
        start, end = int(read.spans[first, 0]), int(read.spans[first : last + 1, 1].max())
        name = text[start:end].strip()
        start = text.index(name, start)
        end = start + len(name)
        if not name and read.special[first : last + 1].any():  # a slow tokenizer gives its special tokens no width
            mark = first + int(np.argmax(read.special[first : last + 1]))
            name = str(tokenizer.convert_ids_to_tokens(int(read.ids[mark])))
        if out and any(map(str.isspace, text[before:start])):
            out.append(" ")
        out.append(name)
        before = end
    return "".join(out)
