"""The facts that the system tells of the machine: its processor, and whether others use it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ..device.device import Device
from ..host import processor_name

__all__ = ["busy_cores", "hardware"]

SECONDS = 0.3  # of watching
_IDLE = (3, 4)  # fields of /proc/stat: idle, and waiting for a disk


def hardware(device: Device) -> str:
    """The processor's name where the device runs on it and Linux tells, else what the device says."""
    return (processor_name() if device.name == "cpu" else "") or device.core.hardware


def busy_cores(stat: Path = Path("/proc/stat"), seconds: float = SECONDS) -> float | None:
    """Cores that were busy while this process slept; None where the system does not tell."""
    try:
        before = _times(stat)
        time.sleep(seconds)
        spent = [after - first for after, first in zip(_times(stat), before)]
    except (OSError, ValueError, IndexError):
        return None
    total = sum(spent)
    return (1 - sum(spent[i] for i in _IDLE) / total) * (os.cpu_count() or 1) if total else None


def _times(stat: Path) -> list[int]:
    """The times of all cores together: user, nice, system, idle, iowait, irq, softirq, steal (guests are in user)."""
    return [int(field) for field in stat.read_text().split("\n", 1)[0].split()[1:9]]
