"""A pipeline as a list of dispatches, before any device: shapes, bindings, barriers, memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from ..device.core import _core
from . import memory
from .memory import human
from .tensors import Tensor

Constants: TypeAlias = Mapping[str, float]  # the members of a kernel's struct argument, by name


@dataclass(frozen=True, eq=False)
class Dispatch:
    """One kernel launch. `arguments` are its buffers in slot order, each with whether it is written;
    the struct argument follows them in the next slot. Its member `rows` is the number of rows of a run."""

    step: str  # "layers.3.experts"
    kernel: str
    arguments: tuple[tuple[Tensor, bool], ...]
    constants: Constants
    threadgroups: tuple[int, int, int] = (1, 1, 1)
    rows_per_threadgroup: int = 0
    leading: bool = False  # it goes by the leading rows of a run

    @property
    def reads(self) -> list[Tensor]:
        return [tensor for tensor, written in self.arguments if not written]

    @property
    def writes(self) -> list[Tensor]:
        return [tensor for tensor, written in self.arguments if written]

    @property
    def nbytes(self) -> int:
        """Bytes of all bound values: an upper bound on what the dispatch moves."""
        return sum({id(tensor): tensor.nbytes for tensor, _ in self.arguments}.values())


@dataclass(frozen=True, eq=False)
class Plan:
    """The dispatches that `Pipeline.build` runs, with barriers and memory. Pure: printing it needs no device.

    Threads: a plan never changes, so that any number of threads may use it.
    """

    label: str
    rows: int
    dispatches: tuple[Dispatch, ...]
    inputs: dict[str, Tensor]
    outputs: tuple[Tensor, ...]
    single: bool  # one output, which a run returns alone
    failures: tuple[str, ...]  # what a failing row says, which reports index + 1
    status: Tensor | None
    barriers: tuple[int, ...]  # per dispatch: the earlier one it waits for, or -1
    layout: memory.Layout = field(repr=False)

    def __str__(self) -> str:
        return table(self)


def accesses(dispatch: Dispatch, location: Callable[[Tensor], tuple[int, int]]) -> list[tuple[int, int, int, bool]]:
    """(resource, begin, end, writes) of each argument; location(tensor) gives (resource, offset)."""
    result = []
    for tensor, written in dispatch.arguments:
        resource, offset = location(tensor)
        result.append((resource, offset, offset + tensor.nbytes, written))
    return result


def apart(tensor: Tensor) -> tuple[int, int]:
    """The location of a tensor as if every value had memory of its own."""
    return id(tensor.storage or tensor), 0


def lay_out(dispatches: Sequence[Dispatch], outputs: Sequence[Tensor]) -> tuple[list[int], memory.Layout]:
    """Barriers, and scratch memory shared only between values that a barrier separates anyway."""
    barriers = _core.plan_barriers(accesses(dispatch, apart) for dispatch in dispatches)
    phase = 0
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    scratch: dict[int, Tensor] = {}
    for dispatch, barrier in zip(dispatches, barriers):
        phase += barrier >= 0
        for tensor, _ in dispatch.arguments:
            if tensor.storage is None:
                scratch[id(tensor)] = tensor
                first.setdefault(id(tensor), phase)
                last[id(tensor)] = phase
    kept = {id(tensor) for tensor in outputs}
    lives = [
        memory.Life(key, tensor.nbytes, first[key], phase if key in kept else last[key])
        for key, tensor in scratch.items()
    ]
    return barriers, memory.plan(lives)


def table(plan: Plan) -> str:
    """The plan as text: dispatch, step, kernel, grid, reads, writes, barrier, bytes."""
    rows = [("#", "step", "kernel", "threadgroups", "reads", "writes", "waits for", "bytes")]
    for index, (dispatch, barrier) in enumerate(zip(plan.dispatches, plan.barriers)):
        rows.append(
            (
                str(index),
                dispatch.step,
                dispatch.kernel,
                "×".join(map(str, dispatch.threadgroups)),
                _names(dispatch.reads),
                _names(dispatch.writes),
                "" if barrier < 0 else f"#{barrier}",
                human(dispatch.nbytes),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    lines.insert(1, "  ".join("─" * width for width in widths))
    barriers = sum(barrier >= 0 for barrier in plan.barriers)
    layout = plan.layout
    lines.append(
        f"{plan.label}: {len(plan.dispatches)} dispatches, {barriers} barriers, 1 command buffer; "
        f"rows {plan.rows}; scratch {human(layout.nbytes)} (without reuse {human(layout.unshared)})"
    )
    return "\n".join(lines)


def _names(tensors: list[Tensor]) -> str:
    names = [tensor.name for tensor in tensors if not tensor.name.endswith((".scales", ".biases"))]
    return ", ".join(dict.fromkeys(names))
