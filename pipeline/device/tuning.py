"""The table of a device: the choices that `python -m pipeline.bench --tune` found best there, a file of the cache.

A table holds for the device and the shaders that it was measured with. Any other is left alone, and a line says so.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

from ..errors import UsageError
from ..host import cache_folder, write_whole
from .choices import Choices

__all__ = ["OFF", "check_place", "read_table", "table_path", "tuned_choices", "write_table"]

OFF = "0"  # as OB_TUNING: no table is read
_FORMAT = 1
_MOST_BYTES = 1 << 16
_KEYS = ("format", "hardware", "shaders", "choices")


def table_path(hardware: str) -> Path:
    """Where the table of a device is. OSError where no cache folder is known."""
    return cache_folder() / "tuning" / f"{hashlib.sha256(hardware.encode()).hexdigest()[:24]}.json"


def tuned_choices(hardware: str, shaders: Callable[[], str], default: Choices) -> Choices:
    """The choices of the device's table; `default` where there is none, or OB_TUNING is 0, or the table is no good,
    which one line on standard error says.

    hardware: what the device is, with all that its speed depends on. shaders: gives what identifies the shaders; it is
    only called where there is a table."""
    wanted = os.environ.get("OB_TUNING", "")
    if wanted not in ("", OFF, "1"):
        raise UsageError(f"OB_TUNING is {wanted!r:.40}: set it to 0, so that no table is read, or unset it")
    if wanted == OFF:
        return default
    try:
        path = table_path(hardware)
        if not path.exists():
            return default
    except OSError:
        return default
    try:
        return read_table(path, hardware, shaders())
    except UsageError as error:
        print(f"onebuf: warning: {error}; run python -m pipeline.bench --tune again, or remove it", file=sys.stderr)
        return default


def read_table(path: Path, hardware: str, shaders: str) -> Choices:
    """The choices of a table. UsageError says what is wrong with it, or what it was measured with instead."""
    try:
        # A pipe would be waited for.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise ValueError
            data = stream.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise ValueError
        table = json.loads(data)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: is no table of choices") from error
    if not isinstance(table, dict) or table.get("format") != _FORMAT or set(table) != set(_KEYS):
        raise UsageError(f"{path}: is no table of choices of this version")
    if table["hardware"] != hardware:
        raise UsageError(f"{path}: is of another device than {hardware}")
    if table["shaders"] != shaders:
        raise UsageError(f"{path}: was measured with other shaders")
    choices, names = table["choices"], {field.name for field in fields(Choices)}
    if not isinstance(choices, dict) or set(choices) != names:
        raise UsageError(f"{path}: has not exactly the choices that there are: {', '.join(sorted(names))}")
    try:
        return Choices(**choices)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def check_place(path: Path) -> None:
    """Raises UsageError where a table cannot be written, so that nothing is measured in vain."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error.strerror or str(error)) from error
    if not os.access(path.parent, os.W_OK | os.X_OK) or path.is_dir():
        raise _unwritable(path, "it is a folder" if path.is_dir() else "its folder does not allow it")


def _unwritable(path: Path, why: str) -> UsageError:
    return UsageError(f"{path}: cannot be written: {why}; set OB_CACHE to a folder that can")


def write_table(path: Path, hardware: str, shaders: str, choices: Choices) -> None:
    """Writes a table, which appears whole. UsageError where that is not possible."""
    table = dict(zip(_KEYS, (_FORMAT, hardware, shaders, asdict(choices))))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(path, json.dumps(table, indent=1) + "\n")
    except OSError as error:
        raise _unwritable(path, error.strerror or str(error)) from error
