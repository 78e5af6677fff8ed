"""Scratch memory, in which values whose lives do not overlap share bytes; the memory of the machine; sizes as text."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

ALIGNMENT = 256  # bytes; every device takes buffer offsets of this alignment


@dataclass(frozen=True)
class Life:
    """A value of `nbytes`, in use from phase `first` to phase `last`, both included."""

    key: int  # the tensor's id
    nbytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Layout:
    """The offset of each value in one block of `nbytes`, which would be of `unshared` bytes without reuse."""

    offsets: dict[int, int]
    nbytes: int
    unshared: int


def machine_bytes() -> int:
    """Bytes of memory that this process may have: the machine's, or less where its control group has a limit."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdecimal() else total


def human(nbytes: float) -> str:
    """1536 → "1.5 KiB"."""
    if nbytes < 1024:
        return f"{nbytes:.0f} B"
    for unit in ("KiB", "MiB"):
        nbytes /= 1024
        if nbytes < 1024:
            return f"{nbytes:.1f} {unit}"
    return f"{nbytes / 1024:.1f} GiB"


def _rounded(nbytes: int) -> int:
    return (nbytes + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def plan(lives: list[Life]) -> Layout:
    """First fit, the largest first. Phases are separated by barriers, so sharing adds none."""
    placed: list[tuple[int, int, Life]] = []
    for life in sorted(lives, key=lambda life: (-life.nbytes, life.first)):
        offset = 0
        for begin, end, other in sorted(placed, key=lambda entry: entry[0]):
            if other.last < life.first or life.last < other.first:
                continue
            if offset + _rounded(life.nbytes) <= begin:
                break
            offset = max(offset, end)
        placed.append((offset, offset + _rounded(life.nbytes), life))
    return Layout(
        offsets={life.key: offset for offset, _, life in placed},
        nbytes=max((end for _, end, _ in placed), default=0),
        unshared=sum(_rounded(life.nbytes) for life in lives),
    )
