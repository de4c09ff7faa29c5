"""From chunks of items to records: in this process, in worker processes, or in Ray's."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from tsporec._internal.digest import fingerprint_of
from tsporec.budget import Budget, as_budget
from tsporec.catalog.records import Recipe, encode_ids, encode_records
from tsporec.catalog.sources import Chunk
from tsporec.data.items import FIELDS, tokenize_texts
from tsporec.selection import pieces_of_words, rank, score_tokens, select_scored
from tsporec.selector.resolve import bound_selector
from tsporec.tokens.fingerprint import tokenizer_fingerprint
from tsporec.tokens.pieces import special_token_ids
from tsporec.tokens.ragged import RaggedTokens, check_ids


class Compressed(NamedTuple):
    """Keys and records of N items, and counts of them for the report."""

    keys: list[bytes]
    records: list[bytes]
    known: int = 0  # items that the selector has item weights for
    marked: int = 0  # tokens that patterns name (:class:`~tsporec.scorers.patterns.Keeping`)
    survived: int = 0  # kept of these


COUNTS = Compressed._fields[2:]
"""The names of the counts."""
_AHEAD = 3  # chunks that wait for each worker, so that none idles while the parent reads
_worker: Compressor | None = None


@dataclass(frozen=True)
class Compressor:
    """Turns chunks into records, with a selector that is bound to the tokenizer. Each worker process has a copy."""

    tokenizer: Any
    selector: Any
    recipe: Recipe

    def __call__(self, chunk: Chunk) -> Compressed:
        """Tokenise where needed, score, select, rank. An id of another kind is a ``ValueError``."""
        if not len(chunk):
            return Compressed([], [])
        keys, tokens = encode_ids(chunk.ids, self.recipe.id_type), self._tokens(chunk).with_items(chunk.ids)
        weights = getattr(self.selector, "item_weights", None)
        before = 0 if weights is None else weights.known
        scores = score_tokens(self.selector, tokens)
        protected = np.isin(tokens.ids, special_token_ids(self.tokenizer))
        whole_words = pieces_of_words(self.recipe.granularity, self.tokenizer)
        selection = select_scored(scores, tokens, self.recipe.budget, whole_words=whole_words, protected=protected)
        ranks, kept = rank(scores, selection, protected), selection.apply(tokens)
        records = encode_records(keys, chunk.digests(), tokens.lengths, kept, ranks, self.recipe.token_dtype)
        known = 0 if weights is None else weights.known - before
        if not hasattr(self.selector, "marks"):
            return Compressed(keys, records, known)
        marks = self.selector.marks(tokens)
        return Compressed(keys, records, known, int(marks.sum()), int(marks[selection.kept].sum()))

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
) -> Compressor:
    """Return what compresses the items of a catalogue; see :meth:`tsporec.ItemCatalog.build` for the arguments."""
    budget = as_budget(budget)
    if budget.total is not None:
        raise ValueError(
            "a total is shared by the items of a user's history, and a catalogue's items have no user; give "
            "Budget(tokens=…) or Budget(keep_ratio=…)."
        )
    pieces_of_words(granularity, tokenizer)  # refuse what is none
    if isinstance(fields, str):
        raise ValueError(f"fields must be a list of names; found {fields!r}.")
    selector = bound_selector(selector, tokenizer)
    size = max(tokenizer.get_vocab().values(), default=-1) + 1
    names = tokenizer_fingerprint(tokenizer), fingerprint_of(selector)
    recipe = Recipe(*names, size, budget, tuple(fields), id_type, granularity)
    return Compressor(tokenizer, selector, recipe)


def compress_all(
    chunks: Iterable[Chunk], compressor: Compressor, num_proc: int = 1, start_method: str = "spawn"
) -> Iterator[Compressed]:
    """Yield the records of each chunk, in the order of the chunks.

    At most ``3 * num_proc`` chunks are read ahead. With one process the work is done in this one. A worker that dies
    is a ``RuntimeError``.
    """
    if num_proc == 1:
        yield from map(compressor, chunks)
        return
    context = multiprocessing.get_context(start_method)
    parent = 0 if start_method == "forkserver" else os.getpid()  # the parent of a forkserver's worker is the server
    executor = ProcessPoolExecutor(num_proc, context, initializer=_start, initargs=(compressor, parent))
    waiting: deque[Future[Compressed]] = deque()
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


def _start(compressor: Compressor, parent: int) -> None:
    global _worker
    _worker = compressor
    torch.set_num_threads(1)
    threading.Thread(target=_end_with, args=(parent or os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """Leave when the parent is gone: a killed parent cannot say so, and its workers would wait for ever."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def _work(chunk: Chunk) -> Compressed:
    if _worker is None:
        raise RuntimeError("a worker was asked for work before it was started.")
    return _worker(chunk)
