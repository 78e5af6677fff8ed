"""What will not fit is refused before anything is allocated or copied, with the figures."""

from __future__ import annotations

from dataclasses import dataclass

from ..device.device import Device
from ..errors import UsageError
from ..graph.memory import machine_bytes
from ..graph.plan import human
from .cache import Cache
from .decoder import Model

# The share of free memory that a size which nobody asked for leaves alone: what kernels, drivers and the rounding of
# allocations take is in no figure here.
MARGIN = 1 / 16


@dataclass(frozen=True)
class Room:
    """The memory in which a model's cache must find room: a device's own, else the machine's.

    total     all of it
    free      what nothing uses
    weights   bytes of weights that are still to go there
    own       whether it is the device's own; the machine gives pages of the weights' files back where it needs them
    """

    name: str
    total: int
    free: int
    weights: int
    own: bool

    @classmethod
    def of(cls, model: Model) -> Room:
        device = model.device
        if device.unified:
            machine = machine_bytes()
            return cls("this machine", machine, machine, model.mapped_bytes + model.repacked_bytes, own=False)
        return _own(device, model.unplaced_bytes)

    def holds(self, cache: int, scratch: int, spare: bool) -> bool:
        """Whether weights, a cache and scratch memory fit, where `spare` with the margin. Of the machine's memory only
        the cache must not take more than there is: its pages are taken when they are used."""
        if not self.own:
            return cache <= self.free
        return cache + scratch <= (self.left if spare else self.free - self.weights)

    @property
    def left(self) -> int:
        """Bytes that weights and the margin leave to a cache and scratch memory."""
        return int(self.free * (1 - MARGIN)) - self.weights

    def __str__(self) -> str:
        used = self.total - self.free
        return f"{self.name} has {human(self.total)}" + (f", of which {human(used)} are in use" if used > 0 else "")


def check_cache(room: Room, cache: Cache, batch_size: int, context: int, scratch: int, fits: int = 0) -> None:
    """Raises UsageError where memory is too small for the cache, with what else must fit. fits: a context for which it
    is not too small, where there is one."""
    if room.own and room.weights > room.free:
        raise _too_heavy(room)
    if room.holds(cache.nbytes, scratch, spare=False):
        return
    parts = [f"a KV cache of {batch_size:,} × {context:,} positions in {cache.dtype} takes {human(cache.nbytes)}"]
    if room.own:
        parts += [f"the weights {human(room.weights)}"] if room.weights else []
        parts += [f"scratch memory {human(scratch)}"]
    cures = [f"a smaller context: {fits:,} fits" if fits else "a smaller context"]
    cures += ["a smaller batch"] if batch_size > 1 else []
    cures += ["--kv-cache q8"] if cache.dtype != "q8" else []
    cures += ["a checkpoint of fewer bits"] if room.own and room.weights else []
    raise UsageError(f"{', '.join(parts)}; {room}; give {', or '.join(cures)}")


def check_weights(weights: int, device: Device) -> None:
    """Raises UsageError where a device that has memory of its own is too small for `weights` more bytes."""
    if not device.unified and weights > device.free_bytes():
        raise _too_heavy(_own(device, weights))


def _own(device: Device, weights: int) -> Room:
    return Room(f"the device {device.name}", device.total_bytes(), device.free_bytes(), weights, own=True)


def _too_heavy(room: Room) -> UsageError:
    return UsageError(
        f"the weights take {human(room.weights)}; {room}; use a checkpoint of fewer bits, or a device with more memory"
    )
