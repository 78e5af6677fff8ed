"""The command line of `python -m pipeline.check`, turned into checked options."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..cli.program import Parser, file_path
from ..errors import UsageError
from .allowed import Allowed, parse_allowed, read_allowed
from .dispatches import FORM, MOST_INDEX, DispatchOption, count, parse_dispatch, run_dispatch

if TYPE_CHECKING:
    from .buffers import BufferOption
    from .expected import Expected

__all__ = ["MOST_SCHEDULES", "Options", "RunOptions", "parse_case_words", "parse_options"]

EPILOG = """\
--buffer takes INDEX=FILE.npy; INDEX=zeros:SHAPE:DTYPE, ones: or empty: (which nothing has written);
INDEX=random:SHAPE:DTYPE[:SEED]; values, INDEX=VALUE,...:DTYPE, such as 2=1000:uint; and a struct by its
members, INDEX=struct:MEMBER=VALUE,..., where a member that points to memory takes the name of a buffer,
NAME=.... With --dispatch, every buffer has a name. Examples:
  python -m pipeline.check sum.metal --run total --grid 1024 --threads 256 \\
      --buffer 0=random:1024:float --buffer 1=empty:4:float --buffer 2=1024:uint
  python -m pipeline.check sum.metal --buffer x=random:1024:float --buffer y=empty:4:float \\
      --dispatch 'parts threadgroups=4 threads=256 0=x 1=y' --dispatch 'total grid=1 threads=1 0=y 1=4:uint'

exit codes: 0 nothing found; 1 the lint or the run found something; 2 bad options, or a file that
does not compile: one line says what, where and how to fix it
"""
MOST_SCHEDULES = 1000


@dataclass(frozen=True)
class RunOptions:
    """Kernels to run, one after another, and the buffers that they share, by name."""

    dispatches: list[DispatchOption]
    buffers: dict[str, BufferOption]
    save: dict[str, Path]
    expect: list[Expected]
    schedules: int
    constants: dict[str, str]  # texts of values, by the names of function constants
    allowed: list[Allowed]


@dataclass(frozen=True)
class Options:
    """Checked options; `run` is None where no kernel is to be run. `junit` and `sarif` are files to write. `case_words`
    are options for every run that the files state, None where those are not asked for (cases.py)."""

    files: list[str]
    include: list[str]
    defines: list[str]
    lint: bool
    compile_only: bool
    json: bool
    run: RunOptions | None
    junit: Path | None
    sarif: Path | None
    case_words: list[str] | None


def parse_options(arguments: list[str] | None = None) -> Options:
    """Checked options from `arguments` (default: the process's own). UsageError says what to fix."""
    given = _parser().parse_args(arguments)
    if given.run is not None and given.dispatch:
        raise UsageError("--run and --dispatch exclude each other; write each kernel as a --dispatch")
    if given.compile_only and (given.run is not None or given.dispatch):
        raise UsageError(
            f"--compile-only and {'--run' if given.run else '--dispatch'} exclude each other; leave one out"
        )
    if given.cases and (given.run is not None or given.dispatch or given.compile_only):
        raise UsageError("--cases runs what the files state; leave out --run, --dispatch and --compile-only")
    return Options(
        files=given.files,
        include=given.include,
        defines=given.defines,
        compile_only=given.compile_only,
        lint=not given.no_lint and not given.compile_only,
        json=given.json,
        run=_run(given),
        junit=_written("--junit", given.junit, given.files),
        sarif=_written("--sarif", given.sarif, given.files),
        case_words=_case_words(given),
    )


def parse_case_words(words: list[str]) -> list[str]:
    """The `case_words` of options that name no file. UsageError says what to fix, also in files that they name."""
    found = parse_options([*words, "--cases", "--", "a.metal"]).case_words or []
    parse_options([*found, "--run=a", "--grid=1", "--threads=1", "--", "a.metal"])
    return found


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "check",
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
    add("--cases", action="store_true", help="run what the files state in comments, // onebuf-check: --run ...")
    add("--grid", metavar="X,Y,Z", help="threads in all; Y and Z may be left out")
    add(
        "--threadgroups",
        metavar="X,Y,Z|BUFFER[:OFFSET]",
        help="threadgroups instead of --grid, or the buffer that has their counts",
    )
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
    add(
        "--dispatch",
        action="append",
        default=[],
        metavar="KERNEL ...",
        help="run a kernel, then the next; barriers stand between them where they share buffers: " + FORM,
    )
    add("--save", action="append", default=[], metavar="INDEX=FILE.npy", help="write what a buffer holds afterwards")
    add(
        "--expect",
        action="append",
        default=[],
        metavar="INDEX=FILE.npy[:RTOL[:ATOL]]",
        help="what a buffer must hold afterwards, also as values, VALUE,...:DTYPE, or zeros:SHAPE:DTYPE (default: "
        "integers exactly, floats within 1e-5 of their size)",
    )
    add("--allow", action="append", default=[], metavar="KERNEL:LINE=REASON", help="a finding that is none")
    add("--allow-file", action="append", default=[], metavar="FILE", type=file_path, help="such lines in a file")
    add("--junit", metavar="FILE.xml", type=file_path, help="also write what was found for test reports")
    add("--sarif", metavar="FILE.sarif", type=file_path, help="also write what was found for code scanning")
    add(
        "--constant",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="value of a function constant: a number, true or false; X,Y,... for a vector",
    )
    add("--schedules", metavar="N", default=None, help="orders of threads to try, which must agree (default: 8)")
    return parser


_OF_RUN = ("grid", "threadgroups", "threads", "threadgroup_memory")
_OF_ANY_RUN = ("buffer", "save", "expect", "constant")
_OF_CASES = ("allow", "allow_file", "schedules")  # those of the files, too


def _case_words(given: argparse.Namespace) -> list[str] | None:
    """Options that hold for each case, in the words of the command line; paths hold from any folder."""
    if not given.cases:
        return None
    words = [f"-I{Path(each).absolute()}" for each in given.include] + [f"-D{each}" for each in given.defines]
    words += [f"--allow={each}" for each in given.allow]
    words += [f"--allow-file={Path(each).absolute()}" for each in given.allow_file]
    words += ["--no-lint"] if given.no_lint else []
    return words + ([f"--schedules={given.schedules}"] if given.schedules else [])


def _run(given: argparse.Namespace) -> RunOptions | None:
    refused: tuple[str, ...] = () if given.run is not None else _OF_RUN
    if given.run is None and not given.dispatch:
        refused += _OF_ANY_RUN if given.cases else (*_OF_ANY_RUN, *_OF_CASES)
    for option in refused:
        if getattr(given, option):
            more = "" if option in _OF_RUN else ", --dispatch or --cases" if option in _OF_CASES else " or --dispatch"
            raise UsageError(f"--{option.replace('_', '-')} needs --run KERNEL{more}")
    if given.run is None and not given.dispatch:
        return None
    buffers = _buffers(given.buffer)
    if given.run is not None:
        dispatches = [run_dispatch(given, buffers)]
    else:
        dispatches = []
        named = dict(buffers)
        for number, text in enumerate(given.dispatch, 1):
            dispatch, values = parse_dispatch(text, number, named)
            dispatches.append(dispatch)
            buffers |= {value.name: value for value in values}
    allowed = [parse_allowed(text) for text in given.allow]
    return RunOptions(
        dispatches=dispatches,
        buffers=buffers,
        save=_saves(given.save, buffers),
        expect=_expected(given.expect, buffers),
        schedules=count("--schedules", given.schedules or "8", 1, MOST_SCHEDULES),
        constants=_constants(given.constant),
        allowed=[*allowed, *(each for file in given.allow_file for each in read_allowed(file))],
    )


def _buffers(texts: list[str]) -> dict[str, BufferOption]:
    if not texts:
        return {}
    from .buffers import parse_buffer  # brings NumPy along, which other options do not need

    result: dict[str, BufferOption] = {}
    for option in (parse_buffer(text, named=True) for text in texts):
        if option.index > MOST_INDEX:
            raise UsageError(f"--buffer: index {option.index} is not possible; use 0 to {MOST_INDEX}")
        if option.name in result:
            what = "index " if option.name.isdecimal() else ""
            raise UsageError(f"--buffer: {what}{option.name} is given twice; leave one out")
        result[option.name] = option
    return result


def _expected(texts: list[str], buffers: Collection[str]) -> list[Expected]:
    if not texts:
        return []
    from .expected import parse_expected  # brings NumPy along

    found = [parse_expected(text) for text in texts]
    for expected in found:
        _known("--expect", expected.name, expected.source, buffers)
    return found


def _known(option: str, name: str, file: str, buffers: Collection[str]) -> None:
    if name not in buffers:
        what = "index" if name.isdecimal() else "name"
        raise UsageError(f"{option} {name}={file}: no --buffer has {what} {name}")


def _written(option: str, name: str | None, shaders: list[str]) -> Path | None:
    if name is None:
        return None
    path = Path(name)
    if not path.parent.is_dir():
        raise UsageError(f"{option} {name}: no folder {path.parent}; make it first")
    if path.exists() and any(Path(each).exists() and path.samefile(each) for each in shaders):
        raise UsageError(f"{option} {name}: is a shader, which would be lost; give another name")
    return path


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


def _saves(texts: list[str], buffers: Collection[str]) -> dict[str, Path]:
    saves: dict[str, Path] = {}
    for text in texts:
        name, equals, file = text.partition("=")
        if not equals or not name or not file:
            raise UsageError(f"--save {text}: write INDEX=FILE.npy")
        if name in saves:
            raise UsageError(f"--save: {name} is given twice; leave one out")
        _known("--save", name, file, buffers)
        path = Path(file_path(file))
        if path.suffix != ".npy":
            raise UsageError(f"--save {name}={file}: the name must end in .npy")
        if not path.parent.is_dir():
            raise UsageError(f"--save {name}={file}: no folder {path.parent}; make it first")
        saves[name] = path
    return saves
