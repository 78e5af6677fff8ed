"""The display that fits standard error: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys

from ..cli.console import is_live
from .display import Lines

__all__ = ["make_progress"]


def make_progress() -> Lines:
    """The display for what standard error is."""
    if is_live(sys.stderr):
        from .bar import Bar  # brings rich along, which only a terminal needs

        return Bar()
    return Lines()
