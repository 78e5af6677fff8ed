"""Whether the buffers of a dispatch are those that its kernel's signature asks for."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ..errors import UsageError
from .buffers import BufferOption
from .dispatches import DispatchOption
from .shaders import KernelInfo

__all__ = ["check_bindings"]


def check_bindings(kernel: KernelInfo, dispatch: DispatchOption, buffers: Mapping[str, BufferOption]) -> None:
    """UsageError says which argument lacks a buffer, which buffer has no argument, and which is too small."""
    several = dispatch.option.startswith("--dispatch")
    memory = "memory" if several else "--threadgroup-memory"
    bound: tuple[tuple[str, str, str, Collection[int]], ...] = (
        ("buffer", "" if several else "--buffer ", "=", dispatch.bindings),
        (
            "threadgroup",
            f"{memory}=" if several else f"{memory} ",
            ":" if several else "=",
            dispatch.threadgroup_memory,
        ),
    )
    where = f"{dispatch.option}: " if several else ""
    for kind, before, sign, given in bound:
        wanted = {argument.index: argument for argument in kernel.arguments if argument.kind == kind}
        for index, argument in wanted.items():
            if index not in given:
                what = "BYTES" if kind == "threadgroup" else f"... for elements of {argument.size} bytes"
                label = f"{where}kernel {kernel.name}: '{argument.name}' ({argument.type})"
                raise UsageError(f"{label} needs {before}{index}{sign}{what}")
        for index in given:
            if index not in wanted:
                have = ", ".join(map(str, wanted)) or "none"
                raise UsageError(
                    f"{where}{before}{index}: kernel {kernel.name} has no {kind} argument of that index; it has {have}"
                )
    for index, name in dispatch.bindings.items():
        option = buffers[name]
        argument = next(each for each in kernel.arguments if each.kind == "buffer" and each.index == index)
        if option.members is None and option.nbytes < argument.size:
            raise UsageError(
                f"{where}--buffer {name}: {option.nbytes} bytes are less than one element of '{argument.name}', "
                f"which has {argument.size}"
            )
