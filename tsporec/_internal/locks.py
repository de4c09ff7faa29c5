"""Lock a folder while a process works in it. The system drops the lock when that process ends, however it ends."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout  # torch and huggingface-hub depend on it

from tsporec._internal.files import refuse_link


@contextmanager
def locked(lock: Path, holder: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold the file ``lock`` for the block. The file ``holder`` says who does, for those that are refused.

    Another process that has not let go within ``patience`` seconds is a ValueError, which names it.
    """
    try:
        held = FileLock(refuse_link(lock), timeout=patience).acquire()
    except Timeout:
        found = holder.read_text() if holder.is_file() else ""
        raise ValueError(
            f"{lock.parent} is in use by {found or 'another process'}. Wait until it is done, stop it, or give another "
            "folder."
        ) from None
    with held:
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with suppress(OSError):  # on a full disk, others are refused without the name
            refuse_link(holder).write_text(f"process {os.getpid()} on {socket.gethostname()}, since {since}")
        try:
            yield
        finally:
            holder.unlink(missing_ok=True)
