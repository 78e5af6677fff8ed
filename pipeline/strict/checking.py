"""The check of one file: all rules, with each diagnostic at its place in the original file."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

from ..metalc.parse import parse
from ..metalc.syntax import KernelDeclaration, Parameter
from ..metalc.tokens import Token
from . import constants, engine, kernels, lower, messages, source, tree, words
from .diagnostic import Diagnostic

__all__ = ["check_file"]

# Rules of the tree that Clang has errors for, too.
_CLANG_TOO = ("no-address-space", "global-state", "kernel-call", "function-pointer", "reserved-name")


def check_file(
    file: str, include: Sequence[str | os.PathLike[str]], defines: Sequence[str], explicit_indices: bool
) -> list[Diagnostic]:
    """The diagnostics of one file, in no order."""
    return _Check(file, explicit_indices).run(include, defines)


class _Check:
    """One file."""

    def __init__(self, file: str, explicit_indices: bool) -> None:
        self.file, self.explicit_indices = file, explicit_indices
        self.text = ""
        self.lines: list[str] = []  # of the lowered text
        self.places: list[source.Place] = []  # of each line of the text
        self.sources: dict[str, list[str]] = {}
        self.found: list[Diagnostic] = []

    def run(self, include: Sequence[str | os.PathLike[str]], defines: Sequence[str]) -> list[Diagnostic]:
        """Applies all rules."""
        marked = source.preprocess(self.file, include, defines)
        self.text, self.places = source.places(marked, self.file)
        shader = parse(marked, self.file)
        lowered = lower.lower(self.text, self.file)
        self.lines = lowered.text.split("\n")
        words.check(lowered, self._token)
        constants.check(lowered, self._token)
        kernels.check(shader, self.explicit_indices, self._parsed)
        unit = engine.parse(lowered.text)
        plain = {(diagnostic.file, diagnostic.line): diagnostic.rule for diagnostic in self.found}
        tree.check(unit, lowered, {kernel.base_name for kernel in shader.kernels}, self._physical)
        # A rule has told already of a thread_local variable, and of a line that Clang has an error for, too.
        self.found = [d for d in self.found if d.rule != "global-state" or plain.get((d.file, d.line)) != "storage"]
        told = {*plain, *((d.file, d.line) for d in self.found if d.rule in _CLANG_TOO)}
        for finding in messages.errors(engine.findings(unit)):
            self._clang(finding, told)
        return self.found

    def _add(self, place: source.Place, word: str, nth: int, rule: str, message: str, fix: str) -> None:
        column = source.column(place, word, nth, self.sources)
        self.found.append(Diagnostic(place.file, place.line, column, rule, message, fix))

    def _token(self, token: Token, rule: str, message: str, fix: str) -> None:
        start = self.text.rfind("\n", 0, token.start) + 1
        nth = sum(1 for _ in source.occurrences(token.text, self.text[start : token.start]))
        self._add(self.places[token.line - 1], token.text, nth, rule, message, fix)

    def _parsed(self, item: KernelDeclaration | Parameter, word: str, rule: str, message: str, fix: str) -> None:
        self._add(source.Place(item.file, item.line), word, 0, rule, message, fix)

    def _physical(self, line: int, column: int, rule: str, message: str, fix: str) -> None:
        """Reports a place in the lowered text."""
        if not 0 < line <= len(self.places):
            self._add(source.Place(self.file, 1), "", 0, rule, message, fix)
            return
        word = self._word(line, column)
        nth = sum(1 for _ in source.occurrences(word, self.lines[line - 1][: column - 1]))
        self._add(self.places[line - 1], word, nth, rule, message, fix)

    def _word(self, line: int, column: int) -> str:
        rest = self.lines[line - 1][column - 1 :]
        word = ""
        for character in rest:
            if not (character.isalnum() or character == "_"):
                break
            word += character
        return word or rest[:1].strip()

    def _clang(self, finding: engine.Finding, told: Collection[tuple[str, int]]) -> None:
        """Reports an error of Clang's, unless a rule of this package has told of the line already."""
        rule, message, fix = messages.classify(finding)
        place = self.places[finding.line - 1] if 0 < finding.line <= len(self.places) else None
        if place is None or (place.file, place.line) not in told:
            self._physical(finding.line, finding.column, rule, message, fix)
