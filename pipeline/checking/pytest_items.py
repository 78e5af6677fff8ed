"""Shaders as tests of pytest: one compiles the file, one is the lint, and one is each run that the file states."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .. import strict
from ..errors import OnebufError
from .cases import Case, Cases, read_cases
from .checkers import Checkers
from .checks import run_case
from .report import Report
from .shaders import Shader

__all__ = ["ShaderFile", "ShaderItem"]


class Failed(Exception):
    """A shader failed; the message has the findings, as text for people."""


class ShaderFile(pytest.File):
    """One .metal file."""

    def __init__(self, *, checkers: Checkers, **given: Any) -> None:
        super().__init__(**given)
        self.checkers = checkers
        self.shown = _from(self.path, self.config.invocation_params.dir)

    def collect(self) -> Iterable[ShaderItem]:
        try:
            stated = read_cases(self.shown, self.checkers.words)
        except OnebufError as error:
            raise self.CollectError(str(error)) from None
        checks = _Checks(self, stated)
        yield self._item("compiles", 1, checks.compiles)
        if stated.options.lint:
            yield self._item("lint", 1, checks.lint)
        for case in stated.cases:
            yield self._item(case.name, case.line, functools.partial(checks.run, case))

    def _item(self, name: str, line: int, check: Callable[[], Iterator[str]]) -> ShaderItem:
        return ShaderItem.from_parent(self, name=name, line=line, check=check)


class _Checks:
    """The checks of one file. Each gives notes for the reader; Failed or OnebufError is its failure."""

    def __init__(self, file: ShaderFile, stated: Cases) -> None:
        self._file, self._stated = file.shown, stated
        self._compiled = file.checkers.compiled

    def _shader(self) -> Shader:
        options = self._stated.options
        return self._compiled.shader(self._file, options.include, options.defines)

    def compiles(self) -> Iterator[str]:
        shader = self._shader()
        if shader.error is not None:
            raise Failed(shader.error)
        self._compiled.list(shader, 0)
        yield from ()

    def lint(self) -> Iterator[str]:
        shader = self._shader()
        if shader.error is not None:
            pytest.skip("the file does not compile")
        try:
            self._compiled.lint(shader)
        except strict.Unavailable as unavailable:
            pytest.skip(str(unavailable))
        if shader.error is not None:
            raise Failed(shader.error)
        if shader.lint:
            text = io.StringIO()
            Report(text).lint(shader)
            raise Failed(text.getvalue())
        yield from ()

    def run(self, case: Case) -> Iterator[str]:
        result = run_case(self._compiled, self._file, case)
        text = io.StringIO()
        Report(text).run(result)
        if result.failed:
            first = str((result.findings or result.differences)[0]).splitlines()[0]
            raise Failed(f"{first}\n\n{text.getvalue().strip()}")
        yield from result.notes
        yield from (f"allowed: {finding.kind} at {by}: {by.reason}" for finding, by in result.allowed)


class ShaderItem(pytest.Item):
    """One check of a file."""

    def __init__(self, *, line: int, check: Callable[[], Iterator[str]], **given: Any) -> None:
        super().__init__(**given)
        self._line, self._check = line, check

    def runtest(self) -> None:
        notes = list(self._check())
        if notes:
            self.add_report_section("call", "onebuf-check", "\n".join(notes))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, (Failed, OnebufError)):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self._line - 1, self.name


def _from(path: Path, folder: Path) -> str:
    """The path as it reads from the folder in which pytest was started."""
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
