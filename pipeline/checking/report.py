"""The report of a check: plain text, with colours and tables on a terminal, or one JSON object."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from ..cli.console import is_live
from ..device.findings import Finding
from .buffers import shown
from .constants import describe
from .running import Contents, RunResult
from .shaders import KernelInfo, Shader

if TYPE_CHECKING:
    from .terminal import Terminal

__all__ = ["Report", "Sources", "to_json"]

MOST_VALUES = 16  # of a buffer, in JSON; the text shows the ends of longer ones
COLUMNS = ("index", "argument", "type", "access", "bytes")


class Sources:
    """The lines of files, read once."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {}

    def line(self, file: str, number: int) -> str:
        """The text of a line, "" where it cannot be had."""
        if file not in self._lines:
            try:
                self._lines[file] = Path(file).read_text(errors="replace").splitlines()
            except OSError:
                self._lines[file] = []
        lines = self._lines[file]
        return lines[number - 1].strip() if 0 < number <= len(lines) else ""


class Report:
    """Writes to a stream, by rich where that is a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._sources = Sources()
        self._terminal: Terminal | None = None
        if is_live(stream):
            from .terminal import Terminal  # brings rich along, which only a terminal needs

            self._terminal = Terminal(stream)

    def shader(self, shader: Shader) -> None:
        """Shows a file's kernels, then what the lint says of it."""
        for kernel in shader.kernels:
            self._kernel(kernel)
        self.lint(shader)
        count = len(shader.lint or ())
        if shader.lint is not None:
            kernels = _plural(len(shader.kernels), "kernel") if shader.kernels else "no compute kernels"
            self._print(f"{shader.file}: {kernels}, the lint finds {count or 'nothing'}")
        elif not shader.kernels:
            self._print(f"{shader.file}: no compute kernels")

    def lint(self, shader: Shader) -> None:
        """Shows what the lint says of a file."""
        for diagnostic in shader.lint or ():
            self._print(f"{diagnostic.file}:{diagnostic.line}:{diagnostic.column}: ", "bold", end="")
            self._print(f"lint: {diagnostic.message}", "red")
            self._quote(diagnostic.file, diagnostic.line)
            if diagnostic.fix:
                self._print(f"    To fix it: {diagnostic.fix}.")

    def compiled(self, shader: Shader) -> None:
        """Shows that a file compiles."""
        self._print(f"{shader.file}: compiles")

    def run(self, result: RunResult) -> None:
        """Shows what was found in a run, then what the buffers hold."""
        self._print("")
        for dispatch in result.options.dispatches:
            grid = f"{_by(dispatch.grid)} {'threads' if dispatch.by_threads else 'threadgroups'}"
            if dispatch.counts is not None:
                grid = f"as many threadgroups as buffer {dispatch.counts[0]} says"
            self._print(
                f"{dispatch.kernel}: {grid} in threadgroups of {_by(dispatch.threads)}, "
                f"{_plural(result.options.schedules, 'order')} of threads",
                "bold",
            )
        for note in result.notes:
            self._print(f"note: {note}.", "yellow")
        for finding in result.findings:
            self._finding(finding)
        for finding, by in result.allowed:
            self._print(f"allowed: {finding.kind} at {by}: {by.reason}", "dim")
        if not result.findings:
            self._print("nothing found", "green")
        for difference in result.differences:
            self._print(f"{difference}", "red")
        if not result.completed:
            self._print("The run was stopped: what the buffers hold is not the result.")
        for contents in result.written:
            self._contents(contents)

    def _kernel(self, kernel: KernelInfo) -> None:
        self._print(f"{kernel.file}:{kernel.line}: ", end="")
        self._print(f"kernel {kernel.name}", "bold")
        rows = [
            (f"{'threadgroup ' if a.kind == 'threadgroup' else ''}{a.index}", a.name, a.type, a.access, str(a.size))
            for a in kernel.arguments
        ]
        if self._terminal is not None and rows:
            self._terminal.table(COLUMNS, rows)
        else:
            widths = [max(map(len, column)) for column in zip(COLUMNS, *rows)]
            for row in (COLUMNS, *rows) if rows else ():
                self._print("    " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        for argument in kernel.arguments:
            if argument.pointers:
                members = [f"{name} ({'read-write' if w else 'read'})" for name, (w, _) in argument.pointers.items()]
                self._print(f"    {argument.name} points to memory with {', '.join(members)}")
        if kernel.refused:
            self._print(f"    cannot be run: {kernel.refused.partition(': ')[2]}", "yellow")
        for constant in kernel.constants:
            need = "needs a value" if constant.required else "may have a value"
            self._print(f"    function constant {constant.index}: {describe(constant)} {constant.name}, {need}")
        if kernel.positions:
            self._print(f"    {', '.join(dict.fromkeys(kernel.positions))}", "dim")

    def _finding(self, finding: Finding) -> None:
        first, *rest = finding.message.splitlines()
        place = f"{finding.file}:{finding.line}" if finding.file else f"kernel {finding.kernel}"
        self._print(f"{place}: ", "bold", end="")
        self._print(first, "red" if finding.severity == "error" else "yellow")
        if finding.file:
            self._quote(finding.file, finding.line)
        for line in rest:
            self._print(f"    {line.strip()}")
            if finding.there is not None and line.strip().startswith(f"{finding.there.file}:{finding.there.line},"):
                if (finding.there.file, finding.there.line) != (finding.file, finding.line):
                    self._quote(finding.there.file, finding.there.line)

    def _quote(self, file: str, line: int) -> None:
        text = self._sources.line(file, line)
        if text:
            self._print(f"    {line:>5} | {text}", "dim")

    def _contents(self, contents: Contents) -> None:
        values = shown(contents.values, contents.dtype)
        shape = ",".join(map(str, values.shape))
        self._print(f"buffer {contents.name}, '{contents.argument}', {shape} {contents.dtype}:", "bold")
        text = np.array2string(values, threshold=64, edgeitems=4, max_line_width=100)
        for line in text.splitlines():
            self._print(f"    {line}")

    def _print(self, text: str, style: str = "", end: str = "\n") -> None:
        if self._terminal is None:
            print(text, end=end, file=self._stream)
        else:
            self._terminal.print(text, style, end)


def to_json(shaders: Sequence[Shader], results: Sequence[RunResult]) -> str:
    """The check as one JSON object, which docs/checking.md describes. "run" is the first of "runs"."""
    files = [
        {
            "file": shader.file,
            "error": shader.error,
            "kernels": [_kernel_json(kernel) for kernel in shader.kernels],
            "lint": shader.lint and [dataclasses.asdict(each) for each in shader.lint]
            if shader.lint is not None
            else None,
        }
        for shader in shaders
    ]
    runs = [_run_json(result) for result in results]
    return json.dumps({"files": files, "run": runs[0] if runs else None, "runs": runs}, indent=1)


def _kernel_json(kernel: KernelInfo) -> dict[str, Any]:
    constants = [
        {"name": each.name, "index": each.index, "type": describe(each), "required": each.required}
        for each in kernel.constants
    ]
    return {**dataclasses.asdict(kernel), "constants": constants}


def _run_json(result: RunResult) -> dict[str, Any]:
    options = result.options
    first = options.dispatches[0]
    return {
        "kernel": first.kernel,
        "grid": first.grid,
        "by_threads": first.by_threads,
        "threads": first.threads,
        "dispatches": [
            {
                "kernel": each.kernel,
                "grid": each.grid,
                "by_threads": each.by_threads,
                "counts": each.counts,
                "threads": each.threads,
            }
            for each in options.dispatches
        ],
        "schedules": options.schedules,
        "completed": result.completed,
        "notes": result.notes,
        "findings": [dataclasses.asdict(finding) for finding in result.findings],
        "allowed": [{**dataclasses.asdict(finding), "reason": by.reason} for finding, by in result.allowed],
        "differences": [dataclasses.asdict(difference) for difference in result.differences],
        "written": [_contents_json(contents) for contents in result.written],
    }


def _contents_json(contents: Contents) -> dict[str, Any]:
    values = shown(contents.values, contents.dtype).reshape(-1)[:MOST_VALUES].tolist()
    finite = [value if value == value and abs(value) != float("inf") else str(value) for value in values]
    return {
        "index": contents.index,
        "name": contents.argument,
        "buffer": contents.name,
        "dtype": contents.dtype,
        "shape": contents.values.shape,
        "first_values": finite,
    }


def _by(sizes: Iterable[int]) -> str:
    return " x ".join(map(str, sizes))


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
