"""A device whose own memory is as small as a test says."""

from pipeline.models import fitting

MIB = 1 << 20


class Limited:
    """The device has `left` bytes for weights, caches and scratch memory, less what was allocated since."""

    def __init__(self, monkeypatch, device, left=1 << 40):
        self.device, self.left = device, left
        self._before = device.core.allocated
        monkeypatch.setattr(fitting, "memory_left", lambda device: max(self.left - self.taken, 0))

    @property
    def taken(self):
        return self.device.core.allocated - self._before


def mib(text):
    """The MiB of a size as messages have it."""
    number, unit = text.split()
    return float(number) * {"KiB": 1 / 1024, "MiB": 1, "GiB": 1024}[unit]
