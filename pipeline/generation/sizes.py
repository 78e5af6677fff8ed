"""How many positions a sequence gets where nobody knows how long the texts will be."""

from __future__ import annotations

from collections.abc import Callable

from ..graph.memory import machine_bytes
from ..models.decoder import Model
from ..models.fitting import memory_left

__all__ = ["STREAM_CONTEXT", "open_context"]

# Positions of a sequence where the longest text is not known yet, because prompts still come.
STREAM_CONTEXT = 8192
# Of the machine's memory, or of what weights leave of a device's own, such a cache takes one part of so many at most.
_MACHINE_SHARE, _DEVICE_SHARE = 8, 2


def open_context(model: Model, batch_size: int, least: int, cache_bytes: Callable[[int, int], int]) -> int:
    """The model's context, but no more than STREAM_CONTEXT if `least` positions need no more, and no more than leaves
    memory for other things. cache_bytes: what a cache of a (batch size, context) takes."""
    context = min(model.context, max(STREAM_CONTEXT, least))
    if model.device.unified:
        room = machine_bytes() // _MACHINE_SHARE
    else:
        room = (memory_left(model.device) - model.unplaced_bytes) // _DEVICE_SHARE
    while context > least and cache_bytes(batch_size, context) > room:
        context = max(context // 2, least)
    return context
