"""One writer at a time: the second is told who the first is.

The lock belongs to the open file (``flock``), so the system drops it when its holder dies, however it dies: no stale
lock is ever left and none is ever taken from a living process. The file's text only says who holds it.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from pathlib import Path
from types import TracebackType

from tsporec._internal.files import write_all
from tsporec.catalog.store.layout import LOCK

_held: set[int] = set()


def _let_go() -> None:
    """A forked child inherits the open file, and with it the lock: it must not outlive the writer there."""
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


class StoreLock:
    """A context manager that holds a store's lock.

    Raises
    ------
    ValueError
        If somebody else holds it; the message has the holder's id, process, host and start.
    OSError
        On a system without ``flock``: a store is read there, not written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self.id = secrets.token_hex(6)
        self._handle = -1

    def __enter__(self) -> StoreLock:
        try:
            import fcntl
        except ImportError:
            raise OSError("writing a catalogue needs flock, which this system lacks; build it elsewhere.") from None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise ValueError(
                f"{self.path.parent} is being written by {self._holder()}. Wait until it is done, or stop it; "
                "readers are not held up."
            ) from None
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle
        _held.add(handle)
        who = {
            "id": self.id,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        try:
            os.ftruncate(handle, 0)
            write_all(handle, json.dumps(who).encode())
        except BaseException:  # a full disk: nobody will come to __exit__
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle in _held:
            os.ftruncate(self._handle, 0)
            self._release()

    def _release(self) -> None:
        _held.remove(self._handle)
        os.close(self._handle)

    def _holder(self) -> str:
        try:
            who = json.loads(self.path.read_bytes())
            return f"writer {who['id']} (process {who['pid']} on {who['host']}, since {who['since']})"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process that has just begun"
