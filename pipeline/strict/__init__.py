"""Strict MSL: what Apple's Metal compiler refuses though C++ accepts it, found without that compiler.

    for diagnostic in strict.check(["add.metal"]):
        print(diagnostic)

A shader is lowered to C++ for OpenCL, which has Metal's address spaces, and read by Clang's library
(libclang, from PyPI; nothing else of the package needs it) against the declarations of
pipeline/include/metal_strict. Clang's own errors, with those that Metal does not share left out, and the rules of
words.py, kernels.py and tree.py make the diagnostics.
"""

import os

from ..metalc.errors import CompileError
from ..metalc.parse import parse
from . import engine, kernels, lower, messages, source, words
from .diagnostic import Diagnostic
from .engine import INSTALL, Unavailable, available

__all__ = ["CompileError", "Diagnostic", "INSTALL", "Unavailable", "available", "check"]

# Rules of the tree that Clang has errors for, too.
_CLANG_TOO = ("no-address-space", "global-state", "kernel-call", "function-pointer", "reserved-name")


def check(files, include=(), defines=(), *, explicit_indices=True) -> list[Diagnostic]:
    """Checks .metal files.

    Args:
        files: paths of .metal files.
        include: folders for #include "...".
        defines: macros, each NAME or NAME=VALUE.
        explicit_indices: refuse buffers without an index. Apple's compiler numbers them itself, which
            other people's shaders rely on.

    Returns:
        What Apple's compiler would refuse, by file and line; an error in a header once for each way it shows.

    Raises:
        Unavailable: libclang is not installed.
        CompileError: a file cannot be preprocessed.
    """
    if isinstance(files, (str, os.PathLike)):
        files = [files]
    if not available():
        raise Unavailable(INSTALL)
    found = {
        diagnostic for file in files for diagnostic in _Check(os.fspath(file), explicit_indices).run(include, defines)
    }
    return sorted(found)


class _Check:
    """One file."""

    def __init__(self, file: str, explicit_indices: bool):
        self.file, self.explicit_indices = file, explicit_indices
        self.sources: dict[str, list[str]] = {}
        self.found: list[Diagnostic] = []

    def run(self, include, defines) -> list[Diagnostic]:
        from . import tree  # needs libclang

        marked = source.preprocess(self.file, include, defines)
        text, self.places = source.places(marked, self.file)
        self.text = text
        shader = parse(marked, self.file)
        lowered = lower.lower(text, self.file)
        self.lines = lowered.text.split("\n")
        words.check(lowered, self._token)
        kernels.check(shader, self.explicit_indices, self._parsed)
        unit = engine.parse(lowered.text)
        plain = {(diagnostic.file, diagnostic.line): diagnostic.rule for diagnostic in self.found}
        tree.check(unit, lowered, {kernel.base_name for kernel in shader.kernels}, self._physical)
        # What a thread_local variable is, and what Clang says of a line, a rule has told already.
        self.found = [d for d in self.found if d.rule != "global-state" or plain.get((d.file, d.line)) != "storage"]
        told = {*plain, *((d.file, d.line) for d in self.found if d.rule in _CLANG_TOO)}
        for finding in messages.errors(engine.findings(unit)):
            self._clang(finding, told)
        return self.found

    def _add(self, place: source.Place, word: str, nth: int, rule: str, message: str, fix: str) -> None:
        column = source.column(place, word, nth, self.sources)
        self.found.append(Diagnostic(place.file, place.line, column, rule, message, fix))

    def _token(self, token, rule, message, fix) -> None:
        start = self.text.rfind("\n", 0, token.start) + 1
        nth = sum(1 for _ in source.occurrences(token.text, self.text[start : token.start]))
        self._add(self.places[token.line - 1], token.text, nth, rule, message, fix)

    def _parsed(self, item, word, rule, message, fix) -> None:
        self._add(source.Place(item.file, item.line), word, 0, rule, message, fix)

    def _physical(self, line, column, rule, message, fix) -> None:
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

    def _clang(self, finding, told) -> None:
        """An error of Clang's, unless a rule of this package has told of the line already."""
        rule, message, fix = messages.classify(finding)
        place = self.places[finding.line - 1] if 0 < finding.line <= len(self.places) else None
        if place is None or (place.file, place.line) not in told:
            self._physical(finding.line, finding.column, rule, message, fix)
