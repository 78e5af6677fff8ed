"""What [[user_annotation("key: value; key: value")]] says of a kernel. Keys that are not known are comments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .bindings import Binding
from .errors import at
from .syntax import Attribute

__all__ = ["Annotations", "read"]


@dataclass(frozen=True, slots=True)
class Annotations:
    """resident: threads of a core of a GPU that registers must suffice for, 0 where the shader does not say.

    early: names of the buffers that the kernel reads before the kernels ahead of it are done.
    """

    resident: int = 0
    early: tuple[str, ...] = ()
    file: str = ""
    line: int = 0


def read(attributes: Sequence[Attribute], kernel: str, bindings: Sequence[Binding]) -> Annotations:
    """What the attributes of a kernel say, checked."""
    resident, file, line = 0, "", 0
    early: tuple[str, ...] = ()
    for attribute in attributes:
        if attribute.name != "user_annotation":
            continue
        said = "".join(re.findall(r'"([^"]*)"', attribute.argument or ""))  # adjacent literals are one
        for entry in said.split(";"):
            key, _, value = (part.strip() for part in entry.partition(":"))
            if key == "resident threads" and value.isdecimal():
                resident = int(value)
            elif key == "early":
                early = tuple(name.strip() for name in value.split(","))
                file, line = attribute.file, attribute.line
    readable = {
        b.parameter.name for b in bindings if b.kind == "buffer" and {"device", "const"} <= {*b.parameter.words}
    }
    for name in early:
        if name not in readable:
            raise at(file, line, f"kernel '{kernel}' has no parameter 'device const ... {name}' to read early")
    return Annotations(resident, early, file, line)
