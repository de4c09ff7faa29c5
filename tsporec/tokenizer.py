"""Selection inside a tokenizer, for recommenders that cut their texts before they collate.

Some encode one item's text and slice it, some pass ``truncation=True``: both keep the first tokens. A wrapped tokenizer
keeps the best ones there, in their order, and is otherwise the tokenizer it wraps: an object of a subclass of the same
name, so that it saves as the one it wraps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tsporec.budget import Budget
from tsporec.scorers.base import Scorer
from tsporec.selector.model import TokenSelector
from tsporec.tokens.pieces import special_token_ids
from tsporec.tokens.ragged import RaggedTokens, lengths_to_offsets
from tsporec.topk import cpu

T = TypeVar("T")
Bools = NDArray[np.bool_]


def wrap_tokenizer(
    tokenizer: T,
    selector: Scorer | None = None,
    budget: Budget | None = None,
    *,
    keep_last: int = 0,
    protected_ids: Sequence[int] = (),
) -> T:
    """A tokenizer that keeps the best tokens where ``tokenizer`` would keep the first (or last).

    Parameters
    ----------
    tokenizer : a Hugging Face tokenizer, fast or slow
        Shares its vocabulary with what is returned; itself unchanged.
    selector : Scorer, optional
        Bound to the tokenizer here, where it can be. By default the one in the box.
    budget : Budget, optional
        Every encoded text is cut to it, special tokens counted in and always kept; of a pair, each text on its own.
        Without one, texts are cut only where ``truncation`` would: to the same length.
    keep_last : int
        So many tokens at the end of an encoded text (or pair) are always kept, as far as they fit: the question and
        the answer of a prompt.
    protected_ids : ints
        Besides special tokens, token ids that are always kept, as far as they fit.

    Returns
    -------
    PreTrainedTokenizerBase
        Of a subclass of the tokenizer's own class; ``save_pretrained`` writes what ``tokenizer`` would.

    Notes
    -----
    Where nothing is cut the output is the tokenizer's own. Where something is, the methods that map characters and
    words to tokens (``char_to_token`` …) are not available; offsets and special-token masks are. With
    ``return_overflowing_tokens`` nothing is lost to begin with, and the wrapped tokenizer answers. Targets
    (``text_target``) are not cut to the budget.

    Examples
    --------
    >>> tokenizer = wrap_tokenizer(tokenizer, selector)                                    # doctest: +SKIP
    >>> tokenizer(prompt, truncation=True, max_length=256)     # the best 256, not the first      # doctest: +SKIP
    """
    if not hasattr(tokenizer, "_get_padding_truncation_strategies"):
        raise ValueError(f"expected a Hugging Face tokenizer; found {type(tokenizer).__name__}.")
    plain: Any = _as_class(tokenizer, _plain_class(type(tokenizer)))
    scorer: Any = selector if selector is not None else TokenSelector.from_pretrained()
    if hasattr(scorer, "for_tokenizer"):
        scorer = scorer.for_tokenizer(plain)
    kind: Any = type(plain)
    wrapped: Any = _as_class(plain, _wrapped_class(kind))
    wrapped._selection = (scorer, budget, keep_last, tuple(map(int, protected_ids)))
    return wrapped  # type: ignore[no-any-return] # the same attributes under another class


class SelectiveTruncation:
    """What :func:`wrap_tokenizer` puts before a tokenizer's class."""

    _selection: tuple[Scorer, Budget | None, int, tuple[int, ...]] | None = None

    @property
    def unwrapped(self) -> Any:
        """The tokenizer that is wrapped: its texts are whole."""
        return _as_class(self, _plain_class(type(self)))

    def __call__(self, text: Any = None, text_pair: Any = None, *args: Any, **options: Any) -> Any:
        """As the tokenizer's own call, the best tokens kept where texts are cut."""
        encode = super().__call__  # type: ignore[misc] # the tokenizer's class stands behind this one
        if self._selection is None or text is None or args or options.get("return_overflowing_tokens"):
            return encode(text, text_pair, *args, **options)
        targets = {name: options.pop(name) for name in ("text_target", "text_pair_target") if name in options}
        if any(target is not None for target in targets.values()):
            batch = self(text, text_pair, **options)
            batch["labels"] = encode(**targets, **options)["input_ids"]
            return batch
        budget = self._selection[1]
        padding, truncation, limit = self._strategies(options)
        if budget is None and limit is None:
            return encode(text, text_pair, **options)
        full = self._encode_whole(encode, text, text_pair, options)
        single = not (len(full["input_ids"]) and isinstance(full["input_ids"][0], list | tuple))
        if single and not _is_text(text, options):
            return encode(text, text_pair, **options)  # an empty batch
        rows = {name: [values] if single else list(values) for name, values in full.items()}
        second = self._second_starts(full, rows, text, text_pair, single, options)
        keep = self._keep(rows, second, truncation, limit)
        if keep is None:
            return encode(text, text_pair, **options)
        kept = {name: [_take(v, k) for v, k in zip(values, keep, strict=True)] for name, values in rows.items()}
        return self._finish(kept, single, padding, options)

    def encode(self, text: Any, text_pair: Any = None, *args: Any, **options: Any) -> Any:
        """Ids of one text, as the tokenizer's own method."""
        if self._selection is None or args or not _is_text(text, options):
            return super().encode(text, text_pair, *args, **options)  # type: ignore[misc]
        return self(text, text_pair, **options)["input_ids"]

    def __reduce__(self) -> Any:
        if self._selection is None:
            return super().__reduce__()
        return _wrap_again, (self.unwrapped, *self._selection)

    def _strategies(self, options: Mapping[str, Any]) -> tuple[Any, str, int | None]:
        """(padding, truncation, the length it cuts to or None), as the tokenizer reads its arguments."""
        names = ("padding", "truncation", "max_length", "pad_to_multiple_of", "verbose")
        asked = {name: options[name] for name in names if name in options}
        padding, truncation, limit, _ = self._get_padding_truncation_strategies(**asked)  # type: ignore[attr-defined]
        return padding, truncation.value, None if truncation.value == "do_not_truncate" else limit

    def _encode_whole(self, encode: Any, text: Any, text_pair: Any, options: Mapping[str, Any]) -> Any:
        whole = {k: v for k, v in options.items() if k not in ("max_length", "stride", "return_length", "padding")}
        whole |= {"truncation": False, "return_tensors": None, "return_special_tokens_mask": True, "verbose": False}
        return encode(text, text_pair, **whole)

    def _second_starts(
        self, full: Any, rows: Mapping[str, Any], text: Any, text_pair: Any, single: bool, options: Mapping[str, Any]
    ) -> list[int | None]:
        """Where the second text of each row starts, None where there is none."""
        count = len(rows["input_ids"])
        if full.encodings is not None:
            sequences = [np.array([-1 if s is None else s for s in e.sequence_ids]) for e in full.encodings]
            return [int(np.argmax(s == 1)) if (s == 1).any() else None for s in sequences]
        texts = [text] if single else list(text)
        if text_pair is None:
            pairs = [t if isinstance(t, tuple) and not options.get("is_split_into_words") else (t, None) for t in texts]
        else:
            pairs = list(zip(texts, [text_pair] if single else text_pair, strict=True))
        starts: list[int | None] = []
        plain = {"add_special_tokens": False, "is_split_into_words": options.get("is_split_into_words", False)}
        for (first, other), mask in zip(pairs, rows["special_tokens_mask"][:count], strict=True):
            length = len(super().__call__(first, **plain)["input_ids"]) if other is not None else 0  # type: ignore[misc]
            own = np.flatnonzero(np.asarray(mask) == 0)
            starts.append(int(own[length]) if other is not None and length < len(own) else None)
        return starts

    def _keep(
        self,
        rows: Mapping[str, list[Any]],
        second: list[int | None],
        truncation: str,
        limit: int | None,
    ) -> list[NDArray[np.int64]] | None:
        """The kept places of each row; None if all are kept."""
        assert self._selection is not None
        scorer, budget, keep_last, protected_ids = self._selection
        lengths = np.array([len(ids) for ids in rows["input_ids"]], dtype=np.int64)
        bounds = [[0, n] if s is None else [0, s, n] for s, n in zip(second, lengths.tolist(), strict=True)]
        counts = np.array([len(b) - 1 for b in bounds])
        pieces = np.concatenate([np.diff(b) for b in bounds])
        tokens = RaggedTokens(
            np.array([i for ids in rows["input_ids"] for i in ids], np.int64), lengths_to_offsets(pieces)
        )
        cu = tokens.cu_seqlens
        row_of_piece = np.repeat(np.arange(len(lengths)), counts)
        over = np.zeros(len(lengths), bool) if limit is None else lengths > limit
        if budget is None and not over.any():
            return None
        added = np.array([m for row in rows["special_tokens_mask"] for m in row], dtype=bool)
        protected = added | np.isin(tokens.ids, [*special_token_ids(self), *protected_ids])
        text = np.concatenate([[0], np.cumsum(~added)])
        ends = np.cumsum(lengths)
        protected |= np.repeat(text[ends], lengths) - text[:-1] <= keep_last
        scores = np.asarray(scorer.score(tokens))
        k = np.diff(cu).astype(np.int64)
        if budget is not None:
            k = np.minimum(k, budget.resolve(scores, cu, lengths_to_offsets(counts), protected))
            k = np.maximum(
                k, np.add.reduceat(np.append(protected, False).astype(np.int64), cu[:-1]) * (np.diff(cu) > 0)
            )
        total = np.bincount(row_of_piece, weights=k, minlength=len(lengths))
        for row in np.flatnonzero(total > (limit if limit is not None else np.inf)).tolist():
            mine = row_of_piece == row
            special = np.array([int(added[a:b].sum()) for a, b in zip(cu[:-1][mine], cu[1:][mine], strict=True)])
            k[mine] = special + _truncated(k[mine] - special, int(limit or 0) - int(special.sum()), truncation)
        if (k >= np.diff(cu)).all():
            return None
        # What must stay may be more than fits: then only what the tokenizer added is sure of its place.
        crowded = np.add.reduceat(np.append(protected, False).astype(np.int64), cu[:-1]) > k
        protected &= added | ~np.repeat(crowded & (np.diff(cu) > 0), np.diff(cu))
        chosen, _ = cpu.select(scores, cu, k.astype(np.int32), protected)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        cuts = np.searchsorted(chosen, starts)
        return [chosen[a:b] - s for a, b, s in zip(cuts[:-1], cuts[1:], starts[:-1], strict=True)]

    def _finish(self, rows: dict[str, list[Any]], single: bool, padding: Any, options: Mapping[str, Any]) -> Any:
        """Pad and convert the cut rows as the call asked."""
        from transformers import BatchEncoding

        if not options.get("return_special_tokens_mask"):
            rows.pop("special_tokens_mask")
        offsets = rows.pop("offset_mapping", None)
        batch = self.pad(  # type: ignore[attr-defined]
            BatchEncoding(rows),
            padding=padding,
            max_length=options.get("max_length"),
            pad_to_multiple_of=options.get("pad_to_multiple_of"),
            padding_side=options.get("padding_side"),
            return_attention_mask="attention_mask" in rows,
            verbose=False,
        )
        columns = dict(batch)
        if offsets is not None:
            left = (options.get("padding_side") or self.padding_side) == "left"  # type: ignore[attr-defined]
            blanks = [[(0, 0)] * (len(i) - len(o)) for i, o in zip(columns["input_ids"], offsets, strict=True)]
            columns["offset_mapping"] = [b + o if left else o + b for b, o in zip(blanks, offsets, strict=True)]
        if options.get("return_length"):
            columns["length"] = [len(ids) for ids in columns["input_ids"]]
        tensors = options.get("return_tensors")
        if single and tensors is None:
            columns = {name: values[0] for name, values in columns.items()}
        return BatchEncoding(columns, tensor_type=tensors)


def _wrap_again(tokenizer: Any, scorer: Scorer, budget: Budget | None, keep_last: int, ids: tuple[int, ...]) -> Any:
    """For pickles: keywords as places."""
    return wrap_tokenizer(tokenizer, scorer, budget, keep_last=keep_last, protected_ids=ids)


def _truncated(lengths: NDArray[np.int64], room: int, truncation: str) -> NDArray[np.int64]:
    """How many tokens of each text (one or two) a truncation strategy leaves where ``room`` are to be left."""
    if len(lengths) == 1:
        if truncation == "only_second":
            raise ValueError("truncation='only_second' needs a pair of texts; found one text.")
        return np.minimum(lengths, max(room, 0))
    first, second = lengths.tolist()
    if truncation == "only_first":
        left = [room - second, second]
    elif truncation == "only_second":
        left = [first, room - first]
    elif min(first, second) * 2 <= room:  # the shorter stays whole
        left = [first, room - first] if first <= second else [room - second, second]
    else:
        left = [room - room // 2, room // 2] if first <= second else [room // 2, room - room // 2]
    if min(left) < 0 or (left[0] == 0 and first) or (left[1] == 0 and second):
        raise ValueError(
            f"truncation={truncation!r} cannot bring texts of {first} and {second} tokens to {room}; "
            "use a larger max_length or 'longest_first'."
        )
    return np.array(left)


def _is_text(text: Any, options: Mapping[str, Any]) -> bool:
    """A string, or the words of one text."""
    words = options.get("is_split_into_words") and isinstance(text, list | tuple) and len(text) > 0
    return isinstance(text, str) or bool(words and isinstance(text[0], str))


def _take(values: Any, kept: NDArray[np.int64]) -> Any:
    return [values[i] for i in kept.tolist()]


def _as_class(tokenizer: Any, kind: type) -> Any:
    """The same tokenizer, seen as an object of ``kind``; parts are shared."""
    twin: Any = object.__new__(kind)
    twin.__dict__.update({k: v for k, v in tokenizer.__dict__.items() if k != "_selection"})
    return twin


def _plain_class(kind: type) -> type:
    return kind.__mro__[2] if issubclass(kind, SelectiveTruncation) else kind


@cache
def _wrapped_class(kind: Any) -> Any:
    """A subclass with the name of its parent, which is what a tokenizer's config records."""
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type(kind.__name__, (SelectiveTruncation, kind), names)
