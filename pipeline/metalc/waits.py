"""Whether the kernels that read buffers early wait for the kernels ahead of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from .errors import at
from .kernels import Kernel
from .stream import TokenStream
from .syntax import Shader

__all__ = ["check_waits"]

WAIT = "metallib_wait"  # what the kernel calls before it touches what other kernels may write
_NOT_FUNCTIONS = frozenset(("if", "for", "while", "switch"))


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
