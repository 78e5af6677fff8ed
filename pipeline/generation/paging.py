"""Which blocks of the cache each sequence has: given out as it grows, shared where beginnings are the same, and taken
back."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence as Listed

from ..device.device import Device
from ..graph.transfers import Writes
from ..models.cache import CACHE_BLOCK, BlockTable, Cache
from .prefixes import Node, PrefixTree
from .sequence import Sequence
from .snapshots import Snapshots
from .usage import Blocks


class Held:
    """The blocks that a sequence has."""

    def __init__(self, tables: int) -> None:
        # Per table: the blocks by their place in the text, None where a window has left them behind.
        self.blocks: list[list[int | None]] = [[] for _ in range(tables)]
        self.nodes: list[Node] = []  # of its full blocks, as far as they are in the tree
        self.shared: list[list[bool]] = [[] for _ in range(tables)]  # whether the block is the node's


class Paging:
    """The blocks of a cache in the hands of sequences, of the prefix tree, and free.

    shares: whether sequences share beginnings; snapshots: of the states of recurrent layers, where a model has some, up
    to which a beginning is shared.

    Threads: it belongs to the thread that steps.
    """

    def __init__(self, cache: Cache, device: Device, shares: bool = True) -> None:
        self._device = device
        self._shares = shares
        self._tables: tuple[BlockTable, ...] = cache.tables
        self._free: list[list[int]] = [list(range(table.blocks)) for table in self._tables]  # heaps: low ones first
        self._held: dict[Sequence, Held] = {}
        self._tree = PrefixTree([table.window for table in self._tables])
        self.snapshots = Snapshots(cache, device) if cache.states and shares else None
        self._most = [0] * len(self._tables)  # blocks that sequences had at the same time

    # Figures

    def free(self, table: int) -> int:
        """Blocks that a sequence can have: free ones, and those that only the tree has."""
        return len(self._free[table]) + len(self._tree.idle[table])

    @property
    def blocks(self) -> Blocks:
        """Of all tables together."""
        kept, free = sum(map(len, self._tree.idle)), sum(map(len, self._free))
        return Blocks(sum(table.blocks for table in self._tables) - kept - free, kept, free)

    @property
    def nbytes(self) -> int:
        """Bytes of the blocks that sequences have."""
        used = [table.blocks - self.free(i) for i, table in enumerate(self._tables)]
        return sum(count * table.block_bytes for count, table in zip(used, self._tables))

    def holds(self, positions: int) -> bool:
        """Whether a sequence of so many positions could ever have its blocks."""
        return all(self._needed(table, positions) <= table.blocks for table in self._tables)

    @staticmethod
    def _needed(table: BlockTable, positions: int) -> int:
        return min(math.ceil(positions / CACHE_BLOCK), table.width)

    def promised(self, prompts: Listed[Sequence], active: Listed[Sequence]) -> list[int]:
        """Blocks of each table for the rest of all `prompts`, and one more for each of `active` that grows."""
        counts = []
        for at in range(len(self._tables)):
            others = sum(self._missing(at, sequence, len(sequence.before)) for sequence in prompts)
            counts.append(others + sum(self._missing(at, sequence, sequence.most) > 0 for sequence in active))
        return counts

    def fits(self, sequence: Sequence, promised: Listed[int]) -> bool:
        """Whether there are blocks for one more sequence, beside those that are promised."""
        text = sequence.text
        there = self._usable(self._tree.find(text[: sequence.known])) if self._shares else []
        for at, table in enumerate(self._tables):
            begin = self._seen_from(table, len(there) * CACHE_BLOCK)
            used = sum(node.users[at] > 0 for node in there[begin:])
            if self._needed(table, len(text)) - used + promised[at] > self.free(at):
                return False
        return True

    def _missing(self, at: int, sequence: Sequence, positions: int) -> int:
        """Blocks that a sequence is still to get until it has so many positions."""
        table, held = self._tables[at], self._held[sequence].blocks[at]
        return max(0, self._needed(table, positions) - min(len(held), table.width))

    # A sequence

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._held

    def begin(self, sequence: Sequence) -> None:
        """Takes a sequence that has no blocks yet."""
        self._held[sequence] = Held(len(self._tables))
        if self.snapshots is not None:
            self.snapshots.begin(sequence, len(self._tree.find(sequence.before[: sequence.known])) * CACHE_BLOCK)

    def advance(self, sequence: Sequence) -> int:
        """Gives a sequence that stands at a block's end the blocks that the tree has by now for the tokens of its
        prompt that follow. How many tokens they are, which need not go through."""
        held, text = self._held[sequence], sequence.before
        first = sequence.done // CACHE_BLOCK
        if not self._shares or sequence.done % CACHE_BLOCK or len(held.blocks[0]) > first:
            return 0
        found = self._usable(self._tree.find(text[: sequence.known]))
        if len(found) <= first:
            return 0
        with Writes(self._device) as writes:
            for at, table in enumerate(self._tables):
                begin = max(first, self._seen_from(table, len(found) * CACHE_BLOCK))
                held.blocks[at] += [None] * (begin - first)
                held.shared[at] += [False] * (begin - first)
                for node in found[begin:]:
                    self._tree.use(node, at)
                    held.blocks[at].append(node.blocks[at])
                    held.shared[at].append(True)
                if begin > first:  # a ring starts anew there
                    for index in range(max(0, first - table.width), min(first, begin)):
                        self._drop(held, at, index)
                self._write(writes, table, sequence.slot, held.blocks[at], begin)
        held.nodes += found[first:]
        if self.snapshots is not None:
            self.snapshots.give(found[-1], sequence.slot)
        self._count()
        return len(found) * CACHE_BLOCK - sequence.done

    def next_block(self, sequence: Sequence) -> tuple[Node, tuple[int, ...]] | None:
        """Where the next full block of a prompt that stands at a block's end belongs in the tree: the parent, and its
        tokens. None where the rest fills no block, or none is to be shared."""
        done, before = sequence.done, sequence.before
        if not self._shares or done % CACHE_BLOCK or done + CACHE_BLOCK >= len(before):
            return None
        nodes = self._held[sequence].nodes
        return (nodes[-1] if nodes else self._tree.root), tuple(before[done : done + CACHE_BLOCK])

    def _usable(self, nodes: list[Node]) -> list[Node]:
        """As many of the nodes, from the first on, as have all blocks that the next row looks at, and the states that
        it goes on from."""
        for count in range(len(nodes), 0, -1):
            if self.snapshots is not None and nodes[count - 1] not in self.snapshots:
                continue
            if all(
                node.blocks[at] is not None
                for at, table in enumerate(self._tables)
                for node in nodes[self._seen_from(table, count * CACHE_BLOCK) : count]
            ):
                return nodes[:count]
        return []

    @staticmethod
    def _seen_from(table: BlockTable, position: int) -> int:
        """The first block that the row at `position` looks at."""
        return max(0, position - table.window + 1) // CACHE_BLOCK if table.window else 0

    def extend(self, sequence: Sequence, positions: int) -> bool:
        """Gives a sequence the blocks for its first `positions` positions. Whether there are enough; if not, it gets
        none."""
        held, count = self._held[sequence], -(-positions // CACHE_BLOCK)
        if len(held.blocks[0]) >= count:  # of all tables, since they grow together
            return True
        missing = [count - len(blocks) for blocks in held.blocks]
        for at, table in enumerate(self._tables):
            for index in range(len(held.blocks[at]) - table.width, count - table.width):
                if index >= 0:
                    self._drop(held, at, index)  # its entry in the ring is used again
            if missing[at] > self.free(at):
                return False
        with Writes(self._device) as writes:
            for at, table in enumerate(self._tables):
                first = len(held.blocks[at])
                new = [self._block(at) for _ in range(missing[at])]
                held.blocks[at] += new
                held.shared[at] += [False] * len(new)
                self._write(writes, table, sequence.slot, held.blocks[at], first)
        self._count()
        return True

    def went_through(self, sequence: Sequence, text: Listed[int], count: int) -> None:
        """The first `count` tokens of `text` have their keys and values: full blocks go into the tree."""
        held = self._held[sequence]
        if not self._shares or len(held.nodes) >= count // CACHE_BLOCK:
            return
        parent = held.nodes[-1] if held.nodes else self._tree.root
        with Writes(self._device) as writes:
            for index in range(len(held.nodes), count // CACHE_BLOCK):
                key = tuple(text[index * CACHE_BLOCK : (index + 1) * CACHE_BLOCK])
                node = parent.children.get(key)
                if node is None:
                    node = self._tree.add(parent, key, [blocks[index] for blocks in held.blocks])
                else:  # another sequence was first
                    self._exchange(writes, sequence.slot, held, node, index)
                for shared in held.shared:
                    shared[index] = True
                held.nodes.append(node)
                parent = node

    def keep(self, sequence: Sequence, stops: Listed[int]) -> None:
        """Takes a snapshot of a sequence that stands at one of `stops`."""
        if self.snapshots is not None and sequence.done in stops:
            self.snapshots.take(self._held[sequence].nodes[sequence.done // CACHE_BLOCK - 1], sequence.slot)

    def _exchange(self, writes: Writes, slot: int, held: Held, node: Node, index: int) -> None:
        """Has a sequence use a node's blocks, which hold the same as its own, or the node take them that it lacks."""
        for at, table in enumerate(self._tables):
            own, block = held.blocks[at][index], node.blocks[at]
            if own is None:
                continue
            if block is None:
                self._tree.give(node, at, own)
                continue
            self._tree.use(node, at)
            heapq.heappush(self._free[at], own)
            held.blocks[at][index] = block
            table.write(writes, slot, [block], table.entry(index * CACHE_BLOCK))

    def end(self, sequence: Sequence) -> None:
        """Takes all blocks of a sequence back; those in the tree stay there for others."""
        held = self._held.pop(sequence)
        if self.snapshots is not None:
            self.snapshots.end(sequence)
        for at, blocks in enumerate(held.blocks):
            for index in reversed(range(len(blocks))):  # so that the tree gives up ends first
                self._drop(held, at, index)
        for at in range(len(self._tables)):  # a cache of beginnings at most as large as what runs
            while len(self._tree.idle[at]) > max(self._most[at], 1) and self._take(at):
                pass

    def clear(self) -> None:
        """Takes everything back."""
        for sequence in list(self._held):
            self.end(sequence)

    # Blocks

    def _drop(self, held: Held, at: int, index: int) -> None:
        block = held.blocks[at][index]
        if block is None:
            return
        if held.shared[at][index]:
            self._tree.leave(held.nodes[index], at)
        else:
            heapq.heappush(self._free[at], block)
        held.blocks[at][index] = None

    def _block(self, at: int) -> int:
        if not self._free[at]:
            self._take(at)
        return heapq.heappop(self._free[at])

    def _take(self, at: int) -> bool:
        given = self._tree.take(at)
        for table, block in given:
            heapq.heappush(self._free[table], block)
        return bool(given)

    def _count(self) -> None:
        for at, table in enumerate(self._tables):
            self._most[at] = max(self._most[at], table.blocks - self.free(at))

    @staticmethod
    def _write(writes: Writes, table: BlockTable, slot: int, blocks: Listed[int | None], first: int) -> None:
        """Writes a slot's entries from block number `first` of its text on, round the ring where there is one."""
        index = max(first, len(blocks) - table.width)
        while index < len(blocks):
            entry = table.entry(index * CACHE_BLOCK)
            some = blocks[index : index + table.width - entry]
            table.write(writes, slot, [block for block in some if block is not None], entry)
            index += len(some)
