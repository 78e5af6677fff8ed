"""How much a device's memory has room for. What will not fit is refused before anything is allocated or copied, with
the figures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..device.device import Device
from ..errors import UsageError
from ..graph.memory import machine_bytes
from ..graph.plan import human
from .decoder import Model

CONTEXT_UNIT = 256  # positions; a context that memory decides is a multiple of it

# The share of free memory that stays free: kernels, the driver and the rounding of allocations take some, of which no
# figure tells.
MARGIN = 1 / 32


@dataclass(frozen=True)
class Size:
    """`batch_size` sequences of up to `context` positions."""

    batch_size: int
    context: int

    def __str__(self) -> str:
        return f"{self.batch_size:,} × {self.context:,} positions"


def memory_left(device: Device) -> int:
    """Bytes of a device's own memory that weights, caches and scratch may take."""
    return int(device.free_bytes() * (1 - MARGIN))


def check_weights(weights: int, device: Device) -> None:
    """Raises UsageError where a device that has memory of its own is too small for `weights` more bytes."""
    if not device.unified and weights > memory_left(device):
        raise UsageError(
            f"the weights take {human(weights)}; {_left(device)}; "
            "use a checkpoint of fewer bits, or a device with more memory"
        )


def fit(
    model: Model,
    wanted: Size,
    least: Size,
    dtype: str,
    cache_bytes: Callable[[Size], int],
    scratch_bytes: Callable[[Size], int],
) -> tuple[Size, str]:
    """The size that is `wanted`, or where the device's own memory is too small for it, the largest down to `least`, and
    a line that says so; the line is empty where nothing was lowered. The batch is lowered first, then the context,
    which every sequence feels. Raises UsageError where memory is too small for `least`.

    cache_bytes, scratch_bytes: what a size takes. A smaller size takes no more. Memory that the device shares with the
    machine lowers nothing: only a cache that is larger than the machine's is refused, and a line says where more is in
    use than the device can have without loss of speed.
    """
    device, weights = model.device, model.unplaced_bytes
    if device.unified:
        _check_machine(cache_bytes(wanted), wanted, dtype)
        weights = model.mapped_bytes + model.repacked_bytes
        return wanted, _beyond_working_set(device, weights, cache_bytes(wanted))
    check_weights(weights, device)
    left = memory_left(device) - weights

    def fits(size: Size) -> bool:
        return cache_bytes(size) + scratch_bytes(size) <= left

    def figures(size: Size) -> str:
        parts = f"takes {human(cache_bytes(size))} in {dtype}, the weights {human(weights)}, scratch memory "
        return f"{parts}{human(scratch_bytes(size))}; {_left(device)}"

    if fits(wanted):
        return wanted, ""
    batch_size = _largest(least.batch_size, wanted.batch_size, lambda count: fits(Size(count, wanted.context)))
    found, most = Size(batch_size, wanted.context), 0
    if not fits(found):
        room = left - scratch_bytes(found)
        most = _largest(0, wanted.context, lambda count: cache_bytes(Size(batch_size, count)) <= room)
        found = Size(batch_size, max(most // CONTEXT_UNIT * CONTEXT_UNIT, least.context))
    if not fits(found):
        raise UsageError(f"a KV cache of {found} {figures(found)}; {_cures(found, most, dtype)}")
    more = "" if dtype == "q8" else "; --kv-cache q8 has room for more"
    return found, f"KV cache: lowered from {wanted} to {found}, which {figures(found)}{more}"


def _largest(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The largest number from `low` to `high` for which `holds` is true; `low` where there is none."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _check_machine(cache: int, size: Size, dtype: str) -> None:
    machine = machine_bytes()
    if cache > machine:
        fewer = f"give a smaller batch or fewer tokens{'' if dtype == 'q8' else ', or --kv-cache q8'}"
        raise UsageError(
            f"a KV cache of {size} in {dtype} takes {human(cache)}, this machine has {human(machine)}; {fewer}"
        )


def _beyond_working_set(device: Device, weights: int, cache: int) -> str:
    """A line where more is used at once than the device can without loss of speed; else empty."""
    most = device.core.working_set
    if weights + cache <= most:
        return ""
    return (
        f"memory: the weights take {human(weights)} and the KV cache {human(cache)}; the device {device.name} is fast "
        f"with up to {human(most)} in use, so this will be slow; use a checkpoint of fewer bits, or a smaller context"
    )


def _cures(size: Size, most: int, dtype: str) -> str:
    """Words for what would need less memory. most: a context that fits; 0 where the rest leaves no cache room."""
    cures = [f"--context {most} or less"] if most else []
    cures += ["a smaller --batch-size"] if size.batch_size > 1 else []
    cures += ["--kv-cache q8"] if most and dtype != "q8" else []
    return f"give {', or '.join([*cures, 'a checkpoint of fewer bits'])}"


def _left(device: Device) -> str:
    return f"the device {device.name} has {human(memory_left(device))} left of {human(device.total_bytes())}"
