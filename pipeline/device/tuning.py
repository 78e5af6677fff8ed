"""The table of a device: the choices that `python -m pipeline.bench --tune` found best there, a file of the cache.

A table holds for the device and the shaders that it was measured with. Any other is left alone, and a line says so.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

from ..errors import UsageError
from ..host import cache_folder, write_whole
from .choices import Choices

__all__ = ["OFF", "read_table", "table_path", "tuned_choices", "write_table"]

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
    if os.environ.get("OB_TUNING") == OFF:
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
        with open(path, "rb") as stream:
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


def write_table(path: Path, hardware: str, shaders: str, choices: Choices) -> None:
    """Writes a table, which appears whole. UsageError where that is not possible."""
    table = dict(zip(_KEYS, (_FORMAT, hardware, shaders, asdict(choices))))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(path, json.dumps(table, indent=1) + "\n")
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be written: {error.strerror or error}; set OB_CACHE to a folder that can"
        ) from error
