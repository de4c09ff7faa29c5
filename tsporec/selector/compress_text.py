"""Shorten texts: as text for models behind an API, as token ids for engines that take them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, pairwise, zip_longest
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tsporec.budget import Budget
from tsporec.data.cleaning import decode_entities
from tsporec.data.items import Item, item_text
from tsporec.scorers.base import Scorer, bind
from tsporec.selection import select
from tsporec.tokens.pieces import Pieces, read_pieces
from tsporec.tokens.ragged import RaggedTokens

Ints = NDArray[np.int64]
TextLike: TypeAlias = str | Item | Sequence[str | Item]


def compress_ids(
    scorer: Scorer, tokenizer: Any, text: TextLike, budget: Budget | int, granularity: str = "word"
) -> Any:
    """Return the ids of ``text`` that are worth keeping, in order, as the tokenizer gave them.

    Parameters
    ----------
    scorer : Scorer
        It is bound to ``tokenizer`` unless it already is.
    tokenizer : a Hugging Face tokenizer
    text : str, Item, or a list of them
        Entities in a text are decoded ("AT&amp;T" is read as "AT&T"). An item's text is its title and description;
        item weights are found by its id. Special tokens that are written in a text are always kept. None are added.
    budget : Budget or int
        Budget of each text, in tokens.
    granularity : "word" or "token"
        "word" keeps whole words, as many of the best as fit into the budget (:func:`tsporec.select`). In scripts
        without spaces a token counts as a word, and a character with its marks is one. "token" keeps exactly the best
        tokens. A character whose bytes are spread over several tokens may then lose some of them, and decodes to
        U+FFFD. Default "word".

    Returns
    -------
    list of int, or a list of such lists if ``text`` is a list

    Examples
    --------
    >>> from tsporec.data.synthetic import word_tokenizer
    >>> from tsporec.scorers import make_scorer
    >>> compress_ids(make_scorer("head"), word_tokenizer("a blue gel pen".split()), "blue gel pen", 2)
    [5, 6]
    """
    found = [read.ids[kept].tolist() for read, kept in _compress(scorer, tokenizer, text, budget, granularity)]
    return found[0] if isinstance(text, str | Item) else found


def compress_text(
    scorer: Scorer, tokenizer: Any, text: TextLike, budget: Budget | int, granularity: str = "word"
) -> Any:
    """Return what of ``text`` is worth keeping, in order.

    Words are spelled as in ``text``, with one space for the white space between them. With granularity "token" the
    result is what the tokenizer decodes the kept ids to. The parameters are those of :func:`compress_ids`. The result
    is a text, or a list of texts if ``text`` is a list.

    >>> from tsporec.data.synthetic import word_tokenizer
    >>> from tsporec.scorers import make_scorer
    >>> compress_text(make_scorer("head"), word_tokenizer("a blue gel pen".split()), ["blue gel pen", "a pen"], 2)
    ['blue gel', 'a pen']
    """
    spell = _spell if granularity == "word" else _decode
    found = [spell(tokenizer, *one) for one in _compress(scorer, tokenizer, text, budget, granularity)]
    return found[0] if isinstance(text, str | Item) else found


class _Read(NamedTuple):
    """A text, its ids ``[L]``, and where in the text each token stands: start and end ``[L, 2]``."""

    text: str
    ids: NDArray[np.int32]
    spans: Ints


def _compress(
    scorer: Scorer, tokenizer: Any, text: TextLike, budget: Budget | int, granularity: str
) -> list[tuple[_Read, Ints]]:
    """Return each text with the places of its kept tokens, ascending. All texts are scored in one call."""
    if not isinstance(text, Iterable | Item) or isinstance(text, Mapping) or hasattr(text, "columns"):
        raise ValueError(
            f"expected a text or a list of texts; found {type(text).__name__}. Item.from_raw(id, fields) makes an item "
            "of a dict, and read_items makes them of a DataFrame."
        )
    given: list[Any] = [text] if isinstance(text, str | Item) else list(text)
    pieces = read_pieces(tokenizer)
    reads = _read(tokenizer, pieces, [_text(one, number) for number, one in enumerate(given)])
    tokens = RaggedTokens.from_lists([read.ids for read in reads])
    if any(isinstance(one, Item) for one in given):
        tokens = tokens.with_items(one.id if isinstance(one, Item) else None for one in given)
    kept = select(
        bind(scorer, tokenizer), tokens, budget, granularity=granularity, tokenizer=tokenizer,
        protected=pieces.protected[tokens.ids], sample_offsets=np.arange(len(reads) + 1),  # a total is for one text
    )  # fmt: skip
    places = np.split(kept.kept, kept.cu_seqlens[1:-1])
    return [(read, part - start) for read, part, start in zip(reads, places, tokens.cu_seqlens, strict=False)]


def _text(given: Any, number: int) -> str:
    """Return the text of a string or an item."""
    if isinstance(given, Item):
        return item_text(given)
    if not isinstance(given, str):
        raise ValueError(f"expected a text or a list of texts; text {number} is {type(given).__name__}.")
    try:
        given.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"text {number} is no valid Unicode: {error}. Replace its lone surrogates.") from error
    return decode_entities(given)


def _read(tokenizer: Any, pieces: Pieces, texts: list[str]) -> list[_Read]:
    """Tokenise the texts. A slow tokenizer does not say where its tokens stand: they stand in what they spell."""
    if not texts:
        return []
    fast = bool(getattr(tokenizer, "is_fast", False))
    whole = getattr(tokenizer, "unwrapped", tokenizer)  # a wrapped tokenizer would cut the texts itself
    encoded = whole(texts, add_special_tokens=False, return_offsets_mapping=fast, verbose=False)
    rows = [np.array(ids, dtype=np.int32) for ids in encoded["input_ids"]]
    if fast:
        offsets = [np.array(spans, dtype=np.int64).reshape(-1, 2) for spans in encoded["offset_mapping"]]
        return list(map(_Read, texts, rows, offsets))
    reads = []
    for ids in rows:
        text, spans = pieces.text(ids)
        special = np.flatnonzero(pieces.protected[ids])  # they spell nothing: put in their names
        names = [str(tokenizer.convert_ids_to_tokens(one)) for one in ids[special].tolist()]
        bounds = [0, *spans[special, 0].tolist(), len(text)]
        parts = [text[start:end] for start, end in pairwise(bounds)]
        widths = np.zeros(len(ids), dtype=np.int64)
        widths[special] = list(map(len, names))
        ends = np.cumsum(widths)
        text = "".join(chain.from_iterable(zip_longest(parts, names, fillvalue="")))
        reads.append(_Read(text, ids, spans + np.stack([ends - widths, ends], axis=1)))
    return reads


def _decode(tokenizer: Any, read: _Read, kept: Ints) -> str:
    return str(tokenizer.decode(read.ids[kept].tolist(), clean_up_tokenization_spaces=False))


def _spell(tokenizer: Any, read: _Read, kept: Ints) -> str:
    """Return the kept tokens as they stand in the text, with one space where white space was between two of them."""
    out: list[str] = []
    before = 0
    for run in np.split(kept, np.flatnonzero(np.diff(kept) != 1) + 1) if len(kept) else []:
        # Two tokens may hold parts of one character: it is spelled once.
        start, end = max(before, int(read.spans[run[0], 0])), int(read.spans[run, 1].max())
        words = read.text[start:end].split()
        if words:
            start = read.text.index(words[0], start)
            space = " " if out and any(map(str.isspace, read.text[before:start])) else ""
            out.append(space + " ".join(words))
            before = start + len(read.text[start:end].rstrip())
    return "".join(out)
