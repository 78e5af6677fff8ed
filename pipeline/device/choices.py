"""How work is shared out where no bit of a result depends on it, so that measurement may decide.

A choice here moves the same additions, in the same order, between threadgroups or dispatches. Whatever decides in which
order numbers are added up, such as the positions of a part of attention, is no choice: it is part of the kernel.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from ..errors import UsageError

__all__ = ["LARGEST", "Choices", "default_choices"]

LARGEST = 1 << 20  # of any choice


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


@dataclass(frozen=True)
class Choices:
    """Thresholds by which steps choose kernels and grids; docs/tuning.md describes them.

    grouped_rows         from so many rows on, experts are grouped: each reads its weights once for all of its rows
    staged_rows          from so many rows on, a dispatch of its own stages activations for tensor cores
    split_parts          positions are split among threadgroups where they are more than so many parts
    tensor_split_parts   the same where tensor cores compute attention
    split_threadgroups   and where rows and heads give fewer threadgroups than this
    few_heads            below so many query heads of all rows, a threadgroup takes two of those that share keys
    """

    grouped_rows: int = 4
    staged_rows: int = 16
    split_parts: int = 4
    tensor_split_parts: int = 2
    split_threadgroups: int = 256
    few_heads: int = 256

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST:
                raise UsageError(
                    f"{field.name} = {_short(value)} is not possible; give a whole number from 0 to {LARGEST:,}"
                )


# Threadgroups of 256 threads that a core of an Apple GPU runs at a time, by the generation of the chip. M1 and M2 set
# aside the registers of a kernel's largest need, which leaves room for about 1,024 threads of a kernel with many of
# them. M3 and later hand registers out as they are needed.
_RESIDENT = {1: 4, 2: 4, 3: 6}
# GPU cores, which the name of a device does not say: the fewest that each class of chips is sold with, or nearly so.
_CORES = {"": 8, "Pro": 16, "Max": 32, "Ultra": 64}
_APPLE = re.compile(r"Apple M(\d+)(?: (Pro|Max|Ultra))?\b")


def default_choices(kind: str, hardware: str) -> Choices:
    """The choices of a device of which no table is there. `kind`: the device's name without a number, such as "cuda";
    `hardware`: what the device is, such as "Apple M2 Max".

    Those of `cpu` and `cuda` suited what was measured there. Those of Apple's GPUs are reasoned, and no such GPU has
    run them: attention is worth splitting as long as its threadgroups are fewer than run at a time."""
    apple = _APPLE.match(hardware) if kind == "metal" else None
    if apple is None:
        return Choices()
    resident = _RESIDENT[min(int(apple[1]) or 1, max(_RESIDENT))]
    threadgroups = _CORES[apple[2] or ""] * resident
    return Choices(split_threadgroups=threadgroups, few_heads=threadgroups)
