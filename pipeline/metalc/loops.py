"""Loops for the checker: each counts its turns, so that lanes of a simdgroup meet only within the same turn.

    for (A; B; C) D     becomes   switch (metallib_turns t; 0) default: for (A; (t.test(), (B)); C) { t.body(); D }
    while (B) D         likewise
    do D while (B)      becomes   switch (metallib_turns t; 0) default: do { t.both(); D } while (B)

A `switch` opens a scope and takes no `else` that stands behind the loop. What counts a turn stands so that the compiler
leaves the code in its order: behind a condition that is no condition, it would move the beginning of the body.
"""

from __future__ import annotations

from collections.abc import Sequence

from .edits import Edits
from .places import Places, turns_of
from .statements import semicolons, statement_end

__all__ = ["Loops"]


class Loops:
    """Adds its changes to `edits`. Loops in `constant`, bodies that may be computed while compiling, are left alone.
    `places` has what stands before a loop."""

    def __init__(self, edits: Edits, places: Places, constant: Sequence[tuple[int, int]]) -> None:
        self._edits = edits
        self._stream = edits.stream
        self._places = places
        self._constant = constant
        self._ends: set[int] = set()  # the `while` of each do-while

    def run(self) -> None:
        """Makes all changes."""
        for index, token in enumerate(self._stream.tokens):
            if token.text not in ("for", "while", "do") or token.kind != "word" or self._left_alone(index):
                continue
            if token.text == "do":
                self._do(index)
            elif index not in self._ends and self._stream.text(index + 1) == "(":
                self._loop(index, token.text == "for")

    def _left_alone(self, index: int) -> bool:
        return any(start < index < end for start, end in self._constant)

    def _named(self, index: int) -> str:
        name = turns_of(index)
        self._edits.insert(index, f"{self._places.before(index)}switch (metallib_turns {name}; 0) default: ")
        return name

    def _do(self, index: int) -> None:
        end = statement_end(self._stream, index + 1)
        if self._stream.text(end) == "while":
            self._ends.add(end)
        self._body(index, index + 1)

    def _loop(self, index: int, is_for: bool) -> None:
        opener = index + 1
        close = self._stream.pairs[opener]
        first, last = opener + 1, close - 1
        if is_for:
            parts = semicolons(self._stream, opener)
            if len(parts) != 2:  # over a range
                self._body(index, close + 1)
                return
            first, last = parts[0] + 1, parts[1] - 1
        if self._declares(first, last):
            self._body(index, close + 1)
            return
        if first > last or first == last and self._stream.text(first) in ("true", "1"):
            self._body(index, close + 1)
            return
        name = self._body(index, close + 1, "body")
        self._edits.insert(first, f"({name}.test(), (")
        self._edits.insert_behind(last, "))")

    def _body(self, index: int, start: int, counts: str = "both") -> str:
        """Counts turns of the loop at index where its body, which begins at `start`, begins; returns the name."""
        name = self._named(index)
        self._edits.insert(start, f"{{ {name}.{counts}(); ")
        self._edits.insert_behind(statement_end(self._stream, start) - 1, " }")
        return name

    def _declares(self, first: int, last: int) -> bool:
        """Whether a condition is a declaration: two words in a row, or one behind a pointer's sign, and a value."""
        texts = [self._stream.text(index) for index in range(first, last + 1)]
        if "=" not in texts:
            return False
        head = texts[: texts.index("=")]
        return len(head) >= 2 and head[-1].isidentifier() and (head[-2].isidentifier() or head[-2] in ("*", "&", ">"))
