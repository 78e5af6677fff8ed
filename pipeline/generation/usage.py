"""How much of a cache is in use, for those who only report it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Blocks"]


class Blocks(NamedTuple):
    """The blocks of a cache: those that sequences have, those that only the prefix tree keeps, and free ones."""

    used: int = 0
    kept: int = 0
    free: int = 0
