"""The system and the processor that is compiled for: this machine's, unless a wheel is made for another."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass

__all__ = ["DARWIN", "Target", "choose", "target"]

DARWIN = "darwin"


@dataclass(frozen=True)
class Target:
    """`system` as sys.platform has it, and `machine` as platform.machine()."""

    system: str
    machine: str

    @classmethod
    def here(cls) -> Target:
        return cls(sys.platform, platform.machine().lower())

    @property
    def is_mac(self) -> bool:
        return self.system == DARWIN

    @property
    def is_x86(self) -> bool:
        return self.machine in ("x86_64", "amd64")


_chosen: Target | None = None


def target() -> Target:
    """What is compiled for now."""
    return _chosen or Target.here()


def choose(other: Target | None) -> None:
    """From now on this process compiles for another machine; None: for its own again."""
    global _chosen
    _chosen = other
