"""Compares buffers after a run with files, within a tolerance: `--expect NAME=FILE.npy`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UsageError
from .buffers import parse_buffer, shown

__all__ = ["Difference", "Expected", "difference", "parse_expected"]

RTOL, ATOL = 1e-5, 1e-8  # of floats, as numpy.allclose has them
FORM = "INDEX=FILE.npy or INDEX=FILE.npy:RTOL or INDEX=FILE.npy:RTOL:ATOL"


@dataclass(frozen=True)
class Expected:
    """The values of one buffer; a value may be off by atol + rtol * its size. NaN equals NaN."""

    name: str
    file: Path
    values: np.ndarray
    rtol: float
    atol: float


@dataclass(frozen=True)
class Difference:
    """How a buffer differs from what was expected."""

    name: str
    file: str
    count: int  # values that differ
    total: int
    worst: int  # the first of those that differ most, counted through the whole buffer
    found: float
    wanted: float

    def __str__(self) -> str:
        return (
            f"buffer {self.name}: {self.count} of {self.total} values differ from {self.file}, most at [{self.worst}]: "
            f"{self.found:g} instead of {self.wanted:g}"
        )


def parse_expected(text: str) -> Expected:
    """The option that `text` states. UsageError says what is wrong with it."""
    name, equals, rest = text.partition("=")
    file, *tolerances = rest.split(":")
    if not equals or not name or not file.endswith(".npy") or len(tolerances) > 2:
        raise UsageError(f"--expect {text}: write {FORM}")
    try:
        limits = [float(each) for each in tolerances]
    except ValueError:
        limits = [-1.0]
    if not all(0 <= each < float("inf") for each in limits):
        raise UsageError(f"--expect {text}: a tolerance is a number from 0 on; write {FORM}")
    try:
        values = np.load(Path(file).expanduser(), allow_pickle=False)
    except (OSError, ValueError, EOFError):  # an array that a buffer could hold has a message of its own
        values = parse_buffer(f"0={file}", f"--expect {text}").values
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub":
        raise UsageError(f"--expect {text}: {file} has no numbers; save an array of them")
    rtol, atol = [*limits, *(RTOL, ATOL)[len(limits) :]]
    return Expected(name, Path(file), values, rtol, atol if len(limits) != 1 else 0.0)


def difference(expected: Expected, values: np.ndarray, dtype: str) -> Difference | None:
    """How the values that a buffer holds differ; None where they do not. UsageError where they cannot be compared."""
    found, wanted = shown(values, dtype).reshape(-1), expected.values.reshape(-1)
    if found.size != wanted.size:
        raise UsageError(
            f"--expect {expected.name}={expected.file}: it has {wanted.size} values, and the buffer {found.size}"
        )
    exact = found.dtype.kind in "iub" and wanted.dtype.kind in "iub"
    if exact:
        off = (found != wanted).astype(np.float64) * np.abs(found.astype(np.float64) - wanted.astype(np.float64))
        wrong = found != wanted
    else:
        first, second = found.astype(np.float64), wanted.astype(np.float64)
        same = (first == second) | (np.isnan(first) & np.isnan(second))
        with np.errstate(invalid="ignore"):
            off = np.where(same, 0.0, np.abs(first - second))
            wrong = ~same & ~(off <= expected.atol + expected.rtol * np.abs(second))
        off = np.where(np.isnan(off), np.inf, off)
    if not wrong.any():
        return None
    worst = int(np.argmax(np.where(wrong, off, -1.0)))
    return Difference(
        expected.name,
        str(expected.file),
        int(wrong.sum()),
        wrong.size,
        worst,
        float(found[worst]),
        float(wanted[worst]),
    )
