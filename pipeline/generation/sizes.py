"""How many sequences of how many positions a generator has room for, in the memory that a device has left.

Chains are planned on paper, so that all which they need is known before a byte of the weights goes up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..graph.memory import human
from ..models.cache import PREFILL_ROWS, Cache
from ..models.decoder import Model
from ..models.fitting import Room, check_cache
from ..models.row_state import Rows
from .decode import Decode
from .prefill import Prefill
from .sampler import Features

CONTEXT_UNIT = 256  # positions; a context that memory decides is a multiple of it


@dataclass(frozen=True)
class Size:
    """`batch_size` sequences of up to `context` positions."""

    batch_size: int
    context: int

    def __str__(self) -> str:
        return f"{self.batch_size:,} × {self.context:,} positions"


class Parts:
    """What a generator of a size is made of. Nothing is allocated before it is used."""

    def __init__(self, model: Model, size: Size, kv_cache: str, features: Features, copies: int) -> None:
        self.size = size
        self.cache: Cache = model.cache(size.batch_size, size.context, kv_cache, PREFILL_ROWS)
        self.rows = Rows.zeros(size.batch_size)
        self.prefill = Prefill(model, self.cache, PREFILL_ROWS)
        self.decode = Decode(model, self.cache, self.rows, size.context, features, copies)

    @property
    def scratch(self) -> int:
        """Bytes of scratch memory, which both chains have at the same time, and of the rows' state."""
        return self.prefill.plan.layout.nbytes + self.decode.nbytes_on_device


def fit(model: Model, wanted: Size, least: Size, make: Callable[[Size], Parts]) -> tuple[Parts, str]:
    """The parts of the size that is `wanted`, or of the largest down to `least` for which memory is large enough, and
    a line that says so, empty where it is the wanted one.

    The batch becomes smaller first, then the context, which every sequence feels. UsageError, with the figures, where
    memory is too small for the least one. Where there is a choice, a margin stays free.
    """
    room, parts = Room.of(model), make(wanted)
    spare = wanted != least
    if room.holds(parts.cache.nbytes, parts.scratch if room.own else 0, spare):
        return parts, ""
    parts = _fewer(room, parts, least, make)
    if not room.holds(parts.cache.nbytes, parts.scratch, spare):
        context = _context(model, room, parts)
        if context >= least.context:
            parts = make(Size(parts.size.batch_size, max(context // CONTEXT_UNIT * CONTEXT_UNIT, least.context)))
        else:
            parts = make(least)
            fits = _context(model, room, parts)
            check_cache(room, parts.cache, least.batch_size, least.context, parts.scratch, fits)
    return parts, "" if parts.size == wanted else _note(room, wanted, parts)


def _fewer(room: Room, parts: Parts, least: Size, make: Callable[[Size], Parts]) -> Parts:
    """The parts with as many sequences as have room, and no fewer than `least`."""
    while parts.size.batch_size > least.batch_size:
        size, slot = parts.size, parts.cache.nbytes // parts.size.batch_size
        found = (room.left - parts.scratch) // max(slot, 1)
        if found >= size.batch_size:
            break
        # Fewer rows need less scratch memory, too: where it alone is too large, half of them are tried.
        fewer = found if found > 0 else size.batch_size // 2
        parts = make(Size(max(fewer, least.batch_size), size.context))
    return parts


def _context(model: Model, room: Room, parts: Parts) -> int:
    """The largest context with which the cache has room beside the scratch memory of `parts`; 0 for none."""
    low, high = 0, parts.size.context
    while low < high:
        middle = (low + high + 1) // 2
        cache = model.cache(parts.size.batch_size, middle, parts.cache.dtype, PREFILL_ROWS)
        low, high = (middle, high) if cache.nbytes <= room.left - parts.scratch else (low, middle - 1)
    return low


def _note(room: Room, wanted: Size, parts: Parts) -> str:
    taken = f"the KV cache takes {human(parts.cache.nbytes)} in {parts.cache.dtype}, the weights {human(room.weights)}"
    more = "" if parts.cache.dtype == "q8" else "; --kv-cache q8 has room for more"
    return f"room for {parts.size}, not {wanted}: {room}; {taken}, scratch memory {human(parts.scratch)}{more}"
