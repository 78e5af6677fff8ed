"""What [[user_annotation("key: value; key: value")]] says of a kernel. Keys that are not known are comments."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .bindings import Binding
from .errors import at
from .stream import TokenStream
from .syntax import Attribute, Shader

if TYPE_CHECKING:
    from .kernels import Kernel

__all__ = ["Annotations", "check_waits", "read"]

WAIT = "metallib_wait"  # what the kernel calls before it touches what other kernels may write
_NOT_FUNCTIONS = frozenset(("if", "for", "while", "switch"))


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


def check_waits(shader: Shader, kernels: Iterable[Kernel]) -> None:
    """Refuses a kernel that reads buffers early and nowhere waits for the kernels ahead of it."""
    early = [kernel for kernel in kernels if kernel.notes.early]
    if not early:
        return
    waiting = _callers(shader, WAIT)
    for kernel in early:
        name = kernel.call.split("<", 1)[0].split("::")[-1].strip()
        if name not in waiting:
            raise at(
                kernel.notes.file,
                kernel.notes.line,
                f"kernel '{kernel.name}' reads buffers early but never waits for the kernels ahead of it; call "
                "wait_for_kernels() before it touches anything else",
            )


def _callers(shader: Shader, callee: str) -> set[str]:
    """Names of the functions that call it, or one that does, or so it seems: overloads count as one."""
    stream = TokenStream(shader.text, shader.file)
    tokens, callers = stream.tokens, defaultdict[str, set[str]](set)
    for index, token in enumerate(tokens):
        if token.text != "{" or index not in stream.pairs:
            continue
        closer = index - 1
        while stream.text(closer) in ("const", "noexcept"):
            closer -= 1
        name = tokens[stream.pairs[closer] - 1] if stream.text(closer) == ")" else token
        if name.kind != "word" or name.text in _NOT_FUNCTIONS:
            continue
        for position in range(index + 1, stream.pairs[index]):
            if tokens[position].kind == "word":
                callers[tokens[position].text].add(name.text)
    found, new = set[str](), {callee}
    while new:
        found |= new
        new = set().union(*(callers[name] for name in new)) - found
    return found
