"""A pipeline as a list of dispatches, before any device: shapes, bindings, barriers, memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from . import memory
from .tensors import Tensor


@dataclass(frozen=True, eq=False)
class Dispatch:
    """One kernel launch. `arguments` are its buffers in slot order, each with whether it is written;
    the struct argument follows them in the next slot. Its member `rows` is the number of rows of a run."""

    step: str  # "layers.3.experts"
    kernel: str
    arguments: tuple[tuple[Tensor, bool], ...]
    constants: dict
    threadgroups: tuple[int, int, int] = (1, 1, 1)
    rows_per_threadgroup: int = 0

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
    """What :meth:`Pipeline.build` runs. Pure: printing it needs no device."""

    label: str
    rows: int
    dispatches: tuple[Dispatch, ...]
    inputs: dict[str, Tensor]
    outputs: tuple[Tensor, ...]
    single: bool  # one output, given back alone
    steps: tuple[str, ...]  # labels; a failing row reports index + 1
    status: Tensor | None
    barriers: tuple[int, ...] = ()  # per dispatch: the earlier one it waits for, or -1
    layout: memory.Layout = field(default=None, repr=False)

    def __str__(self):
        return table(self)


def accesses(dispatch: Dispatch, place) -> list[tuple[int, int, int, bool]]:
    """(resource, begin, end, writes) of each argument; place(tensor) gives (resource, offset)."""
    result = []
    for tensor, written in dispatch.arguments:
        resource, offset = place(tensor)
        result.append((resource, offset, offset + tensor.nbytes, written))
    return result


def place_apart(tensor: Tensor) -> tuple[int, int]:
    """Every value in memory of its own."""
    return id(tensor.storage or tensor), 0


def lay_out(dispatches, outputs) -> tuple[list[int], memory.Layout]:
    """Barriers, and scratch memory shared only between values that a barrier separates anyway."""
    from ..device.core import _core

    barriers = _core.plan_barriers(accesses(dispatch, place_apart) for dispatch in dispatches)
    phase, first, last, scratch = 0, {}, {}, {}
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


def human(nbytes: float) -> str:
    """1536 → "1.5 KiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if nbytes < 1024 or unit == "GiB":
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1024


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
