"""Writes the findings of a check for other programs: as JUnit for test reports, as SARIF for code scanning."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ..errors import UsageError
from .running import RunResult
from .shaders import Shader

__all__ = ["Failure", "junit", "sarif", "write"]

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


@dataclass(frozen=True)
class _Entry:
    """One thing that was found; `line` is 0 where it has no place."""

    case: str
    rule: str
    level: str  # "error" or "warning"
    file: str
    line: int
    text: str
    reason: str = ""  # why it is allowed


@dataclass(frozen=True)
class Failure:
    """A case of a file that could not run, or comments that state none; `text` begins with its place."""

    file: str
    text: str

    @property
    def case(self) -> str:
        file, line, _ = _place(self.text, self.file)
        return f"{file}:{line} runs" if line else f"{file} states its runs"


def _entries(shaders: Sequence[Shader], results: Sequence[RunResult], failures: Sequence[Failure]) -> Iterator[_Entry]:
    for failure in failures:
        file, line, text = _place(failure.text, failure.file)
        yield _Entry(failure.case, "case", "error", file, line, text)
    for shader in shaders:
        if shader.error is not None:
            file, line, text = _place(shader.error, shader.file)
            yield _Entry(f"{shader.file} compiles", "compile", "error", file, line, text)
        for each in shader.lint or ():
            yield _Entry(
                f"{shader.file} lint", f"lint/{each.rule}", "error", each.file, each.line, f"{each.message}; {each.fix}"
            )
    for case, result in zip(_cases(results), results):
        for finding in result.findings:
            yield _Entry(case, f"run/{finding.kind}", finding.severity, finding.file, finding.line, finding.message)
        for finding, by in result.allowed:
            yield _Entry(
                case, f"run/{finding.kind}", finding.severity, finding.file, finding.line, finding.message, by.reason
            )
        first = result.kernels[0]
        for difference in result.differences:
            yield _Entry(case, "run/difference", "error", first.file, first.line, str(difference))


def _cases(results: Sequence[RunResult]) -> list[str]:
    """A name for each run, which no other has."""
    names: list[str] = []
    for result in results:
        name = "run " + ", ".join(kernel.name for kernel in result.kernels)
        count = sum(each == name or each.startswith(f"{name} (") for each in names)
        names.append(f"{name} ({count + 1})" if count else name)
    return names


def _place(error: str, file: str) -> tuple[str, int, str]:
    """The file, line and text of "file:line: text"."""
    parts = error.split(":", 2)
    if len(parts) == 3 and parts[1].isdecimal():
        return parts[0], int(parts[1]), parts[2].strip()
    return file, 0, error


def junit(shaders: Sequence[Shader], results: Sequence[RunResult], failures: Sequence[Failure] = ()) -> str:
    """A test case for each file that is compiled, for each that is linted, and for each run or failure to run."""
    cases = [f"{shader.file} compiles" for shader in shaders]
    cases += [f"{shader.file} lint" for shader in shaders if shader.lint is not None]
    cases += _cases(results)
    cases += dict.fromkeys(failure.case for failure in failures)
    wrong = [entry for entry in _entries(shaders, results, failures) if not entry.reason]
    count = sum(any(entry.case == case for entry in wrong) for case in cases)
    suite = ElementTree.Element("testsuite", name="onebuf check", tests=str(len(cases)), failures=str(count))
    for case in cases:
        element = ElementTree.SubElement(suite, "testcase", classname="onebuf.check", name=case)
        mine = [entry for entry in wrong if entry.case == case]
        if mine:
            shown = [f"{entry.file}:{entry.line}: {entry.level}: {entry.text}" for entry in mine]
            failure = ElementTree.SubElement(element, "failure", type=mine[0].rule, message=shown[0].splitlines()[0])
            failure.text = "\n".join(shown)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def sarif(shaders: Sequence[Shader], results: Sequence[RunResult], failures: Sequence[Failure] = ()) -> str:
    """One result for each thing that was found; what is allowed has a suppression with its reason."""
    entries = list(_entries(shaders, results, failures))
    rules = sorted({entry.rule for entry in entries})
    driver = {"name": "onebuf check", "rules": [{"id": rule} for rule in rules]}
    run = {"tool": {"driver": driver}, "results": [_result(entry) for entry in entries]}
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1) + "\n"


def _result(entry: _Entry) -> dict[str, Any]:
    location: dict[str, Any] = {"artifactLocation": {"uri": Path(entry.file).as_posix()}}
    if entry.line:
        location["region"] = {"startLine": entry.line}
    found: dict[str, Any] = {
        "ruleId": entry.rule,
        "level": entry.level,
        "message": {"text": entry.text},
        "locations": [{"physicalLocation": location}] if entry.file else [],
    }
    if entry.reason:
        found["suppressions"] = [{"kind": "external", "justification": entry.reason}]
    return found


def write(path: Path, text: str) -> None:
    """Writes a report. UsageError where that is not possible."""
    try:
        path.write_text(text)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None
