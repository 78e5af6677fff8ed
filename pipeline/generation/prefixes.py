"""The prefix tree: which blocks of the cache hold the keys and values of which tokens, so that sequences share them.

A node stands for CACHE_BLOCK tokens that follow the tokens of its parents. What is kept for a beginning that many
prompts have in common is computed once (RadixAttention, Zheng et al. 2024, with nodes of one block each).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..models.cache import CACHE_BLOCK


class Node:
    """The blocks of CACHE_BLOCK tokens, one per table; None where a table's layers no longer have them."""

    __slots__ = ("blocks", "children", "key", "parent", "users")

    def __init__(self, parent: Node | None, key: tuple[int, ...], blocks: list[int | None]) -> None:
        self.parent = parent
        self.key = key
        self.blocks = blocks
        self.children: dict[tuple[int, ...], Node] = {}
        self.users = [0] * len(blocks)  # per table: sequences that have its block


class PrefixTree:
    """Nodes by their tokens. `idle` has those whose block no sequence has, by table, the longest unused ones first.

    windows: of each table, 0 for layers that see all positions.
    """

    def __init__(self, windows: Sequence[int]) -> None:
        self.root = Node(None, (), [None] * len(windows))
        self.idle: list[dict[Node, None]] = [{} for _ in windows]
        self._windows = windows

    def find(self, tokens: Sequence[int]) -> list[Node]:
        """The nodes of the longest beginning of `tokens` that is known, in order."""
        found, node = [], self.root
        for first in range(0, len(tokens) - CACHE_BLOCK + 1, CACHE_BLOCK):
            child = node.children.get(tuple(tokens[first : first + CACHE_BLOCK]))
            if child is None:
                break
            found.append(child)
            node = child
        return found

    def add(self, parent: Node, key: tuple[int, ...], blocks: list[int | None]) -> Node:
        """The node for `key` behind `parent`, which takes these blocks; its first user is the caller."""
        node = parent.children[key] = Node(parent, key, blocks)
        node.users = [int(block is not None) for block in blocks]
        return node

    def give(self, node: Node, table: int, block: int) -> None:
        """A block for a node that has none; its first user is the caller."""
        node.blocks[table] = block
        node.users[table] = 1

    def use(self, node: Node, table: int) -> None:
        """One more sequence has the node's block of `table`."""
        node.users[table] += 1
        self.idle[table].pop(node, None)

    def leave(self, node: Node, table: int) -> None:
        """A sequence has it no longer. The block stays, for a later one, until it is taken."""
        node.users[table] -= 1
        if not node.users[table] and node.blocks[table] is not None:
            self.idle[table][node] = None

    def take(self, table: int) -> list[tuple[int, int]]:
        """(table, block) of what the longest unused node gives up; empty where there is none. Where layers see all
        positions a node without children goes, whole; where they have a window its block alone."""
        if self._windows[table]:
            for node in self.idle[table]:
                block, node.blocks[table] = node.blocks[table], None
                del self.idle[table][node]
                self._prune(node)
                return [] if block is None else [(table, block)]
            return []
        for node in self.idle[table]:
            if not node.children and not any(node.users):
                given = [(at, block) for at, block in enumerate(node.blocks) if block is not None]
                node.blocks = [None] * len(node.blocks)
                for nodes in self.idle:
                    nodes.pop(node, None)
                self._prune(node)
                return given
        return []

    def _prune(self, node: Node) -> None:
        """Takes nodes without blocks and children out of the tree."""
        while node.parent is not None and not node.children and not any(block is not None for block in node.blocks):
            node.parent.children.pop(node.key, None)
            node = node.parent
