"""Parts of a memory map that a device takes as buffers: those of Apple have a longest one, and files are longer."""

from __future__ import annotations

import bisect
import mmap
from collections.abc import Sequence
from typing import TypeAlias

Window: TypeAlias = tuple[int, int]  # where it begins, a multiple of the page's size, and where it ends; bytes


def windows(length: int, borders: Sequence[int], longest: int) -> list[Window]:
    """The parts of a map of `length` bytes, none above `longest`, so that none is cut within a tensor.

    Args:
        borders: where tensors begin, in order.

    A tensor that is longer than `longest` has a part of its own, which the device refuses. Two parts may share a page.
    """
    if length <= longest:
        return [(0, length)]
    found: list[Window] = []
    begin = 0
    ends = [*(border for border in borders if border > 0), length]
    for border, end in zip([0, *ends], ends):
        if end - begin > longest and border > begin:
            found.append((begin, border))
            begin = border // mmap.PAGESIZE * mmap.PAGESIZE
    found.append((begin, length))
    return found


def window_of(parts: Sequence[Window], begin: int) -> Window:
    """The part in which a tensor lies that begins there."""
    return parts[bisect.bisect_right([first for first, _ in parts], begin) - 1]
