"""From chunks of items to records: in this process, in worker processes, or in Ray's."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from tsporec._internal.digest import fingerprint_of
from tsporec.budget import Budget, as_budget
from tsporec.catalog.records import Recipe, encode_ids, encode_records
from tsporec.catalog.sources import Chunk
from tsporec.data.items import FIELDS, tokenize_texts
from tsporec.scorers.patterns import PATTERNS, Keeping, join_patterns
from tsporec.selection import pieces_of_words, rank, score_tokens, select_scored
from tsporec.selector.config import SavedSelector
from tsporec.selector.files import CONFIG, WEIGHTS, from_bytes, to_bytes
from tsporec.selector.hub import DEFAULT
from tsporec.selector.model import TokenSelector
from tsporec.selector.resolve import bound_selector
from tsporec.selector.vocabulary import count_texts
from tsporec.tokens.fingerprint import tokenizer_fingerprint
from tsporec.tokens.pieces import special_token_ids
from tsporec.tokens.ragged import RaggedTokens, check_ids


class Compressed(NamedTuple):
    """Keys and records of N items, and counts of them for the report."""

    keys: list[bytes]
    records: list[bytes]
    known: int = 0  # items that the selector has item weights for
    marked: int = 0  # tokens that the patterns match
    survived: int = 0  # kept of these


COUNTS = Compressed._fields[2:]
"""The names of the counts."""

T = TypeVar("T")
WordCounts: TypeAlias = tuple[NDArray[np.int64], int]
"""The texts of a chunk that have each spelling, and the number of its texts."""

_AHEAD = 3  # chunks that wait for each worker, so that none idles while the parent reads
_worker: Callable[[Chunk], Any] | None = None


@dataclass(frozen=True)
class Compressor:
    """Turns chunks into records, with a selector that is bound to the tokenizer. Each worker process has a copy."""

    tokenizer: Any
    selector: Any
    recipe: Recipe

    @cached_property
    def scorer(self) -> Any:
        """The selector, or what ranks first what the recipe's patterns match."""
        return Keeping(self.selector, self.tokenizer, self.recipe.keep) if self.recipe.keep else self.selector

    def __call__(self, chunk: Chunk) -> Compressed:
        """Tokenise where needed, score, select, rank. An id of another kind is a ``ValueError``."""
        if not len(chunk):
            return Compressed([], [])
        keys, tokens = encode_ids(chunk.ids, self.recipe.id_type), self._tokens(chunk).with_items(chunk.ids)
        weights = getattr(self.selector, "item_weights", None)
        before = 0 if weights is None else weights.known
        if isinstance(self.scorer, Keeping):
            scores, marks = self.scorer.score_and_mark(tokens)
        else:
            scores, marks = score_tokens(self.scorer, tokens), np.zeros(tokens.num_tokens, dtype=bool)
        protected = np.isin(tokens.ids, special_token_ids(self.tokenizer))
        whole_words = pieces_of_words(self.recipe.granularity, self.tokenizer)
        selection = select_scored(scores, tokens, self.recipe.budget, whole_words=whole_words, protected=protected)
        ranks, kept = rank(scores, selection, protected), selection.apply(tokens)
        records = encode_records(keys, chunk.digests(), tokens.lengths, kept, ranks, self.recipe.token_dtype)
        known = 0 if weights is None else weights.known - before
        return Compressed(keys, records, known, int(marks.sum()), int(marks[selection.kept].sum()))

    def count(self, chunk: Chunk) -> WordCounts:
        """Count words, for :meth:`fitted`."""
        tokens = self._tokens(chunk)
        return count_texts(self.selector.vocabulary, tokens, self.selector.config.surface_buckets), len(tokens)

    def fitted(self, counts: Iterable[WordCounts]) -> Compressor:
        """Return a compressor whose selector has the word frequencies of all chunks that were counted."""
        parts = ((self.selector.vocabulary, *one) for one in counts)
        return self.with_selector(self.selector.fit_counts(parts))

    def with_selector(self, selector: Any) -> Compressor:
        """Return a compressor with another selector that is bound to the tokenizer."""
        told = getattr(selector, "frequencies", "")
        return replace(
            self,
            selector=selector,
            recipe=replace(self.recipe, selector=fingerprint_of(selector), frequencies=told),
        )

    def _tokens(self, chunk: Chunk) -> RaggedTokens:
        if chunk.tokens is None:
            return tokenize_texts(chunk.texts or [], self.tokenizer)
        remedy = "give the tokenizer that made the ids"
        check_ids(chunk.tokens.ids, self.recipe.vocabulary, "the tokenizer's vocabulary", remedy)
        return chunk.tokens


def make_compressor(
    tokenizer: Any,
    selector: Any,
    budget: Budget | int,
    id_type: str,
    fields: Sequence[str] = FIELDS,
    granularity: str = "token",
    keep: Sequence[str] = (),
) -> Compressor:
    """Return what compresses the items of a catalogue; see :meth:`tsporec.ItemCatalog.build` for the arguments.

    Without a selector it is the bundled one as it is, until it is :meth:`~Compressor.fitted`.
    """
    budget = as_budget(budget)
    if budget.total is not None:
        raise ValueError(
            "a total is shared by the items of a user's history, and a catalogue's items have no user; give "
            "Budget(tokens=…) or Budget(keep_ratio=…)."
        )
    pieces_of_words(granularity, tokenizer)  # refuse what is none
    if isinstance(fields, str):
        raise ValueError(f"fields must be a list of names; found {fields!r}.")
    join_patterns(keep)  # refuse what are none
    selector = bound_selector(DEFAULT if selector is None else selector, tokenizer)
    size = max(tokenizer.get_vocab().values(), default=-1) + 1
    patterns = tuple(PATTERNS.get(one, one) for one in keep)  # an update keeps these, whatever the names mean by then
    recipe = Recipe(tokenizer_fingerprint(tokenizer), "", size, budget, tuple(fields), id_type, granularity, patterns)
    return Compressor(tokenizer, selector, recipe).with_selector(selector)


def save_selector(selector: TokenSelector) -> dict[str, bytes]:
    """Return the files of a saved selector, without item weights and card, by their names."""
    weights = selector.without_item_weights().state_dict()
    saved, parts = to_bytes(selector.config, weights, fitted_texts=int(selector.fitted_texts))
    return {CONFIG: saved.to_json(), **parts}


def load_selector(files: Mapping[str, bytes]) -> TokenSelector | None:
    """Load a selector from its files, unbound; None if there are none. Damage is a ``ValueError``."""
    if not files:
        return None
    if not {CONFIG, WEIGHTS} <= files.keys():
        raise ValueError(f"its selector has the files {sorted(files)}, expected {CONFIG} and {WEIGHTS}")
    saved, data = SavedSelector.from_json(files[CONFIG]), files[WEIGHTS]
    if hashlib.sha256(data).hexdigest() != saved.weights_sha256:
        raise ValueError("the weights of its selector are not those that its config names")
    return TokenSelector.from_saved(saved, from_bytes(saved, data, Path(WEIGHTS)))


def map_chunks(
    work: Callable[[Chunk], T], chunks: Iterable[Chunk], num_proc: int = 1, start_method: str = "spawn"
) -> Iterator[T]:
    """Yield ``work(chunk)`` of each chunk, in the order of the chunks.

    At most ``3 * num_proc`` chunks are read ahead. With one process the work is done in this one. A worker that dies
    is a ``RuntimeError``.
    """
    if num_proc == 1:
        yield from map(work, chunks)
        return
    context = multiprocessing.get_context(start_method)
    parent = 0 if start_method == "forkserver" else os.getpid()  # the parent of a forkserver's worker is the server
    executor = ProcessPoolExecutor(num_proc, context, initializer=_start, initargs=(work, parent))
    waiting: deque[Future[T]] = deque()
    try:
        for chunk in chunks:
            waiting.append(executor.submit(_work, chunk))
            if len(waiting) >= _AHEAD * num_proc:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a worker process died (killed, or out of memory, or the script lacks an "
            "`if __name__ == '__main__':` guard). What was finished is kept: run the same build again to go on."
        ) from error
    finally:
        # Workers hold nothing of the catalogue and leave by themselves. To wait would add half a second to a build.
        executor.shutdown(wait=False, cancel_futures=True)


def _start(work: Callable[[Chunk], Any], parent: int) -> None:
    global _worker
    _worker = work
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent or os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """Leave when the parent is gone: a killed parent cannot say so, and its workers would wait for ever."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def _work(chunk: Chunk) -> Any:
    if _worker is None:
        raise RuntimeError("a worker was asked for work before it was started.")
    return _worker(chunk)
