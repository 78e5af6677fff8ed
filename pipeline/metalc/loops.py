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

__all__ = ["Loops"]


class Loops:
    """Adds its changes to `edits`. Loops in `constant`, bodies that may be computed while compiling, are left alone
    unless they have a simdgroup function in them."""

    def __init__(self, edits: Edits, constant: Sequence[tuple[int, int]]) -> None:
        self._edits = edits
        self._stream = edits.stream
        self._constant = [span for span in constant if not self._meets(*span)]
        self._ends: set[int] = set()  # the `while` of each do-while
        self._count = 0

    def run(self) -> None:
        """Makes all changes."""
        for index, token in enumerate(self._stream.tokens):
            if token.text not in ("for", "while", "do") or token.kind != "word" or self._left_alone(index):
                continue
            if token.text == "do":
                self._do(index)
            elif index not in self._ends and self._stream.text(index + 1) == "(":
                self._loop(index, token.text == "for")

    def _meets(self, start: int, end: int) -> bool:
        texts = (self._stream.text(index) for index in range(start, end))
        return any(text.startswith(("simd_", "quad_", "simdgroup_", "threadgroup_barrier")) for text in texts)

    def _left_alone(self, index: int) -> bool:
        return any(start < index < end for start, end in self._constant)

    def _named(self, index: int) -> str:
        self._count += 1
        name = f"metallib_turns_{self._count}"
        self._edits.insert(index, f"switch (metallib_turns {name}; 0) default: ")
        return name

    def _do(self, index: int) -> None:
        end = self._end(index + 1)
        if self._stream.text(end) == "while":
            self._ends.add(end)
        self._body(index, index + 1)

    def _loop(self, index: int, is_for: bool) -> None:
        opener = index + 1
        close = self._stream.pairs[opener]
        first, last = opener + 1, close - 1
        if is_for:
            semicolons = self._semicolons(opener, close)
            if len(semicolons) != 2:  # over a range
                self._body(index, close + 1)
                return
            first, last = semicolons[0] + 1, semicolons[1] - 1
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
        self._edits.insert_behind(self._end(start) - 1, " }")
        return name

    def _end(self, index: int) -> int:
        """Behind the statement at index."""
        while self._stream.opens_attribute(index):
            index = self._stream.pairs[index] + 1
        text = self._stream.text(index)
        if text == "{":
            return self._stream.pairs[index] + 1
        if text in ("if", "for", "while", "switch"):
            opener = index + 1 + (self._stream.text(index + 1) == "constexpr")
            end = self._end(self._stream.pairs.get(opener, opener) + 1)
            return self._end(end + 1) if text == "if" and self._stream.text(end) == "else" else end
        if text == "do":
            index = self._end(index + 1)  # its `while`
        last = len(self._stream.tokens) - 1
        while index < last and self._stream.text(index) != ";":
            index = self._stream.pairs[index] + 1 if self._stream.text(index) in ("(", "[", "{") else index + 1
        return index + 1

    def _semicolons(self, opener: int, close: int) -> list[int]:
        found: list[int] = []
        index = opener + 1
        while index < close:
            if self._stream.text(index) == ";":
                found.append(index)
            index = self._stream.pairs[index] + 1 if self._stream.text(index) in ("(", "[", "{") else index + 1
        return found

    def _declares(self, first: int, last: int) -> bool:
        """Whether a condition is a declaration: two words in a row, or one behind a pointer's sign, and a value."""
        texts = [self._stream.text(index) for index in range(first, last + 1)]
        if "=" not in texts:
            return False
        head = texts[: texts.index("=")]
        return len(head) >= 2 and head[-1].isidentifier() and (head[-2].isidentifier() or head[-2] in ("*", "&", ">"))
