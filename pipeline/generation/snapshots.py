"""Snapshots of the states of recurrent layers, behind a beginning that prompts may have in common: they go on there.
They lie in memory of the host; what was not used for longest goes first."""

from __future__ import annotations

from collections.abc import Sequence as Listed
from typing import TypeAlias

import numpy as np

from ..device.device import Device
from ..graph.placing import read
from ..graph.transfers import Writes
from ..models.cache import CACHE_BLOCK, PREFILL_ROWS, Cache
from .prefixes import Node
from .sequence import Sequence

LEAST = 4  # snapshots that are kept, however few slots there are
# Where nobody is known to share a prompt, its states are kept at an end of so many tokens, where a step ends
# anyway.
STRIDE = PREFILL_ROWS

States: TypeAlias = list[np.ndarray]  # of one slot, in the order of the cache


class Snapshots:
    """The states behind the last token of a node, for some nodes of a prefix tree."""

    def __init__(self, cache: Cache, device: Device) -> None:
        self._device = device
        self._storages = [storage for layer in cache.states for storage in layer]
        self._most = max(LEAST, cache.slots)
        self._kept: dict[Node, States] = {}  # the longest unused ones first
        self._known: dict[Sequence, int] = {}

    def begin(self, sequence: Sequence, known: int) -> None:
        """Takes a sequence, of whose tokens the first `known` are in the tree."""
        self._known[sequence] = known

    def end(self, sequence: Sequence) -> None:
        del self._known[sequence]

    # Where prompts stop

    def stops(self, sequence: Sequence, others: Listed[Sequence]) -> list[int]:
        """The positions of a prompt, in order, behind which its states are kept: where it leaves what was in the tree,
        where `others`, prompts beside it, part from it, and the last end of STRIDE tokens."""
        if sequence.to_score:
            return []
        found = {self._known[sequence], sequence.known // STRIDE * STRIDE}
        found |= {common(sequence, other) for other in others if other is not sequence and not other.to_score}
        return sorted(stop for stop in found if stop > sequence.done)

    def awaited(self, sequence: Sequence, others: Listed[Sequence]) -> bool:
        """Whether one of `others`, which go first, comes to states from which this prompt can go on."""
        if sequence.to_score:
            return False
        return any(sequence.done <= other.done < common(sequence, other) for other in others if not other.to_score)

    # States

    def __contains__(self, node: Node) -> bool:
        return node in self._kept

    def take(self, node: Node, slot: int) -> None:
        """Keeps the states of a slot that stands behind the node. No step is in flight."""
        if node in self._kept:
            return
        parts = [storage.part(slot) for storage in self._storages]
        self._kept[node] = [values.copy() for values in read(self._device, parts)]
        for other in [each for each in self._kept if not any(block is not None for block in each.blocks)]:
            del self._kept[other]  # its keys and values are gone
        while len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]

    def give(self, node: Node, slot: int) -> None:
        """Puts a slot behind the node."""
        states = self._kept[node] = self._kept.pop(node)
        with Writes(self._device) as writes:
            for storage, values in zip(self._storages, states):
                writes.add(storage, values, slot)


def common(sequence: Sequence, other: Sequence) -> int:
    """The end of the last block that two prompts have in common and neither ends in."""
    most, count = min(sequence.known, other.known), 0
    while count + CACHE_BLOCK <= most:
        block = slice(count, count + CACHE_BLOCK)
        if sequence.before[block] != other.before[block]:
            break
        count += CACHE_BLOCK
    return count
