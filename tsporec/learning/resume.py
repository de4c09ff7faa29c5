"""Resume work: a step that is finished is skipped, a step that was cut off is done again.

A result is written beside its place and then renamed, so it is whole or absent. A folder is locked while a process
works in it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tsporec._internal.digest import digest
from tsporec._internal.files import TEMPORARY, make_folder, write_whole
from tsporec._internal.locks import locked
from tsporec.selector.files import LARGEST
from tsporec.tokens.ragged import RaggedTokens

PART = ".part"
LOCK, HOLDER, RUN, DIGEST = ".lock", ".holder", "run.json", "digest"
_OF_SELECTORS = tuple(f".{name}." for name in LARGEST)  # what a killed save leaves is the new selector
_LEFTOVER = re.compile(rf"\..+\.[0-9a-f]{{8}}{re.escape(TEMPORARY)}")  # names that write_whole and writing give


@contextmanager
def working_in(folder: Path, made_from: Mapping[str, Any]) -> Iterator[None]:
    """Lock ``folder`` for the block and go on with the work in it.

    Files that a killed process left half-written are removed first.

    Parameters
    ----------
    folder : Path
        It is made if it does not exist.
    made_from : mapping
        The arguments of the work by name: JSON values, and digests of what is large. The first call stores them in
        ``run.json``.

    Raises
    ------
    ValueError
        If another process works in the folder, or its work was made from other arguments, which are named.
    """
    make_folder(folder)
    with locked(folder / LOCK, folder / HOLDER):
        _check(folder, made_from)
        for path in folder.rglob(f".*{TEMPORARY}"):
            if _LEFTOVER.fullmatch(path.name) and not path.name.startswith(_OF_SELECTORS):
                path.unlink(missing_ok=True)
        yield


def step(folder: Path, make: Callable[[Path], Any], made_from: Mapping[str, Any] | None = None) -> None:
    """Make ``folder`` with ``make(part)``, or skip this if it exists.

    ``part`` is an empty folder beside ``folder``, which gets its name when ``make`` returns.

    Raises
    ------
    ValueError
        If another process makes the same folder, or it was made from another ``made_from``.
    """
    lock, holder, part = (folder.with_name(f".{folder.name}{end}") for end in (LOCK, HOLDER, PART))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(lock, holder):
        if not folder.exists():
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            make(part)
            if made_from is not None:
                _check(part, made_from)
            os.replace(part, folder)
        if made_from is not None:
            _check(folder, made_from)


def result(path: Path) -> dict[str, Any] | None:
    """Return the JSON mapping that :func:`keep` wrote to ``path``; None if there is no file yet."""
    if not path.exists():
        return None
    try:
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if known.pop(DIGEST, None) not in (None, digest(known)):
            raise ValueError(f"its {DIGEST} differs")
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it and run again.") from error
    return known


def keep(path: Path, found: dict[str, Any]) -> dict[str, Any]:
    """Write a JSON mapping, not empty, with its digest, and return it as it is read again.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "ndcg.json"
    >>> result(path) or keep(path, {"ndcg": 0.5}), result(path) or keep(path, {"ndcg": 0.9})
    ({'ndcg': 0.5}, {'ndcg': 0.5})
    """
    write_whole(path, (json.dumps({**found, DIGEST: digest(found)}, indent=1) + "\n").encode())
    return result(path) or {}


def describe_texts(tokens: RaggedTokens) -> str:
    """Describe texts so that a person can read it and no others have it.

    >>> describe_texts(RaggedTokens.from_lists([[5, 6], [7]]))
    '2 texts of 3 tokens (ff848396f173)'
    """
    return f"{len(tokens):,} texts of {tokens.num_tokens:,} tokens ({digest(tokens.ids, tokens.cu_seqlens)[:12]})"


def _check(folder: Path, made_from: Mapping[str, Any]) -> None:
    now = json.loads(json.dumps(made_from))
    before = (result(folder / RUN) or keep(folder / RUN, {"made_from": now})).get("made_from")
    if before != now:
        raise ValueError(
            f"{folder} holds a run with other arguments: {'; '.join(_differences(before, now))}. Give another folder, "
            "or delete it to start again."
        )


def _differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    """Name the values that differ.

    >>> list(_differences({"seed": 0, "network": {"dim": 8}}, {"seed": 1, "network": {"dim": 16}}))
    ['seed was 0, is now 1', 'network.dim was 8, is now 16']
    """
    if isinstance(before, dict) and isinstance(now, dict):
        for key in before | now:
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif before != now:
        yield f"{name or 'run.json'} was {_short(before)}, is now {_short(now)}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
