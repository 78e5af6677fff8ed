"""Findings that someone looked at and allows: `--allow KERNEL:LINE=REASON`, or a file of such lines."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..device.findings import Finding
from ..errors import UsageError

__all__ = ["Allowed", "parse_allowed", "read_allowed", "sorted_out"]

FORM = "KERNEL:LINE=REASON, or KERNEL:LINE:KIND=REASON for one kind of finding"
_PATTERN = re.compile(r"(?P<kernel>[A-Za-z_]\w*):(?P<line>\d+)(?::(?P<kind>[A-Za-z -]+))?\s*=\s*(?P<reason>\S.*)")


@dataclass(frozen=True)
class Allowed:
    """Findings of a kernel with one side in a line; an empty `kind` means any."""

    kernel: str
    line: int
    kind: str
    reason: str

    def covers(self, finding: Finding) -> bool:
        """Whether a finding is one of these."""
        lines = {finding.line, finding.there.line if finding.there is not None else finding.line}
        return finding.kernel == self.kernel and self.line in lines and self.kind in ("", finding.kind)

    def __str__(self) -> str:
        return f"{self.kernel}:{self.line}{f':{self.kind}' if self.kind else ''}"


def parse_allowed(text: str, where: str = "--allow") -> Allowed:
    """The option that `text` states. UsageError says what is wrong with it."""
    found = _PATTERN.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{where} {text}: write {FORM}; the reason must be there")
    return Allowed(found["kernel"], int(found["line"]), (found["kind"] or "").strip(), found["reason"].strip())


def read_allowed(name: str) -> list[Allowed]:
    """The lines of a file; empty ones and those that begin with # say nothing."""
    try:
        lines = Path(name).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--allow-file {name}: {getattr(error, 'strerror', None) or 'the text is not UTF-8'}"
        ) from None
    return [
        parse_allowed(line, f"{name}:{number}:")
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]


def sorted_out(
    findings: Iterable[Finding], allowed: Iterable[Allowed]
) -> tuple[list[Finding], list[tuple[Finding, Allowed]], list[Allowed]]:
    """(findings that nobody allows, those that somebody does and who, and what allowed nothing)."""
    left: list[Finding] = []
    covered: list[tuple[Finding, Allowed]] = []
    given = list(allowed)
    for finding in findings:
        by = next((each for each in given if each.covers(finding)), None)
        if by is None:
            left.append(finding)
        else:
            covered.append((finding, by))
    used = {id(by) for _, by in covered}
    return left, covered, [each for each in given if id(each) not in used]
