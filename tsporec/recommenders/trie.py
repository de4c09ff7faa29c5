"""A prefix tree of token sequences: it says which tokens may follow, so that generation ends in an item's title."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class Trie:
    """Token sequences and the items they belong to. Nodes are numbered; the root is 0.

    Parameters
    ----------
    sequences : iterable of int sequences
        Sequence ``i`` belongs to item ``i``. Items with equal sequences share a node.

    Attributes
    ----------
    children : list of dict
        For each node: token -> the node after it.
    items : list of lists
        For each node: the items whose sequence ends there.
    counts : list of int
        For each node: the number of items whose sequence goes through it or ends there.

    Raises
    ------
    ValueError
        If a sequence is empty.

    Examples
    --------
    >>> trie = Trie([[5, 6], [5, 7], [5, 6]])
    >>> trie.children[0], trie.children[1], trie.items[2]
    ({5: 1}, {6: 2, 7: 3}, [0, 2])
    """

    def __init__(self, sequences: Iterable[Sequence[int]]) -> None:
        self.children: list[dict[int, int]] = [{}]
        self.items: list[list[int]] = [[]]
        self.counts = [0]
        for item, sequence in enumerate(sequences):
            if not len(sequence):
                raise ValueError(f"item {item} has no tokens, so it can never be generated; give it a title.")
            node = 0
            for token in sequence:
                if token not in self.children[node]:
                    self.children[node][token] = len(self.children)
                    self.children.append({})
                    self.items.append([])
                    self.counts.append(0)
                node = self.children[node][token]
                self.counts[node] += 1
            self.items[node].append(item)

    def path(self, sequence: Sequence[int]) -> list[int]:
        """Find the nodes after each token of a known sequence.

        >>> Trie([[5, 6], [5, 7]]).path([5, 7])
        [1, 3]
        """
        node, nodes = 0, []
        for token in sequence:
            node = self.children[node][token]
            nodes.append(node)
        return nodes
