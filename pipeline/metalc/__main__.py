"""python -m pipeline.metalc -o OUT.metallib FILE.metal..."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from . import toolchain
from .bundle import build, version
from .errors import CompileError


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *given: Any) -> None:
        print(f"metalc {version()}, {toolchain.compiler_version()}")
        parser.exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m pipeline.metalc", description="Compiles .metal files.")
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE.metal")
    add("-o", dest="out", required=True, metavar="OUT.metallib", help="the library, a folder")
    add("--isa", action="append", metavar="NAME", help="instruction set (default: all of this machine)")
    add("--arch", action="append", default=[], metavar="sm_N", help="with --isa cuda: compile kernels for this GPU")
    add("--kernel", action="append", metavar="NAME", help="with --arch: these alone, such as 'linear_*' (default: all)")
    add("-I", dest="include", action="append", default=[], metavar="DIR", help='folder of #include "..."')
    add("-D", dest="defines", action="append", default=[], metavar="NAME[=VALUE]", help="macro")
    add("-O", dest="optimize", default="3", metavar="LEVEL", help="optimisation level (default: 3)")
    add("-j", dest="jobs", type=int, metavar="N", help="compilers run at once (default: cores)")
    add("--sanitize", default="", metavar="NAME,...", help="sanitizers, such as address,undefined")
    add("--build-dir", metavar="DIR", help="folder of objects (default: in the user's cache)")
    add("--warnings", action="store_true", help="show the C++ compiler's warnings")
    add("--version", nargs=0, action=_Version, help="print the versions of this and of the C++ compiler")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    try:
        options = _parser().parse_args(arguments)
        build(
            options.files,
            options.out,
            options.isa,
            options.include,
            options.jobs,
            optimize=options.optimize,
            sanitize=tuple(filter(None, options.sanitize.split(","))),
            defines=options.defines,
            build_dir=options.build_dir,
            warnings=options.warnings,
            archs=options.arch,
            ahead=options.kernel or ("*",),
        )
    except CompileError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
