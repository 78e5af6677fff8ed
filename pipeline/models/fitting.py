"""What will not fit is refused before anything is allocated or copied, with the figures."""

from __future__ import annotations

from ..device.device import Device
from ..errors import UsageError
from ..graph.memory import machine_bytes
from ..graph.plan import human
from .cache import Cache


def check_cache(cache: Cache, device: Device, weights: int) -> None:
    """Raises UsageError where memory is too small for the cache: the machine's, or that of a device with memory of its
    own, to which `weights` bytes are still to go."""
    what = f"a KV cache of {cache.slots:,} × {cache.context:,} positions in {cache.dtype} takes {human(cache.nbytes)}"
    fewer = f"give a smaller batch or fewer tokens{'' if cache.dtype == 'q8' else ', or --kv-cache q8'}"
    if device.unified:
        if cache.nbytes > machine_bytes():
            raise UsageError(f"{what}, this machine has {human(machine_bytes())}; {fewer}")
        return
    check_weights(weights, device)
    if weights + cache.nbytes > device.free_bytes():
        more = f", and the weights {human(weights)}" if weights else ""
        raise UsageError(f"{what}{more}; {_has(device)}; {fewer}")


def check_weights(weights: int, device: Device) -> None:
    """Raises UsageError where a device that has memory of its own is too small for `weights` more bytes."""
    if not device.unified and weights > device.free_bytes():
        raise UsageError(
            f"the weights take {human(weights)}; {_has(device)}; "
            "use a checkpoint of fewer bits, or a device with more memory"
        )


def _has(device: Device) -> str:
    used = f", of which {human(device.core.allocated)} are in use" if device.core.allocated else ""
    return f"the device {device.name} has {human(device.core.working_set)}{used}"
