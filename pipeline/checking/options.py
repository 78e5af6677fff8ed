"""The command line of `python -m pipeline.check`, turned into checked options."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..cli.program import Parser, file_path
from ..errors import UsageError

if TYPE_CHECKING:
    from .buffers import BufferOption

__all__ = ["Options", "RunOptions", "parse_options"]

_Value = TypeVar("_Value")
EPILOG = """\
--buffer takes INDEX=FILE.npy; INDEX=zeros:SHAPE:DTYPE, ones: or empty: (which nothing has written);
INDEX=random:SHAPE:DTYPE[:SEED]; and values, INDEX=VALUE,...:DTYPE, such as 2=1000:uint. Example:
  python -m pipeline.check sum.metal --run total --grid 1024 --threads 256 \\
      --buffer 0=random:1024:float --buffer 1=empty:4:float --buffer 2=1024:uint

exit codes: 0 nothing found; 1 the lint or the run found something; 2 bad options, or a file that
does not compile: one line says what, where and how to fix it
"""
MOST_SCHEDULES, MOST_INDEX, MEMORY_MULTIPLE, MOST_GRID = 1000, 30, 16, 1 << 32


@dataclass(frozen=True)
class RunOptions:
    """A kernel to run. `grid` counts threads if `by_threads`, else threadgroups."""

    kernel: str
    grid: tuple[int, int, int]
    by_threads: bool
    threads: tuple[int, int, int]
    buffers: dict[int, BufferOption]
    threadgroup_memory: dict[int, int]
    save: dict[int, Path]
    schedules: int
    constants: dict[str, str]  # texts of values, by the names of function constants


@dataclass(frozen=True)
class Options:
    """Checked options; `run` is None where no kernel is to be run."""

    files: list[str]
    include: list[str]
    defines: list[str]
    lint: bool
    compile_only: bool
    json: bool
    run: RunOptions | None


def parse_options(arguments: list[str] | None = None) -> Options:
    """Checked options from `arguments` (default: the process's own). UsageError says what to fix."""
    given = _parser().parse_args(arguments)
    if given.compile_only and given.run is not None:
        raise UsageError("--compile-only and --run exclude each other; leave one out")
    return Options(
        files=given.files,
        include=given.include,
        defines=given.defines,
        compile_only=given.compile_only,
        lint=not given.no_lint and not given.compile_only,
        json=given.json,
        run=_run(given),
    )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m pipeline.check",
        description="Compiles and lints Metal compute shaders, lists their kernels, and runs one, watched thread by "
        "thread.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE.metal", type=file_path)
    add(
        "-I",
        dest="include",
        action="append",
        default=[],
        metavar="DIR",
        type=file_path,
        help='folder of #include "..."',
    )
    add("-D", dest="defines", action="append", default=[], metavar="NAME[=VALUE]", help="macro")
    add("--no-lint", action="store_true", help="leave out what Apple's compiler would refuse")
    add("--compile-only", action="store_true", help="compile and nothing else")
    add("--json", action="store_true", help="print one JSON object")
    add("--run", metavar="KERNEL", help="run a kernel under the checker")
    add("--grid", metavar="X,Y,Z", help="threads in all; Y and Z may be left out")
    add("--threadgroups", metavar="X,Y,Z", help="threadgroups instead of --grid")
    add("--threads", metavar="X,Y,Z", help="threads per threadgroup")
    add(
        "--threadgroup-memory",
        action="append",
        default=[],
        metavar="INDEX=BYTES",
        help="length of a [[threadgroup(n)]] argument",
    )
    add(
        "--buffer",
        action="append",
        default=[],
        metavar="INDEX=...",
        help="contents of a [[buffer(n)]] argument; see below",
    )
    add("--save", action="append", default=[], metavar="INDEX=FILE.npy", help="write what a buffer holds afterwards")
    add(
        "--constant",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="value of a function constant: a number, true or false; X,Y,... for a vector",
    )
    add("--schedules", metavar="N", default=None, help="orders of threads to try, which must agree (default: 8)")
    return parser


def _run(given: argparse.Namespace) -> RunOptions | None:
    if given.run is None:
        for option in (
            "grid",
            "threadgroups",
            "threads",
            "threadgroup_memory",
            "buffer",
            "save",
            "constant",
            "schedules",
        ):
            if getattr(given, option):
                raise UsageError(f"--{option.replace('_', '-')} needs --run KERNEL")
        return None
    if (given.grid is None) == (given.threadgroups is None):
        raise UsageError("--run needs one of --grid X,Y,Z (threads) and --threadgroups X,Y,Z")
    if given.threads is None:
        raise UsageError("--run needs --threads X,Y,Z, the size of a threadgroup")
    by_threads = given.grid is not None
    grid = _sizes("--grid", given.grid) if by_threads else _sizes("--threadgroups", given.threadgroups)
    buffers = _buffers(given.buffer)
    return RunOptions(
        kernel=given.run,
        grid=grid,
        by_threads=by_threads,
        threads=_sizes("--threads", given.threads),
        buffers=_unique("--buffer", [(option.index, option) for option in buffers]),
        threadgroup_memory=_unique("--threadgroup-memory", map(_memory, given.threadgroup_memory)),
        save=_saves(given.save, {option.index for option in buffers}),
        constants=_constants(given.constant),
        schedules=_count("--schedules", given.schedules or "8", 1, MOST_SCHEDULES),
    )


def _buffers(texts: list[str]) -> list[BufferOption]:
    if not texts:
        return []
    from .buffers import parse_buffer  # brings NumPy along, which other options do not need

    return [parse_buffer(text) for text in texts]


def _count(option: str, text: str, least: int, most: int) -> int:
    if not text.strip().isdecimal() or not least <= int(text) <= most:
        raise UsageError(f"{option} {text}: give a whole number from {least} to {most}")
    return int(text)


def _sizes(option: str, text: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) > 3:
        raise UsageError(f"{option} {text}: at most three sizes, X,Y,Z")
    x, y, z = [_count(option, part, 1, MOST_GRID - 1) for part in parts] + [1] * (3 - len(parts))
    if x * y * z >= MOST_GRID:
        raise UsageError(f"{option} {text}: {x * y * z} in all; Metal allows less than {MOST_GRID}")
    return x, y, z


def _pair(option: str, text: str, form: str) -> tuple[int, str]:
    index, equals, value = text.partition("=")
    if not equals or not value or not index.isdecimal() or int(index) > MOST_INDEX:
        raise UsageError(f"{option} {text}: write {form}, with an index from 0 to {MOST_INDEX}")
    return int(index), value


def _memory(text: str) -> tuple[int, int]:
    option, form = "--threadgroup-memory", f"INDEX=BYTES, a multiple of {MEMORY_MULTIPLE}"
    index, value = _pair(option, text, form)
    if not value.isdecimal() or int(value) == 0 or int(value) % MEMORY_MULTIPLE:
        raise UsageError(f"{option} {text}: write {form}")
    return index, int(value)


def _constants(texts: list[str]) -> dict[str, str]:
    result: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier() or not value:
            raise UsageError(f"--constant {text}: write NAME=VALUE, such as tile=16, scale=0.5 or use_bias=true")
        if name in result:
            raise UsageError(f"--constant: {name} is given twice; leave one out")
        result[name] = value
    return result


def _saves(texts: list[str], bound: set[int]) -> dict[int, Path]:
    pairs = [_pair("--save", text, "INDEX=FILE.npy") for text in texts]
    saves = _unique("--save", [(index, file_path(name)) for index, name in pairs])
    for index, name in saves.items():
        if index not in bound:
            raise UsageError(f"--save {index}={name}: no --buffer has index {index}")
        if not name.endswith(".npy"):
            raise UsageError(f"--save {index}={name}: the name must end in .npy")
        if not Path(name).parent.is_dir():
            raise UsageError(f"--save {index}={name}: no folder {Path(name).parent}; make it first")
    return {index: Path(name) for index, name in saves.items()}


def _unique(option: str, pairs: Iterable[tuple[int, _Value]]) -> dict[int, _Value]:
    result: dict[int, _Value] = {}
    for index, value in pairs:
        if index > MOST_INDEX:
            raise UsageError(f"{option}: index {index} is not possible; use 0 to {MOST_INDEX}")
        if index in result:
            raise UsageError(f"{option}: index {index} is given twice; leave one out")
        result[index] = value
    return result
