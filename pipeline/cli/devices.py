"""`--device list`: the devices of this machine, one line each, and why others are not there."""

from __future__ import annotations

from ..device.core import _core
from ..device.resources import name_gpu_compiler
from ..errors import OnebufError
from ..graph.memory import human
from ..host import CHECKER, DEVICES, processor_name

__all__ = ["show_devices"]


def show_devices() -> None:
    """Prints the list. Nothing is compiled, and only the devices themselves are opened."""
    name_gpu_compiler()
    names = _core.device_names()
    lines = [(name, _described(name)) for name in names]
    kinds = {name.partition(":")[0] for name in names} | {"auto"}
    lines += [(kind, f"absent: {_core.device_problem(kind) or _ELSEWHERE}") for kind in DEVICES if kind not in kinds]
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        print(f"{name:{width}}  {text}")


_ELSEWHERE = "macOS has Apple's Metal in its place"


def _described(name: str) -> str:
    try:
        with _core.open_device(name) as device:
            return ", ".join(filter(None, (_title(device), device.isa, _memory(device), _threads(device))))
    except OnebufError as error:
        return f"does not open: {error}"


def _title(device: _core.Device) -> str:
    if device.name == CHECKER:
        return "watches every access of a kernel"
    return processor_name() or device.hardware if device.name == "cpu" else device.hardware


def _memory(device: _core.Device) -> str:
    """Of a device that has memory of its own."""
    free = max(device.working_set - device.allocated, 0)
    return f"{human(free)} free of {human(device.memory)}" if device.memory else ""


def _threads(device: _core.Device) -> str:
    count = device.threads
    what = "threads per threadgroup" if device.name == CHECKER else "thread" if count == 1 else "threads"
    return f"{count:,} {what}" if count else ""
