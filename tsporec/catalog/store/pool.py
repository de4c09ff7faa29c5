"""Chunks compressed by worker processes, in order, with a bounded number on their way."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import torch

from tsporec.catalog.store.compress import Chunk, Compressed, Compressor

_AHEAD = 3  # chunks a worker has waiting, so that it never idles while the parent reads
_worker: Compressor | None = None


def compress_all(
    chunks: Iterable[Chunk], compressor: Compressor, num_proc: int = 1, start_method: str = "spawn"
) -> Iterator[Compressed]:
    """The chunks compressed, in their order.

    Parameters
    ----------
    chunks : iterable of Chunk
        Read at most ``3 * num_proc`` ahead.
    num_proc : int
        Worker processes; 1 works in this one.
    start_method : str
        ``"spawn"`` (safe whatever this process has done before), ``"forkserver"`` or ``"fork"``.

    Raises
    ------
    RuntimeError
        If a worker dies (out of memory, killed).
    """
    if num_proc == 1:
        yield from map(compressor, chunks)
        return
    context = multiprocessing.get_context(start_method)
    parent = 0 if start_method == "forkserver" else os.getpid()  # there the server is the parent
    executor = ProcessPoolExecutor(num_proc, context, initializer=_begin, initargs=(compressor, parent))
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
        # Workers hold nothing of the store and leave by themselves; to wait would add half a second to every build.
        executor.shutdown(wait=False, cancel_futures=True)


def _begin(compressor: Compressor, parent: int) -> None:
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
    assert _worker is not None
    return _worker(chunk)
