"""The system and the processor that is compiled for: this machine's, unless a wheel is made for another."""

import platform
import sys
from dataclasses import dataclass

__all__ = ["DARWIN", "HERE", "Target", "choose", "target"]

DARWIN = "darwin"


@dataclass(frozen=True)
class Target:
    """`system` as sys.platform has it, and `machine` as platform.machine()."""

    system: str
    machine: str

    @property
    def is_mac(self) -> bool:
        return self.system == DARWIN

    @property
    def is_x86(self) -> bool:
        return self.machine in ("x86_64", "amd64")


HERE: Target | None = None
_chosen = HERE


def target() -> Target:
    """What is compiled for now."""
    return _chosen or Target(sys.platform, platform.machine().lower())


def choose(other: Target | None) -> None:
    """From now on this process compiles for another machine; HERE: for its own again."""
    global _chosen
    _chosen = other
