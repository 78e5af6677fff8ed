"""Switches for the checker: each counts its cases as a loop counts turns. Lanes in earlier cases are behind those in
later ones and behind the switch, so that lanes that fall into a case meet those that come to it directly.

    switch (A) { case 0: B case 1: C }      becomes
    switch (metallib_turns t; 0) default: switch (A) { case 0: t.arm(1); B case 1: t.arm(2); C }

The compiler may lay the code of cases out in any order, so places in it do not tell which lanes are behind.
"""

from __future__ import annotations

from collections.abc import Sequence

from .edits import Edits

__all__ = ["Switches"]

_NO_CALLS = frozenset(("if", "for", "while", "switch", "return", "sizeof", "case"))


class Switches:
    """Adds its changes to `edits`, but for switches in `constant`, bodies that may be computed while compiling."""

    def __init__(self, edits: Edits, constant: Sequence[tuple[int, int]]) -> None:
        self._edits = edits
        self._stream = edits.stream
        self._constant = constant

    def run(self) -> None:
        """Makes all changes."""
        count = 0
        for index, token in enumerate(self._stream.tokens):
            if token.text != "switch" or token.kind != "word" or self._stream.text(index + 1) != "(":
                continue
            if any(start < index < end for start, end in self._constant):
                continue
            opener = self._stream.pairs[index + 1] + 1
            if self._stream.text(opener) != "{":
                continue
            if not self._calls(opener):
                continue
            count += 1
            self._edits.insert(index, f"switch (metallib_turns metallib_cases_{count}; 0) default: ")
            for number, colon in enumerate(self._labels(opener), 1):
                self._edits.insert_behind(colon, f" metallib_cases_{count}.arm({number});")

    def _labels(self, opener: int) -> list[int]:
        """The colons of the labels of the switch itself."""
        found: list[int] = []
        index, end = opener + 1, self._stream.pairs[opener]
        while index < end:
            text = self._stream.text(index)
            if text in ("case", "default"):
                colon = index
                while self._stream.text(colon) != ":":
                    colon = self._stream.pairs[colon] + 1 if self._stream.text(colon) in ("(", "[", "{") else colon + 1
                found.append(colon)
                index = colon + 1
            elif text == "switch" and self._stream.text(index + 1) == "(":
                index = self._stream.pairs[index + 1] + 1
                index = self._stream.pairs[index] + 1 if self._stream.text(index) == "{" else index
            else:
                index += 1
        return found

    def _calls(self, opener: int) -> bool:
        """Whether the body calls a function, in which lanes may meet."""
        return any(
            token.kind == "word" and token.text not in _NO_CALLS and self._stream.text(index + 1) in ("(", "<")
            for index, token in enumerate(self._stream.tokens[opener : self._stream.pairs[opener]], opener)
        )
