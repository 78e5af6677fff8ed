"""`onebuf --version`: what a report of a fault must tell."""

from __future__ import annotations

import platform
from importlib import metadata

from .. import host
from ..device.core import _core
from ..device.resources import name_gpu_compiler
from ..errors import OnebufError

__all__ = ["version"]


def version() -> str:
    """The version, the device that `auto` chooses with its instruction set, and the build: Python, system, machine."""
    return f"onebuf {_installed()}\ndevice {_device()}\nbuild  {_build()}"


def _installed() -> str:
    try:
        return metadata.version("onebuf")
    except metadata.PackageNotFoundError:
        return "of a source folder that is not installed"


def _device() -> str:
    name_gpu_compiler()
    try:
        with _core.open_device("auto") as device:
            what = host.processor_name() or device.hardware if device.name == "cpu" else device.hardware
            return ", ".join(filter(None, (device.name, what, device.isa)))
    except OnebufError as error:
        return f"does not open: {error}"


def _build() -> str:
    python = f"Python {platform.python_version()}"
    return f"{python}, {platform.system()} {platform.machine()}, {platform.libc_ver()[0] or 'libc'}"
