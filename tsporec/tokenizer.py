"""Selection inside a tokenizer, for recommenders that cut their texts before they collate.

Some encode an item's text and slice it, some pass ``truncation=True``: both keep the first tokens. A wrapped tokenizer
keeps the best ones in their order. Otherwise it behaves and saves as the tokenizer it wraps.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tsporec.budget import Budget, as_budget, levelled_lengths, truncated_lengths
from tsporec.collators.columns import spans_of_whole
from tsporec.collators.spans import SpanFinder, find_spans
from tsporec.scorers.base import Scorer, score_tokens
from tsporec.selection import pieces_of_words, select_scored
from tsporec.selector.resolve import bound_selector
from tsporec.tokens.pieces import Pieces, special_token_ids
from tsporec.tokens.ragged import RaggedTokens, lengths_to_offsets

T = TypeVar("T")
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


def wrap_tokenizer(
    tokenizer: T,
    selector: Scorer | str | Path | None = None,
    budget: Budget | int | None = None,
    *,
    spans: tuple[int, ...] | SpanFinder | None = None,
    keep_last: int = 0,
    protected_ids: Sequence[int] = (),
    prompts: Sequence[str] = (),
    granularity: str = "token",
) -> T:
    """Return a tokenizer that keeps the best tokens where ``tokenizer`` would keep the first (or last).

    Parameters
    ----------
    tokenizer : a Hugging Face tokenizer, fast or slow
    selector : TokenSelector, other scorer, str or Path, optional
        An object, or a name, a folder or a Hub id to load. It is bound to ``tokenizer`` unless it already is. Default:
        the bundled selector, with a warning, for its word frequencies are of other texts.
    budget : Budget or int, optional
        Budget of each text, without the special tokens that ``tokenizer`` adds. Each text of a pair has its own; they
        share a ``total``. Default: texts are cut only if ``truncation`` would cut them, to the same length.
    spans : tuple of int, or callable, optional
        Cut only these parts of a text, each to the budget: the text between begin and end marker ids (split by a
        separator's), or what a callable finds, as for :class:`~tsporec.SelectorCollator`. If ``truncation`` asks for
        less, the spans give way and the rest stays; a text without any is cut as by ``tokenizer``. Default: one part.
    keep_last : int
        Tokens at the end of an encoded text (or pair) that are kept if they fit: a prompt's question. Default 0.
    protected_ids : ints
        Token ids that are kept if they fit. Special tokens always are.
    prompts : list of str
        A text that begins with one of these keeps its tokens if they fit. sentence-transformers needs this if its
        pooling leaves out the prompt (``include_prompt=False``).
    granularity : "token" or "word"
        Keep exactly the best tokens, or whole words that are no more than the length; see :func:`tsporec.select`.
        Default "token".

    Notes
    -----
    The result is of a subclass of ``type(tokenizer)``, and saves the files that ``tokenizer`` would.
    If nothing is cut, the output is that of ``tokenizer``; so are ``tokenize``, targets (``text_target``) and
    calls with ``return_overflowing_tokens``. If something is cut, ``char_to_token`` and its like are not available.

    Examples
    --------
    >>> from tsporec.data.synthetic import word_tokenizer
    >>> plain = word_tokenizer("a pen of blue gel".split())
    >>> tokenizer = wrap_tokenizer(plain, "tsporec/base")
    >>> [t.decode(t("a pen of blue gel", truncation=True, max_length=3)["input_ids"]) for t in (plain, tokenizer)]
    [' a pen of', ' pen blue gel']
    """
    if not hasattr(tokenizer, "_get_padding_truncation_strategies"):
        raise ValueError(f"expected a Hugging Face tokenizer; found {type(tokenizer).__name__}.")
    if spans is not None and (keep_last or prompts):
        raise ValueError("what is outside spans is kept whole; leave out keep_last and prompts, or leave out spans.")
    kind: Any = _plain_class(type(tokenizer))
    plain: Any = _as_class(tokenizer, kind)
    wrapped: Any = _as_class(plain, _wrapped_class(kind))
    wrapped._selection = _Settings(
        bound_selector(selector, plain),
        None if budget is None else as_budget(budget),
        None if spans is None else find_spans(spans),
        keep_last,
        tuple(map(int, protected_ids)),
        tuple(prompts),
        pieces_of_words(granularity, plain),
    )
    return wrapped  # type: ignore[no-any-return] # the same attributes under another class


class _Settings(NamedTuple):
    selector: Scorer
    budget: Budget | None
    spans: SpanFinder | None
    keep_last: int
    protected_ids: tuple[int, ...]
    prompts: tuple[str, ...]
    whole_words: Pieces | None


class _Rows(NamedTuple):
    """R encoded rows of F tokens, and the N texts in them that may be cut."""

    columns: dict[str, list[Any]]
    lengths: Ints  # [R]
    outside: Bools  # [F]: in none of the texts, such as what the tokenizer added
    tokens: RaggedTokens  # N texts: one of each row, the two of a pair, or the spans
    row: Ints  # [N]: the row of each text
    firsts: list[Any]  # [R]: the first text of each row, not encoded


class SelectiveTruncation:
    """The methods that :func:`wrap_tokenizer` puts before those of a tokenizer's class."""

    _selection: _Settings

    @property
    def unwrapped(self) -> Any:
        """The tokenizer that is wrapped: it keeps whole texts."""
        return _as_class(self, _plain_class(type(self)))

    def __call__(self, text: Any = None, text_pair: Any = None, *args: Any, **options: Any) -> Any:
        """Encode as the tokenizer does, and keep the best tokens where texts are cut.

        1. The texts are encoded whole, by the tokenizer itself.
        2. ``_keep`` selects the tokens to keep. If all are kept, the tokenizer's own output is returned.
        3. Every column is cut to the kept tokens, then padded and converted as the call asks.
        """
        plain = self.unwrapped
        options |= _by_name(plain.__call__, args)
        if text is None or options.get("return_overflowing_tokens"):
            return plain(text, text_pair, **options)
        targets = {name: options.pop(name) for name in ("text_target", "text_pair_target") if name in options}
        if any(target is not None for target in targets.values()):
            batch = self(text, text_pair, **options)
            batch["labels"] = plain(**targets, **options)["input_ids"]
            return batch
        padding, truncation, limit = self._strategies(options)
        single = _is_text(text, options)
        empty = not single and not (hasattr(text, "__len__") and len(text))
        if empty or (self._selection.budget is None and limit is None):
            return plain(text, text_pair, **options)
        rows = _encode_whole(plain, text, text_pair, single, options, limit, self._selection.spans)
        keep = self._keep(rows, truncation, limit)
        if keep.all():
            return plain(text, text_pair, **options)
        places = [np.flatnonzero(part).tolist() for part in np.split(keep, np.cumsum(rows.lengths)[:-1])]
        for name, values in rows.columns.items():
            rows.columns[name] = [[row[i] for i in kept] for row, kept in zip(values, places, strict=True)]
        return self._finish(rows.columns, single, padding, options)

    def encode(self, text: Any, text_pair: Any = None, *args: Any, **options: Any) -> Any:
        """Return the ids of one text, as the tokenizer's own method."""
        options |= _by_name(self.unwrapped.encode, args)
        if _is_text(text, options):
            return self(text, text_pair, **options)["input_ids"]
        return self.unwrapped.encode(text, text_pair, **options)

    encode_plus = __call__  # code for transformers 4 calls these two

    def batch_encode_plus(self, batch_text_or_text_pairs: Any, **options: Any) -> Any:
        """Encode a list of texts or pairs."""
        return self(batch_text_or_text_pairs, **options)

    def __reduce__(self) -> Any:
        options = self._selection._asdict()
        options["granularity"] = "token" if options.pop("whole_words") is None else "word"
        return partial(wrap_tokenizer, **options), (self.unwrapped,)

    def _strategies(self, options: Mapping[str, Any]) -> tuple[Any, str, int | None]:
        """Return padding, truncation and the length it cuts to (or None), as the tokenizer reads its arguments."""
        names = {"padding", "truncation", "max_length", "pad_to_multiple_of", "verbose"}.intersection(options)
        strategies = self._get_padding_truncation_strategies  # type: ignore[attr-defined]
        padding, truncation, limit, _ = strategies(**{name: options[name] for name in names})
        return padding, truncation.value, None if truncation.value == "do_not_truncate" else limit

    def _keep(self, rows: _Rows, truncation: str, limit: int | None) -> Bools:
        """Return which tokens are kept: bool ``[F]``.

        A text keeps what its budget allows, then what truncation leaves of its row. If more is protected in it than
        that, nothing in it is sure of its place.
        """
        tokens, mine, count = rows.tokens, self._selection, len(rows.firsts)
        lengths, whole = tokens.lengths.astype(np.int64), mine.spans is None
        k = lengths.copy()
        if mine.budget is None and (rows.lengths <= (limit or 0)).all():
            return np.ones_like(rows.outside)
        protected, scores = self._protected(rows), score_tokens(mine.selector, tokens)
        fixed = np.diff(np.append(0, np.cumsum(protected))[tokens.cu_seqlens])
        begins = lengths_to_offsets(np.bincount(rows.row, minlength=count)).tolist()  # the first text of each row
        if mine.budget is not None:
            k = np.minimum(k, mine.budget.resolve(scores, tokens.cu_seqlens, begins, protected))
            k = np.maximum(k, fixed)
        if limit is not None:
            room = limit - (rows.lengths - np.bincount(rows.row, weights=lengths, minlength=count).astype(np.int64))
            for row in np.flatnonzero(np.bincount(rows.row, weights=k, minlength=count) > room).tolist():
                texts, left = slice(begins[row], begins[row + 1]), int(room[row])
                k[texts] = truncated_lengths(k[texts], left, truncation) if whole else levelled_lengths(k[texts], left)
        protected &= np.repeat(fixed <= k, lengths)
        kept = select_scored(scores, tokens, k.astype(np.int32), whole_words=mine.whole_words, protected=protected).kept
        keep = rows.outside.copy()
        keep[np.flatnonzero(~keep)[kept]] = True
        return keep

    def _protected(self, rows: _Rows) -> Bools:
        """Return which tokens of the texts are kept if they fit: bool ``[T]``."""
        tokens, mine = rows.tokens, self._selection
        protected = np.isin(tokens.ids, [*special_token_ids(self), *mine.protected_ids])
        begins = np.searchsorted(rows.row, np.arange(len(rows.firsts) + 1))  # the first text of each row
        starts, ends = tokens.cu_seqlens[begins], tokens.cu_seqlens[np.minimum(begins[:-1] + 1, len(tokens))]
        # The number of tokens from each to the end of its row: rows of 3 and 1 tokens -> [3, 2, 1, 1].
        to_end = np.repeat(starts[1:], np.diff(starts)) - np.arange(tokens.num_tokens)
        protected |= to_end <= mine.keep_last
        for first, start, end in zip(rows.firsts, starts[:-1], ends, strict=True):
            for prompt in [p for p in mine.prompts if isinstance(first, str) and first.startswith(p)]:
                asked = self.unwrapped(prompt, add_special_tokens=False)["input_ids"]
                protected[start : min(start + len(asked), end)] = True
        return protected

    def _finish(self, rows: dict[str, list[Any]], single: bool, padding: Any, options: Mapping[str, Any]) -> Any:
        """Pad and convert the cut rows as the call asks."""
        from transformers import BatchEncoding

        if not options.get("return_special_tokens_mask"):
            rows.pop("special_tokens_mask")
        offsets = rows.pop("offset_mapping", None)
        asked = {name: options.get(name) for name in ("max_length", "pad_to_multiple_of", "padding_side")}
        asked |= {"padding": padding, "return_attention_mask": "attention_mask" in rows, "verbose": False}
        columns = dict(self.pad(BatchEncoding(rows), **asked))  # type: ignore[attr-defined]
        if offsets is not None:
            left = (options.get("padding_side") or self.padding_side) == "left"  # type: ignore[attr-defined]
            blanks = [[(0, 0)] * (len(i) - len(o)) for i, o in zip(columns["input_ids"], offsets, strict=True)]
            columns["offset_mapping"] = [b + o if left else o + b for b, o in zip(blanks, offsets, strict=True)]
        if options.get("return_length"):
            columns["length"] = [len(ids) for ids in columns["input_ids"]]
        if single and options.get("return_tensors") is None:
            return BatchEncoding({name: values[0] for name, values in columns.items()}, _NoEncodings())
        return BatchEncoding(columns, _NoEncodings(), tensor_type=options.get("return_tensors"))


class _NoEncodings(list[Any]):  # stands for the encodings of whole texts, which are wrong for texts that are cut
    def __getitem__(self, place: Any) -> Any:
        raise ValueError("char_to_token and masks of the assistant's tokens need whole texts: tokenizer.unwrapped.")


def _by_name(method: Any, args: Sequence[Any]) -> dict[str, Any]:
    """Return the positional arguments behind the first two by their names in ``method``."""
    return dict(zip(list(inspect.signature(method).parameters)[2:], args, strict=False)) if args else {}


def _encode_whole(
    plain: Any, text: Any, text_pair: Any, single: bool, options: Any, limit: int | None, finder: SpanFinder | None
) -> _Rows:
    """Encode the rows, nothing cut but what is longer than ``limit`` and has no spans."""
    whole = {k: v for k, v in options.items() if k not in ("max_length", "stride", "return_length", "padding")}
    whole |= {"truncation": False, "return_tensors": None, "return_special_tokens_mask": True, "verbose": False}
    full = plain(text, text_pair, **whole)
    words = options.get("is_split_into_words", False)
    given = [text] if single else list(text)
    pairs: list[Any] = [row if isinstance(row, tuple | list) and not words else (row, None) for row in given]
    if text_pair is not None:
        pairs = list(zip(given, [text_pair] if single else text_pair, strict=True))
    columns = {name: [values] if single else list(values) for name, values in full.items()}
    texts, row, outside = [], [], []
    for number, (ids, mask) in enumerate(zip(columns["input_ids"], columns["special_tokens_mask"], strict=True)):
        places, (first, second) = np.flatnonzero(np.asarray(mask) == 0), pairs[number]
        parts = [places]
        if finder is not None:
            parts = [np.arange(*span) for span in spans_of_whole(finder, ids, pairs[number])]
            if limit is not None and len(ids) > limit and not sum(map(len, parts)):  # nothing to select from
                cut = plain(first, second, **whole | {"truncation": options.get("truncation"), "max_length": limit})
                for name, values in columns.items():
                    values[number] = cut[name]
        elif second is not None and full.encodings is not None:
            of_second = np.array([one == 1 for one in full.encodings[number].sequence_ids], dtype=bool)[places]
            parts = [places[~of_second], places[of_second]]
        elif second is not None:  # a slow tokenizer does not say: the first text's tokens are counted
            before = plain(first, add_special_tokens=False, is_split_into_words=words)["input_ids"]
            parts = np.split(places, [len(before)])
        texts += [np.asarray(ids, dtype=np.int32)[part] for part in parts]
        row += [number] * len(parts)
        outside.append(~np.isin(np.arange(len(columns["input_ids"][number])), np.concatenate([places[:0], *parts])))
    lengths, of_row = np.array(list(map(len, outside)), dtype=np.int64), np.array(row, dtype=np.int64)
    tokens, firsts = RaggedTokens.from_lists(texts), [first for first, _ in pairs]
    return _Rows(columns, lengths, np.concatenate(outside), tokens, of_row, firsts)


def _is_text(text: Any, options: Mapping[str, Any]) -> bool:
    """Return whether ``text`` is a string, or the words of one text."""
    words = options.get("is_split_into_words") and isinstance(text, list | tuple) and len(text) > 0
    return isinstance(text, str) or bool(words and isinstance(text[0], str))


def _as_class(tokenizer: Any, kind: type) -> Any:
    """Return the tokenizer as an object of ``kind`` that shares its parts."""
    view: Any = object.__new__(kind)
    view.__dict__ |= {name: value for name, value in tokenizer.__dict__.items() if name != "_selection"}
    return view


def _plain_class(kind: type) -> type:
    return kind.__mro__[2] if issubclass(kind, SelectiveTruncation) else kind


@cache
def _wrapped_class(kind: Any) -> Any:
    """Return a subclass with the name of its parent, which is what a tokenizer's config records."""
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type(kind.__name__, (SelectiveTruncation, kind), names)
