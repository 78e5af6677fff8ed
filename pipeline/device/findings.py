"""The findings of the checker device in kernels: as objects, and as text for people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Access:
    """One side of a finding: who did it, and where in the shader.

    `file` and `line` are the shader's, "" and 0 where they are not known; `callers` the places that the
    code was called from and inlined into, "file:line" each. `thread` is the position in the threadgroup,
    `threadgroup` the position in the grid. `kind` is "read", "write", "atomic read", "atomic write" or "".
    """

    kernel: str
    step: str
    file: str
    line: int
    kind: str
    thread: tuple[int, ...]
    threadgroup: tuple[int, ...]
    callers: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """A mistake at one place of a kernel.

    `kind` is one of KINDS; `severity` "error" or "warning". `here` is the access that showed it, `there` the
    other side of a race or of a barrier, else None. `buffer` is the name of the argument or of the threadgroup
    variable, `index` its slot (None for a variable), `space` "device" or "threadgroup"; `offset`, `length`
    and `size` are bytes: where the access begins, how many are bound, how many it takes. `fix` says what would help,
    `count` how often it happened. `str()` gives all of it.
    """

    kind: str
    severity: str
    here: Access
    there: Access | None
    buffer: str
    index: int | None
    space: str
    offset: int
    length: int
    size: int
    text: str
    fix: str
    count: int
    message: str

    @property
    def kernel(self) -> str:
        return self.here.kernel

    @property
    def file(self) -> str:
        return self.here.file

    @property
    def line(self) -> int:
        return self.here.line

    def __str__(self) -> str:
        return self.message


KINDS = (
    "out of bounds",
    "uninitialised read",
    "race",
    "race between threadgroups",
    "race between dispatches",
    "write to read-only memory",
    "divergent barrier",
    "inactive lane",
    "misaligned access",
    "no end",
    "division by zero",
    "order-dependent result",
    "NaN from finite inputs",
    "stack overflow",
)


def finding(details: dict[str, str]) -> Finding:
    """A Finding from the words in which the core reports it."""
    return Finding(
        kind=details.get("kind", "validation"),
        severity=details.get("severity", "error"),
        here=_access(details, ""),
        there=_access(details, "other ") if "other kernel" in details else None,
        buffer=details.get("name", ""),
        index=int(details["index"]) if "index" in details else None,
        space=details.get("space", ""),
        offset=int(details.get("offset", 0)),
        length=int(details.get("length", 0)),
        size=int(details.get("size", 0)),
        text=details.get("text", ""),
        fix=details.get("remedy", ""),
        count=int(details.get("count", 1)),
        message=details["description"],
    )


def _access(details: dict[str, str], prefix: str) -> Access:
    def get(name: str) -> str:
        return details.get(prefix + name, "")

    return Access(
        kernel=get("kernel"),
        step=get("label"),
        file=get("file"),
        line=int(get("line") or 0),
        kind=get("access"),
        thread=_position(get("thread")),
        threadgroup=_position(get("threadgroup")),
        callers=tuple(get("frames").split()[1:]),
    )


def _position(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",")) if text else ()
