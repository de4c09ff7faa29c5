"""Make texts of strangers fit for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Replace control characters and other invisible ones by spaces; ends of lines and joiners of letters stay.

    >>> printable("12\x1b[2J\n")
    '12 [2J\n'
    """
    return "".join(c if c.isprintable() or c in "\n\u200c\u200d" else " " for c in text)
