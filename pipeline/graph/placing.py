"""Storages as groups: their way to a device together, and rows that move within them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence

import numpy as np

from ..device.core import _core
from ..device.device import Device
from .formats import view_dtype
from .tensors import Storage
from .transfers import Copy, Memory, Writes, upload


def place(device: Device, storages: Iterable[Storage], progress: Callable[[int], None] = lambda nbytes: None) -> None:
    """Brings storages to memory of the device's own, those from maps together; each range of a map once."""
    waiting = [storage for storage in dict.fromkeys(storages) if not storage.placed(device)]
    mapped: dict[tuple[Hashable, int, int], Memory] = {}
    made: list[tuple[Storage, Memory]] = []
    copies: list[Copy] = []
    for storage in waiting:
        key = storage.extent()
        if key not in mapped:
            mapped[key] = storage.reserve(device)
            copies += storage.copies(mapped[key])
        made.append((storage, mapped[key]))
    upload(device, copies, progress)
    for storage, memory in made:
        if not storage.copies(memory):
            storage.fill(device, memory)
            progress(storage.nbytes)
        storage.place(device, memory)


def move_rows(device: Device, storages: Sequence[Storage], kept: Sequence[int]) -> None:
    """The rows `kept` of each storage become its first ones. The runs that are committed must have completed."""
    with Writes(device) as writes:
        for storage, values in zip(storages, read(device, storages)):
            writes.add(storage, values[list(kept)])


def read(device: Device, storages: Sequence[Storage]) -> list[np.ndarray]:
    """The memory of each storage: a view where the host sees it, else a copy. The copies are made together, when the
    runs that are committed have completed."""
    waiting: list[_core.Transfer] = []
    found: list[np.ndarray] = []
    for storage in storages:
        buffer, offset = storage.on(device)
        if buffer.private:
            found.append(np.empty(storage.view_shape, view_dtype(storage.dtype)))
            waiting.append((buffer, offset, found[-1].data))
        else:
            found.append(storage.numpy(device))
    if waiting:
        device.core.read(waiting)
    return found
