"""The diagnostics of a check, and the calls that report them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..metalc.syntax import KernelDeclaration, Parameter
from ..metalc.tokens import Token

__all__ = ["Diagnostic", "ReportParsed", "ReportPlace", "ReportToken"]


@dataclass(frozen=True, slots=True, order=True)
class Diagnostic:
    """One thing that Apple's compiler refuses, at its place in the original file."""

    file: str
    line: int
    column: int
    rule: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}; {self.fix}"


class ReportToken(Protocol):
    """Reports a token of the shader."""

    def __call__(self, token: Token, rule: str, message: str, fix: str) -> None: ...


class ReportParsed(Protocol):
    """Reports a word in the line of a kernel or of a parameter."""

    def __call__(self, item: KernelDeclaration | Parameter, word: str, rule: str, message: str, fix: str) -> None: ...


class ReportPlace(Protocol):
    """Reports a place in the lowered text."""

    def __call__(self, line: int, column: int, rule: str, message: str, fix: str) -> None: ...
