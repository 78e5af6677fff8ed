"""This file keeps what a run of tests has compiled and opened: shaders, and the devices of tests that run kernels."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..device.device import Device, open_device
from ..device.findings import Finding
from ..errors import FindingsError, RunError, UsageError
from ..host import CHECKER
from .allowed import Allowed, parse_allowed, sorted_out
from .options import MOST_SCHEDULES, RunOptions, parse_options
from .shaders import Compiled

__all__ = ["Checkers"]


class Checkers:
    """Shared by all tests of one process.

    words     options for each case that a file states; paths hold from any folder
    compiled  files, each compiled once
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = [*words]
        self._settings = _settings(words)
        self._folder = tempfile.TemporaryDirectory(prefix="onebuf-check-")
        self._devices: dict[int, Device] = {}
        self.compiled = Compiled(Path(self._folder.name))

    def close(self) -> None:
        """Removes what was compiled."""
        self._folder.cleanup()

    def device(self, schedules: int = 0, allow: Sequence[str] = ()) -> Device:
        """The checker, opened once for each number of orders of threads (0: that of the options)."""
        count = schedules or self._settings.schedules
        if not 1 <= count <= MOST_SCHEDULES:
            raise UsageError(f"onebuf_check: schedules={schedules}: give a number from 1 to {MOST_SCHEDULES}")
        if count not in self._devices:
            self._devices[count] = open_device(CHECKER, schedules=count)
        return self._devices[count]

    @contextlib.contextmanager
    def judged(self, schedules: int = 0, allow: Sequence[str] = ()) -> Iterator[None]:
        """A test runs meanwhile. FindingsError lists what was found in its kernels and is not allowed."""
        allowed = [*self._settings.allowed, *(parse_allowed(text, "onebuf_check: allow:") for text in allow)]
        device = self.device(schedules)
        device.clear_findings()
        try:
            yield
        except RunError as error:  # a thread had to be stopped
            found = _left(device, allowed)
            if not found:
                raise
            raise FindingsError(found) from error
        found = _left(device, allowed)
        if found:
            raise FindingsError(found)


def _settings(words: Sequence[str]) -> RunOptions:
    """The options that concern runs, in the form in which any run has them."""
    run = parse_options([*words, "--run=a", "--grid=1", "--threads=1", "--", "a.metal"]).run
    assert run is not None
    return run


def _left(device: Device, allowed: Sequence[Allowed]) -> list[Finding]:
    found, _, _ = sorted_out(device.findings, allowed)
    device.clear_findings()
    return found
