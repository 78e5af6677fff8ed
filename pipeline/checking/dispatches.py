"""The command line names the kernels that run: one by `--run`, or several in their order, each by a `--dispatch`."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import UsageError

if TYPE_CHECKING:
    from .buffers import BufferOption

__all__ = ["FORM", "MOST_INDEX", "DispatchOption", "count", "memory", "parse_dispatch", "run_dispatch", "sizes"]

MOST_INDEX, MEMORY_MULTIPLE, MOST_GRID = 30, 16, 1 << 32
FORM = (
    "'KERNEL grid=X,Y,Z|threadgroups=X,Y,Z|threadgroups=BUFFER[:OFFSET] threads=X,Y,Z "
    "INDEX=BUFFER|INDEX=VALUE,...:DTYPE ... memory=INDEX:BYTES'"
)


@dataclass(frozen=True)
class DispatchOption:
    """A kernel to run. `grid` counts threads if `by_threads`, else threadgroups; `counts` names a buffer and an offset
    where these stand instead; `bindings` names buffers by index."""

    option: str  # as it was given, for messages
    kernel: str
    grid: tuple[int, int, int]
    by_threads: bool
    threads: tuple[int, int, int]
    bindings: dict[int, str]
    threadgroup_memory: dict[int, int]
    counts: tuple[str, int] | None = None


def run_dispatch(given: argparse.Namespace, buffers: dict[str, BufferOption]) -> DispatchOption:
    """The dispatch of --run; each buffer's name is its index."""
    if (given.grid is None) == (given.threadgroups is None):
        raise UsageError("--run needs one of --grid X,Y,Z (threads) and --threadgroups X,Y,Z")
    if given.threads is None:
        raise UsageError("--run needs --threads X,Y,Z, the size of a threadgroup")
    by_threads = given.grid is not None
    where = counts("--threadgroups", given.threadgroups or "", buffers)
    pointed = {value for each in buffers.values() for values in (each.members or {}).values() for value in values}
    for name in buffers:
        if not name.isdecimal() and name not in pointed and (where is None or name != where[0]):
            raise UsageError(
                f"--buffer {name}: with --run, a buffer is named by its index, unless a struct or --threadgroups "
                "names it"
            )
    held: dict[int, int] = {}
    for text in given.threadgroup_memory:
        index, length = memory("--threadgroup-memory", text, "=")
        if index in held:
            raise UsageError(f"--threadgroup-memory: index {index} is given twice; leave one out")
        held[index] = length
    return DispatchOption(
        option=f"--run {given.run}",
        kernel=given.run,
        grid=_grid(given, by_threads, where),
        counts=where,
        by_threads=by_threads,
        threads=sizes("--threads", given.threads),
        bindings={int(name): name for name in buffers if name.isdecimal()},
        threadgroup_memory=held,
    )


def _grid(given: argparse.Namespace, by_threads: bool, where: tuple[str, int] | None) -> tuple[int, int, int]:
    if where is not None:
        return 1, 1, 1
    return sizes("--grid", given.grid) if by_threads else sizes("--threadgroups", given.threadgroups)


def counts(option: str, text: str, buffers: Collection[str]) -> tuple[str, int] | None:
    """The buffer and the offset where the counts of threadgroups stand; None where the text has them."""
    if not re.match(r"[A-Za-z_]", text):
        return None
    found = re.fullmatch(r"(\w+)(?::(\d{1,10}))?", text)
    if found is None:
        raise UsageError(f"{option} {text}: write BUFFER or BUFFER:OFFSET, where the counts of threadgroups are")
    if found[1] not in buffers:
        raise UsageError(f"{option} {text}: no --buffer has the name {found[1]}")
    offset = int(found[2] or 0)
    if offset % 4:
        raise UsageError(f"{option} {text}: the offset is a multiple of 4 bytes")
    return found[1], offset


def parse_dispatch(
    text: str, number: int, buffers: dict[str, BufferOption]
) -> tuple[DispatchOption, list[BufferOption]]:
    """The dispatch that `text` states, and the buffers of values that stand in it."""
    option = f"--dispatch {text}"
    try:
        kernel, *words = shlex.split(text)
    except ValueError:
        raise UsageError(f"{option}: write {FORM}") from None
    result = DispatchOption(option, kernel, (0, 0, 0), True, (0, 0, 0), {}, {})
    values: list[BufferOption] = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not value:
            raise UsageError(f"{option}: {word!r}: write {FORM}")
        if key in ("grid", "threadgroups"):
            if result.grid[0]:
                raise UsageError(f"{option}: give one of grid= and threadgroups=, once")
            where = counts(f"{option}: {key}", value, buffers) if key == "threadgroups" else None
            grid = (1, 1, 1) if where is not None else sizes(f"{option}: {key}", value)
            result = replace(result, grid=grid, by_threads=key == "grid", counts=where)
        elif key == "threads":
            result = replace(result, threads=sizes(f"{option}: threads", value))
        elif key == "memory":
            index, length = memory(option, value, ":")
            result.threadgroup_memory[index] = length
        elif key.isdecimal() and int(key) <= MOST_INDEX:
            if int(key) in result.bindings:
                raise UsageError(f"{option}: index {key} is given twice; leave one out")
            if value not in buffers:
                values.append(_inline(option, number, key, value, buffers))
            result.bindings[int(key)] = value if value in buffers else values[-1].name
        else:
            raise UsageError(f"{option}: {word!r}: write {FORM}")
    if not result.grid[0] or not result.threads[0]:
        raise UsageError(f"{option}: give {'threads=' if result.grid[0] else 'grid= or threadgroups='}; write {FORM}")
    return result, values


def _inline(option: str, number: int, index: str, text: str, buffers: dict[str, BufferOption]) -> BufferOption:
    from .buffers import parse_buffer  # brings NumPy along, which other options do not need

    if re.fullmatch(r"[A-Za-z_]\w*", text):
        raise UsageError(
            f"{option}: there is no --buffer {text}=...; there {'are' if buffers else 'is'} "
            f"{', '.join(buffers) or 'none'}"
        )
    return replace(parse_buffer(f"{index}={text}", option), name=f"{index} of dispatch {number}")


def count(option: str, text: str, least: int, most: int) -> int:
    """A whole number within limits."""
    if not text.strip().isdecimal() or not least <= int(text) <= most:
        raise UsageError(f"{option} {text}: give a whole number from {least} to {most}")
    return int(text)


def sizes(option: str, text: str) -> tuple[int, int, int]:
    """X,Y,Z, of which Y and Z may be left out."""
    parts = text.split(",")
    if len(parts) > 3:
        raise UsageError(f"{option} {text}: at most three sizes, X,Y,Z")
    x, y, z = [count(option, part, 1, MOST_GRID - 1) for part in parts] + [1] * (3 - len(parts))
    if x * y * z >= MOST_GRID:
        raise UsageError(f"{option} {text}: {x * y * z} in all; Metal allows less than {MOST_GRID}")
    return x, y, z


def memory(option: str, text: str, sign: str) -> tuple[int, int]:
    """The index and the length of threadgroup memory."""
    index, found, value = text.partition(sign)
    form = f"INDEX{sign}BYTES, a multiple of {MEMORY_MULTIPLE}"
    if not found or not value or not index.isdecimal() or int(index) > MOST_INDEX:
        raise UsageError(f"{option} {text}: write {form}, with an index from 0 to {MOST_INDEX}")
    if not value.isdecimal() or int(value) == 0 or int(value) % MEMORY_MULTIPLE:
        raise UsageError(f"{option} {text}: write {form}")
    return int(index), int(value)
