"""Every error that Onebuf raises on purpose.

    OnebufError
    ├── BuildError            a pipeline that cannot be built: found before any device work
    │   ├── ShapeError          a shape that does not fit
    │   └── DTypeError          a dtype that a step does not take
    ├── CheckpointError       a checkpoint that cannot be opened: missing, truncated, inconsistent
    │   └── UnsupportedError    well-formed, but a family, quantisation or feature Onebuf lacks
    ├── PromptError           a prompt or prompt file that cannot be used
    ├── UsageError            impossible settings: temperature, paths, counts
    └── DeviceError           the device or what runs on it
        ├── CompileError        a shader that does not compile or lacks a kernel
        ├── RunError            a command buffer that failed: names chain, step and kernel
        ├── FindingsError       what the checker found, as a test's failure: an AssertionError, too
        └── ClosedError         use of a handle after close

A message says what is wrong, where, and what to do, in one line; a FindingsError has several lines per finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .printing import printable

if TYPE_CHECKING:
    from .device.findings import Finding


class OnebufError(Exception):
    """Base of every error raised on purpose. Its text is printable, whatever names from a checkpoint are in it."""

    def __str__(self) -> str:
        return printable(super().__str__())


class BuildError(OnebufError):
    """A pipeline that cannot be built."""


class ShapeError(BuildError):
    """A tensor whose shape does not fit the step."""


class DTypeError(BuildError):
    """A tensor whose dtype the step does not take."""


class CheckpointError(OnebufError):
    """A checkpoint that cannot be opened."""


class UnsupportedError(CheckpointError):
    """A checkpoint that is well-formed but uses what Onebuf lacks."""


class PromptError(OnebufError):
    """A prompt, or a prompt file, that cannot be used."""


class UsageError(OnebufError):
    """Settings that cannot be satisfied."""


class DeviceError(OnebufError):
    """The device, or what runs on it, failed."""


class CompileError(DeviceError):
    """A shader that does not compile, or a kernel that is not in a library."""


class RunError(DeviceError):
    """A command buffer that failed."""


class FindingsError(DeviceError, AssertionError):
    """Mistakes that the checker found in kernels. `findings` has them, the message their texts."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        count = f"{len(findings)} mistake{'' if len(findings) == 1 else 's'}"
        super().__init__(f"the checker found {count}:\n\n" + "\n\n".join(map(str, findings)))
        self.findings = tuple(findings)


class ClosedError(DeviceError):
    """A handle that was used after close."""
