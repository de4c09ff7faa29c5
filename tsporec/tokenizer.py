"""Selection inside a tokenizer, for recommenders that cut their texts before they collate.

Some encode an item's text and slice it, some pass ``truncation=True``: both keep the first tokens. A wrapped tokenizer
keeps the best ones in their order. Otherwise it behaves and saves as the tokenizer it wraps.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cache, partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tsporec.budget import Budget, as_budget, truncated_lengths
from tsporec.scorers.base import Scorer, score_tokens
from tsporec.selection import pieces_of_words, select_scored
from tsporec.selector.bound import bound_selector
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
        the bundled selector.
    budget : Budget or int, optional
        Budget of each encoded text, special tokens included. Each text of a pair has its own; they share a ``total``.
        Default: texts are cut only if ``truncation`` would cut them, to the same length.
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

    Returns
    -------
    PreTrainedTokenizerBase
        An instance of a subclass of ``type(tokenizer)``. It saves the files that ``tokenizer`` would.

    Raises
    ------
    ValueError
        If ``tokenizer`` is no Hugging Face tokenizer, or ``selector`` is bound to another one.

    Notes
    -----
    If nothing is cut, the output is that of ``tokenizer``; so are targets (``text_target``) and calls with
    ``return_overflowing_tokens``. If something is cut, ``char_to_token`` and its like are not available.

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
    kind: Any = _plain_class(type(tokenizer))
    plain: Any = _as_class(tokenizer, kind)
    wrapped: Any = _as_class(plain, _wrapped_class(kind))
    wrapped._selection = _Settings(
        bound_selector(selector, plain),
        None if budget is None else as_budget(budget),
        keep_last,
        tuple(map(int, protected_ids)),
        tuple(prompts),
        granularity,
    )
    wrapped._whole_words = pieces_of_words(granularity, plain)
    return wrapped  # type: ignore[no-any-return] # the same attributes under another class


class _Settings(NamedTuple):
    selector: Scorer
    budget: Budget | None
    keep_last: int
    protected_ids: tuple[int, ...]
    prompts: tuple[str, ...]
    granularity: str


class _Texts(NamedTuple):
    """The N texts of R encoded rows: one of each row, or the two of a pair."""

    tokens: RaggedTokens
    row: Ints  # [N]: the row of each text
    added: Bools  # [T]: tokens that the tokenizer added
    firsts: list[Any]  # [R]: the first text of each row, not encoded


_OWN = ("_selection", "_whole_words")


class SelectiveTruncation:
    """The methods that :func:`wrap_tokenizer` puts before those of a tokenizer's class."""

    _selection: _Settings
    _whole_words: Pieces | None

    @property
    def unwrapped(self) -> Any:
        """The tokenizer that is wrapped: it keeps whole texts."""
        return _as_class(self, _plain_class(type(self)))

    def __call__(self, text: Any = None, text_pair: Any = None, *args: Any, **options: Any) -> Any:
        """Encode as the tokenizer does, and keep the best tokens where texts are cut.

        1. The texts are encoded whole, by the tokenizer itself.
        2. ``_keep`` selects the places to keep in each row. If all are kept, the tokenizer's own output is returned.
        3. Every column is cut to the kept places, then padded and converted as the call asks.
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
        if self._selection.budget is None and limit is None:
            return plain(text, text_pair, **options)
        single = _is_text(text, options)
        if not single and not (hasattr(text, "__len__") and len(text)):
            return plain(text, text_pair, **options)
        rows, texts = _encode_whole(plain, text, text_pair, single, options)
        keep = self._keep(texts, truncation, limit)
        if keep is None:
            return plain(text, text_pair, **options)
        for name, values in rows.items():
            rows[name] = [[row[i] for i in places.tolist()] for row, places in zip(values, keep, strict=True)]
        return self._finish(rows, single, padding, options)

    def encode(self, text: Any, text_pair: Any = None, *args: Any, **options: Any) -> Any:
        """Return the ids of one text, as the tokenizer's own method."""
        options |= _by_name(self.unwrapped.encode, args)
        if _is_text(text, options):
            return self(text, text_pair, **options)["input_ids"]
        return self.unwrapped.encode(text, text_pair, **options)

    def encode_plus(self, text: Any, text_pair: Any = None, **options: Any) -> Any:
        """Encode one text; code for transformers 4 calls this."""
        return self(text, text_pair, **options)

    def batch_encode_plus(self, batch_text_or_text_pairs: Any, **options: Any) -> Any:
        """Encode a list of texts or pairs; code for transformers 4 calls this."""
        return self(batch_text_or_text_pairs, **options)

    def __reduce__(self) -> Any:
        return partial(wrap_tokenizer, **self._selection._asdict()), (self.unwrapped,)

    def _strategies(self, options: Mapping[str, Any]) -> tuple[Any, str, int | None]:
        """Return padding, truncation and the length it cuts to (or None), as the tokenizer reads its arguments."""
        names = {"padding", "truncation", "max_length", "pad_to_multiple_of", "verbose"}.intersection(options)
        strategies = self._get_padding_truncation_strategies  # type: ignore[attr-defined]
        padding, truncation, limit, _ = strategies(**{name: options[name] for name in names})
        return padding, truncation.value, None if truncation.value == "do_not_truncate" else limit

    def _keep(self, texts: _Texts, truncation: str, limit: int | None) -> list[Ints] | None:
        """Return the kept places of each row, None if all are kept.

        1. Mark what is protected, and score all tokens in one call.
        2. Find how many tokens each text keeps: by the budget, then by what truncation leaves of longer rows.
        3. If more is protected in a text than it may keep, only what the tokenizer added is sure of its place.
        4. Select, and count places from the start of each row.
        """
        tokens, rows = texts.tokens, len(texts.firsts)
        lengths = tokens.lengths.astype(np.int64)
        row_lengths = np.bincount(texts.row, weights=lengths, minlength=rows).astype(np.int64)
        if self._selection.budget is None and (row_lengths <= (limit or 0)).all():
            return None
        protected = self._protected(texts, row_lengths)
        # Texts are scored without what the tokenizer added: [<s> gel pen </s>] -> [gel pen].
        bare = tokens.keep(np.flatnonzero(~texts.added), lengths_to_offsets(lengths - _count(texts.added, tokens)))
        scores = np.zeros(tokens.num_tokens, dtype=np.float32)
        scores[~texts.added] = score_tokens(self._selection.selector, bare)
        k = lengths
        if self._selection.budget is not None:
            samples = lengths_to_offsets(np.bincount(texts.row, minlength=rows))
            k = np.minimum(k, self._selection.budget.resolve(scores, tokens.cu_seqlens, samples, protected))
            k = np.maximum(k, _count(protected, tokens))
        if limit is not None:
            k = _within_limit(k, texts, truncation, limit)
        if (k >= lengths).all():
            return None
        protected &= texts.added | np.repeat(_count(protected, tokens) <= k, lengths)
        kept = select_scored(
            scores, tokens, k.astype(np.int32), whole_words=self._whole_words, protected=protected
        ).kept
        starts = np.append(0, np.cumsum(row_lengths))
        bounds = pairwise(np.searchsorted(kept, starts))
        return [kept[a:b] - start for (a, b), start in zip(bounds, starts, strict=False)]

    def _protected(self, texts: _Texts, row_lengths: Ints) -> Bools:
        """Return which tokens are kept if they fit: special ones, the last ``keep_last`` of a row, prompts."""
        _, _, keep_last, protected_ids, prompts, _ = self._selection
        tokens = texts.tokens
        protected = texts.added | np.isin(tokens.ids, [*special_token_ids(self), *protected_ids])
        # The number of text tokens from each token to the end of its row: added [1, 0, 0, 1] -> [2, 2, 1, 0].
        passed = np.append(0, np.cumsum(~texts.added))
        ends = np.cumsum(row_lengths)
        protected |= np.repeat(passed[ends], row_lengths) - passed[:-1] <= keep_last
        for end, length, first in zip(ends.tolist(), row_lengths.tolist(), texts.firsts, strict=True):
            for prompt in [p for p in prompts if isinstance(first, str) and first.startswith(p)]:
                asked = self.unwrapped(prompt, add_special_tokens=False)["input_ids"]
                own = np.flatnonzero(~texts.added[end - length : end]) + end - length
                protected[own[: len(asked)]] = True
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
            return BatchEncoding({name: values[0] for name, values in columns.items()})
        return BatchEncoding(columns, tensor_type=options.get("return_tensors"))


def _by_name(method: Any, args: Sequence[Any]) -> dict[str, Any]:
    """Return the positional arguments behind the first two by their names in ``method``."""
    return dict(zip(list(inspect.signature(method).parameters)[2:], args, strict=False)) if args else {}


def _encode_whole(
    plain: Any, text: Any, text_pair: Any, single: bool, options: Mapping[str, Any]
) -> tuple[dict[str, list[Any]], _Texts]:
    """Return the columns of the rows, nothing cut, and their texts.

    A row of 9 tokens whose second text starts at 5 has texts of 5 and 4 tokens.
    """
    words = options.get("is_split_into_words", False)
    given = [text] if single else list(text)
    if text_pair is not None:
        pairs = list(zip(given, [text_pair] if single else text_pair, strict=True))
    else:
        pairs = [row if isinstance(row, tuple) and not words else (row, None) for row in given]
    whole = {k: v for k, v in options.items() if k not in ("max_length", "stride", "return_length", "padding")}
    whole |= {"truncation": False, "return_tensors": None, "return_special_tokens_mask": True, "verbose": False}
    full = plain(text, text_pair, **whole)
    rows = {name: [values] if single else list(values) for name, values in full.items()}
    masks, bounds = rows["special_tokens_mask"], []
    for number, ((first, second), mask) in enumerate(zip(pairs, masks, strict=True)):
        starts = np.zeros(0, np.int64)
        if full.encodings is not None:
            starts = np.flatnonzero([s == 1 for s in full.encodings[number].sequence_ids])
        elif second is not None:  # a slow tokenizer does not say: the first text's tokens are counted
            before = plain(first, add_special_tokens=False, is_split_into_words=words)["input_ids"]
            starts = np.flatnonzero(np.asarray(mask) == 0)[len(before) :]
        bounds.append([0, *starts[:1].tolist(), len(mask)])
    lengths = [end - start for row in bounds for start, end in pairwise(row)]
    ids = np.array(list(chain.from_iterable(rows["input_ids"])), dtype=np.int32)
    added = np.array(list(chain.from_iterable(masks)), dtype=bool)
    row = np.repeat(np.arange(len(bounds)), [len(b) - 1 for b in bounds])
    return rows, _Texts(RaggedTokens(ids, lengths_to_offsets(lengths)), row, added, [first for first, _ in pairs])


def _count(flags: Bools, tokens: RaggedTokens) -> Ints:
    """Return how many tokens of each text are flagged: int64 ``[N]``."""
    return np.diff(np.append(0, np.cumsum(flags))[tokens.cu_seqlens])


def _within_limit(k: Ints, texts: _Texts, truncation: str, limit: int) -> Ints:
    """Return ``k [N]`` such that no row keeps more than ``limit`` tokens, shared as the truncation strategy says."""
    k, added = k.copy(), _count(texts.added, texts.tokens)
    starts = np.searchsorted(texts.row, np.arange(len(texts.firsts) + 1))
    for row in np.flatnonzero(np.bincount(texts.row, weights=k) > limit).tolist():
        own = slice(starts[row], starts[row + 1])
        k[own] = added[own] + truncated_lengths(k[own] - added[own], limit - int(added[own].sum()), truncation)
    return k


def _is_text(text: Any, options: Mapping[str, Any]) -> bool:
    """Return whether ``text`` is a string, or the words of one text."""
    words = options.get("is_split_into_words") and isinstance(text, list | tuple) and len(text) > 0
    return isinstance(text, str) or bool(words and isinstance(text[0], str))


def _as_class(tokenizer: Any, kind: type) -> Any:
    """Return the tokenizer as an object of ``kind`` that shares its parts."""
    view: Any = object.__new__(kind)
    view.__dict__ |= {name: value for name, value in tokenizer.__dict__.items() if name not in _OWN}
    return view


def _plain_class(kind: type) -> type:
    return kind.__mro__[2] if issubclass(kind, SelectiveTruncation) else kind


@cache
def _wrapped_class(kind: Any) -> Any:
    """Return a subclass with the name of its parent, which is what a tokenizer's config records."""
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type(kind.__name__, (SelectiveTruncation, kind), names)
