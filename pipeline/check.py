"""`python -m pipeline.check`: Metal compute shaders compiled, linted, listed, and run under the checker.

docs/checking.md describes it. Every error raised on purpose ends here as one line on standard error.
"""

import sys
import tempfile
from pathlib import Path

from .cli.program import BAD_INPUT, complain, guarded, open_streams

OK, FOUND = 0, 1
__all__ = ["BAD_INPUT", "FOUND", "OK", "main"]


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return guarded(lambda: _main(arguments))


def _main(arguments: list[str] | None) -> int:
    from .checking.options import parse_options

    open_streams()
    options = parse_options(arguments)
    with tempfile.TemporaryDirectory(prefix="onebuf-check-") as folder:
        return _check(options, Path(folder))


def _check(options, folder: Path) -> int:
    from .checking import report, shaders

    files = list(dict.fromkeys(options.files))
    found = []
    out = report.Report()
    for number, file in enumerate(files):
        shader = shaders.compile_shader(file, folder / f"{number}.metallib", options.include, options.defines)
        found.append(shader)
        if shader.error is not None:
            complain(shader.error)
        elif options.compile_only and not options.json:
            out.compiled(shader)
    if options.lint:
        _lint(found, options)
    result = None if options.compile_only else _inspect(found, options, folder, out)
    if options.json:
        print(report.to_json(found, result))
    if any(shader.error is not None for shader in found):
        return BAD_INPUT
    return FOUND if any(shader.lint for shader in found) or (result is not None and result.findings) else OK


def _lint(found, options) -> None:
    from . import strict
    from .checking import shaders

    for shader in found:
        if shader.error is not None:
            continue
        try:
            shaders.lint(shader, options.include, options.defines)
        except strict.Unavailable as unavailable:
            print(f"onebuf: no lint: {unavailable}", file=sys.stderr)
            return
        if shader.error is not None:
            complain(shader.error)


def _inspect(found, options, folder: Path, out):
    """Lists kernels and, where that is asked for, runs one; returns what the run showed."""
    from .checking import running, shaders

    compiled = [number for number, shader in enumerate(found) if shader.error is None]
    if not compiled:
        return None
    device = running.open_checker(options.run.schedules if options.run is not None else 0)
    for number in compiled:
        shaders.list_kernels(found[number], device, folder / f"{number}.metallib", options.include, options.defines)
        if not options.json:
            out.shader(found[number])
    if options.run is None or len(compiled) < len(found):
        return None
    result = running.run_kernel(device, *running.find_kernel(found, options.run.kernel), options.run)
    if not options.json:
        out.run(result)
    return result


if __name__ == "__main__":
    sys.exit(main())
