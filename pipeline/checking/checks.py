"""One check from the command line: files compiled, linted and listed, kernels run, all of it reported."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from .. import strict
from ..cli.program import complain
from ..errors import BuildError, CompileError, OnebufError, RunError, UsageError
from . import report, running
from .cases import MARK, Case, Cases, read_cases
from .exchange import Failure, junit, sarif, write
from .options import Options
from .shaders import Compiled, Shader

__all__ = ["check", "run_case"]


def check(options: Options) -> bool | None:
    """Whether the lint or a run found something; None where a file does not compile, or cannot be used as it is asked
    for, which is told already."""
    with tempfile.TemporaryDirectory(prefix="onebuf-check-") as folder:
        return _Check(options, Path(folder)).run()


class _Check:
    def __init__(self, options: Options, folder: Path) -> None:
        self._options = options
        self._compiled = Compiled(folder)
        self._report = report.Report(sys.stdout)
        self._results: list[running.RunResult] = []
        self._failed = False  # told already
        self._failures: list[Failure] = []  # of cases

    def run(self) -> bool | None:
        options = self._options
        stated = {file: self._stated(file) for file in dict.fromkeys(options.files)}
        found = {file: self._compile(file, each.options) for file, each in stated.items()}
        if options.lint:
            self._lint(stated, found)
        if not options.compile_only:
            self._run(stated, found)
        shaders = list(found.values())
        if options.json:
            print(report.to_json(shaders, self._results))
        if options.junit is not None:
            write(options.junit, junit(shaders, self._results, self._failures))
        if options.sarif is not None:
            write(options.sarif, sarif(shaders, self._results, self._failures))
        if self._failed:
            return None
        return any(shader.lint for shader in shaders) or any(result.failed for result in self._results)

    def _stated(self, file: str) -> Cases:
        if self._options.case_words is None:
            return Cases(self._options, [])
        try:
            return read_cases(file, self._options.case_words)
        except UsageError as error:
            self._cannot_run(file, error)
            return Cases(self._options, [])

    def _cannot_run(self, file: str, error: OnebufError) -> None:
        self._failures.append(Failure(file, str(error)))
        self._complain(str(error))

    def _complain(self, text: str) -> None:
        self._failed = True
        complain(text)

    def _compile(self, file: str, options: Options) -> Shader:
        shader = self._compiled.shader(file, options.include, options.defines)
        if shader.error is not None:
            self._complain(shader.error)
        elif self._options.compile_only and not self._options.json:
            self._report.compiled(shader)
        return shader

    def _lint(self, stated: dict[str, Cases], found: dict[str, Shader]) -> None:
        for file, shader in found.items():
            if shader.error is not None or not stated[file].options.lint:
                continue
            try:
                self._compiled.lint(shader)
            except strict.Unavailable as unavailable:
                print(f"onebuf: no lint: {unavailable}", file=sys.stderr)
                return
            if shader.error is not None:
                self._complain(shader.error)

    def _run(self, stated: dict[str, Cases], found: dict[str, Shader]) -> None:
        """Lists kernels, then runs those of the options and those of the files' cases."""
        options = self._options
        for file, shader in found.items():
            if shader.error is None:
                cases = [case.options.run for case in stated[file].cases]
                self._compiled.list(shader, next((each.schedules for each in (options.run, *cases) if each), 0))
                if not options.json:
                    self._report.shader(shader)
        if options.run is not None and not self._failed:
            self._add(running.run_kernels(self._compiled.device(options.run.schedules), [*found.values()], options.run))
        for file, shader in found.items():
            for case in stated[file].cases if shader.error is None else ():
                self._case(file, case)

    def _case(self, file: str, case: Case) -> None:
        """A case that cannot run does not keep others from it."""
        try:
            self._add(run_case(self._compiled, file, case))
        except OnebufError as error:
            self._cannot_run(file, error)

    def _add(self, result: running.RunResult) -> None:
        self._results.append(result)
        if not self._options.json:
            self._report.run(result)


def run_case(compiled: Compiled, file: str, case: Case) -> running.RunResult:
    """Runs one case of a file. UsageError says what is missing or does not fit, and in which line."""
    options = case.options
    assert options.run is not None  # or it would be no case
    shader = compiled.shader(file, options.include, options.defines)
    if shader.error is not None:
        raise CompileError(shader.error)
    try:
        compiled.list(shader, options.run.schedules)
        return running.run_kernels(compiled.device(options.run.schedules), [shader], options.run)
    except (UsageError, BuildError, RunError) as error:
        raise UsageError(f"{file}:{case.line}: {MARK} {error}") from None
