"""A prefix tree of token sequences: which tokens may follow, so that generation ends in an item's title."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class Trie:
    """Sequences of token ids and the items they belong to.

    Parameters
    ----------
    sequences : iterable of int sequences
        Sequence ``i`` names item ``i``; equal sequences share a leaf. Empty ones are refused.

    Examples
    --------
    >>> trie = Trie([[5, 6], [5, 7], [5, 6]])
    >>> trie.allowed([5]), trie.items([5, 6])
    ([6, 7], [0, 2])
    """

    def __init__(self, sequences: Iterable[Sequence[int]]) -> None:
        self._next: list[dict[int, int]] = [{}]
        self._items: list[list[int]] = [[]]
        for item, sequence in enumerate(sequences):
            if not len(sequence):
                raise ValueError(f"item {item} has no tokens; it could never be generated. Give it a title.")
            node = 0
            for token in sequence:
                if token not in self._next[node]:
                    self._next[node][token] = len(self._next)
                    self._next.append({})
                    self._items.append([])
                node = self._next[node][token]
            self._items[node].append(item)

    def walk(self, prefix: Sequence[int]) -> int | None:
        """The node that ``prefix`` leads to, None where nothing begins so."""
        node: int | None = 0
        for token in prefix:
            node = self._next[node].get(token) if node is not None else None
        return node

    def allowed(self, prefix: Sequence[int]) -> list[int]:
        """The tokens that may follow ``prefix``, ascending."""
        node = self.walk(prefix)
        return [] if node is None else sorted(self._next[node])

    def items(self, prefix: Sequence[int]) -> list[int]:
        """The items whose whole sequence is ``prefix``."""
        node = self.walk(prefix)
        return [] if node is None else self._items[node]

    def children(self, node: int) -> dict[int, int]:
        """Token -> node after it."""
        return self._next[node]

    def ends(self, node: int) -> list[int]:
        """The items that end at ``node``."""
        return self._items[node]
