"""One check from the command line: files compiled, linted and listed, a kernel run, all of it reported."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from .. import strict
from ..cli.program import complain
from . import report, running, shaders
from .exchange import junit, sarif, write
from .options import Options

__all__ = ["check"]


def check(options: Options) -> bool | None:
    """Whether the lint or the run found something; None where a file does not compile, which is told already."""
    with tempfile.TemporaryDirectory(prefix="onebuf-check-") as folder:
        return _check(options, Path(folder))


def _check(options: Options, folder: Path) -> bool | None:
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
    if options.junit is not None:
        write(options.junit, junit(found, result))
    if options.sarif is not None:
        write(options.sarif, sarif(found, result))
    if any(shader.error is not None for shader in found):
        return None
    return any(shader.lint for shader in found) or (result is not None and result.failed)


def _lint(found: list[shaders.Shader], options: Options) -> None:
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


def _inspect(
    found: list[shaders.Shader], options: Options, folder: Path, out: report.Report
) -> running.RunResult | None:
    """Lists kernels and, where that is asked for, runs one; returns what the run showed."""
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
    result = running.run_kernels(device, found, options.run)
    if not options.json:
        out.run(result)
    return result
