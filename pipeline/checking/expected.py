"""Compares buffers after a run with what they must hold, within a tolerance: `--expect NAME=FILE.npy`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UsageError
from .buffers import KINDS, BufferOption, parse_buffer, shown

__all__ = ["Difference", "Expected", "difference", "parse_expected"]

RTOL, ATOL = 1e-5, 1e-8  # of floats, as numpy.allclose has them
FORM = "INDEX=FILE.npy, INDEX=VALUE,...:DTYPE or INDEX=zeros|ones:SHAPE:DTYPE, each with :RTOL or :RTOL:ATOL behind it"


@dataclass(frozen=True)
class Expected:
    """The values of one buffer; a value may be off by atol + rtol * its size. NaN equals NaN.

    source   the file or the text that states the values
    dtype    NumPy's name, or "bfloat16", whose `values` are numbers
    shape    None where any shape of that many values will do
    """

    name: str
    source: str
    values: np.ndarray
    dtype: str
    shape: tuple[int, ...] | None
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
    words = rest.split(":")
    count = 1 if words[0].endswith(".npy") else 3 if words[0] in KINDS else 2
    source, tolerances = ":".join(words[:count]), words[count:]
    if not equals or not name or len(words) < count or len(tolerances) > 2 or words[0] in ("empty", "random"):
        raise UsageError(f"--expect {text}: write {FORM}")
    try:
        limits = [float(each) for each in tolerances]
    except ValueError:
        limits = [-1.0]
    if not all(0 <= each < float("inf") for each in limits):
        raise UsageError(f"--expect {text}: a tolerance is a number from 0 on; write {FORM}")
    values, dtype, shape = _of_file(source, text) if count == 1 else _stated(source, text)
    rtol, atol = [*limits, *(RTOL, ATOL)[len(limits) :]]
    return Expected(name, source, values, dtype, shape, rtol, atol if len(limits) != 1 else 0.0)


def _of_file(file: str, text: str) -> tuple[np.ndarray, str, tuple[int, ...]]:
    try:
        values = np.load(Path(file).expanduser(), allow_pickle=False)
    except (OSError, ValueError, EOFError):  # an array that a buffer could hold has a message of its own
        values = parse_buffer(f"0={file}", f"--expect {text}").values
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub":
        raise UsageError(f"--expect {text}: {file} has no numbers; save an array of them")
    return values, values.dtype.name, values.shape


def _stated(source: str, text: str) -> tuple[np.ndarray, str, tuple[int, ...] | None]:
    option = parse_buffer(f"0={source}", f"--expect {text}")
    if option.values is None:  # a struct
        raise UsageError(f"--expect {text}: write {FORM}")
    shape = option.shape if source.split(":")[0] in KINDS else None
    return shown(option.values, option.dtype), option.dtype, shape


def difference(expected: Expected, option: BufferOption, values: np.ndarray) -> Difference | None:
    """How the values that a buffer holds differ; None where they do not. UsageError where they cannot be compared."""
    _comparable(expected, option.dtype, values.shape)
    wanted = expected.values.reshape(-1)
    if option.dtype == "bfloat16" and expected.dtype == "uint16":  # the bits, as --save writes them
        wanted = shown(wanted, option.dtype)
    found = shown(values, option.dtype).reshape(-1)
    if found.dtype.kind in "iub":
        wrong = found != wanted
        off = wrong * np.abs(found.astype(np.float64) - wanted.astype(np.float64))
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
        expected.name, expected.source, int(wrong.sum()), wrong.size, worst, float(found[worst]), float(wanted[worst])
    )


def _comparable(expected: Expected, dtype: str, shape: tuple[int, ...]) -> None:
    """UsageError where the shape or the type is not the buffer's. A wider type of the same kind will do, as NumPy
    computes with it."""
    where = f"--expect {expected.name}={expected.source}"
    if expected.shape not in (None, shape) or expected.values.size != int(np.prod(shape, dtype=np.int64)):
        given = expected.values.shape if expected.shape is None else expected.shape
        raise UsageError(f"{where}: its shape is {_by(given)}, and the buffer's is {_by(shape)}")
    if dtype == "bfloat16":
        if expected.dtype not in ("bfloat16", "uint16", "float16", "float32", "float64"):
            raise UsageError(f"{where}: its dtype is {expected.dtype}, and the buffer's is {dtype}; save it as float32")
        return
    wide, narrow = (np.dtype("float32" if name == "bfloat16" else name) for name in (expected.dtype, dtype))
    if wide.kind != narrow.kind or wide.itemsize < narrow.itemsize:
        raise UsageError(f"{where}: its dtype is {expected.dtype}, and the buffer's is {dtype}; save it as {dtype}")


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "of a single number"
