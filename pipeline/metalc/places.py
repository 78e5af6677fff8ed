"""Places for the checker: a thread notes which statement it is at, so that lanes of a simdgroup that part are compared
by the order of the source. The compiler lays out code in an order of its own, and joins and copies parts of it.

    if (A) simd_sum(B); else C      becomes      p.at(1); if (A) { p.at(2); simd_sum(B); } else C

`p` belongs to the function, or to the innermost loop around the statement (loops.py): a lane in an earlier turn is
behind, wherever it is. Only statements in which lanes may meet are numbered, in the functions that have some.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .edits import Edits
from .statements import behind_attributes, behind_brackets, condition_of, lambda_bodies, semicolons, statement_end

__all__ = ["Function", "Places", "turns_of"]

_MEETING = ("simd_", "quad_", "simdgroup_", "threadgroup_barrier")
_LOOPS = ("for", "while", "do")


@dataclass(frozen=True, slots=True)
class Function:
    """A function, or a lambda: its name, and the brackets that open its parameters and its body."""

    name: str
    parameters: int
    body: int


def turns_of(index: int) -> str:
    """The name of what counts the turns of the loop at index."""
    return f"metallib_turns_{index}"


class Places:
    """Adds its changes to `edits` in two parts: loops.py takes what stands before a loop, `run` adds the others."""

    def __init__(self, edits: Edits, functions: Iterable[Function], constant: Sequence[tuple[int, int]]) -> None:
        self._edits = edits
        self._stream = edits.stream
        self._functions = [*functions, *(self._lambda(*each) for each in lambda_bodies(self._stream))]
        self._meeting = set[str]()
        self._meeting = self._names()
        self.constant = [span for span in constant if not self.meets(*span)]  # the bodies that are left alone
        self._before: dict[int, str] = {}  # by the token that a statement begins with
        self._object, self._called = "", set[str]()
        self._count = 0
        for function in self._functions:
            self._function(function)

    def before(self, index: int) -> str:
        """Takes what stands before the loop at index."""
        return self._before.pop(index, "")

    def run(self) -> None:
        """Adds what was not taken."""
        for index, text in self._before.items():
            self._edits.insert(index, text)

    def meets(self, start: int, end: int) -> bool:
        """Whether lanes may meet in tokens[start:end]: a function of the simdgroup, or one that uses some."""
        tokens = self._stream.tokens
        return any(
            tokens[index].text in self._meeting
            or (tokens[index].text.startswith(_MEETING) and self._stream.text(index + 1) in ("(", "<"))
            for index in range(start, end)
            if tokens[index].kind == "word"
        )

    def _lambda(self, capture: int, body: int) -> Function:
        name = self._stream.text(capture - 2) if self._stream.text(capture - 1) == "=" else ""
        return Function(name, self._stream.pairs[capture] + 1, body)

    def _names(self) -> set[str]:
        """The functions in which lanes may meet. Overloads count as one; a parameter that is called may be anything."""
        users = defaultdict[str, set[str]](set)
        new = set[str]()
        for function in self._functions:
            start, end = function.body, self._stream.pairs[function.body]
            if self.meets(start, end) or self._calls(self._given(function), start, end):
                new.add(function.name)
            for token in self._stream.tokens[start:end]:
                if token.kind == "word":
                    users[token.text].add(function.name)
        found = set[str]()
        while new:
            found |= new
            new = set[str]().union(*(users[name] for name in new)) - found
        return found - {""}

    def _given(self, function: Function) -> set[str]:
        """The names of its parameters."""
        found = set[str]()
        for index in range(function.parameters + 1, function.body):
            token, before = self._stream.tokens[index], self._stream.tokens[index - 1]
            typed = before.kind == "word" or before.text in ("&", "*", ">")
            if token.kind == "word" and typed and self._stream.text(index + 1) in (",", ")", "[", "="):
                found.add(token.text)
        return found

    def _calls(self, names: set[str], start: int, end: int) -> bool:
        return any(
            self._stream.text(index) in names and self._stream.text(index + 1) == "(" for index in range(start, end)
        )

    def _function(self, function: Function) -> None:
        end = self._stream.pairs[function.body]
        if any(start <= function.body < stop for start, stop in self.constant):
            return
        self._called = self._given(function)
        if not self._meets_here(function.body, end):
            return
        self._object = f"metallib_place_{function.body}"
        self._edits.insert_behind(function.body, f" metallib_turns {self._object};")
        self._block(function.body)

    def _block(self, opener: int) -> None:
        index, end = opener + 1, self._stream.pairs[opener]
        while index < end:
            index = self._statement(index, end, alone=False)

    def _statement(self, index: int, end: int, *, alone: bool) -> int:
        """Numbers a statement and what is in it; returns what is behind it. `alone`: no braces are around it."""
        start, index = index, behind_attributes(self._stream, index)
        text = self._stream.text(index)
        if text in ("case", "default"):
            while index < end and self._stream.text(index) != ":":
                index = behind_brackets(self._stream, index)
            return index + 1
        stop = min(statement_end(self._stream, index), end)
        if text == "{":
            self._block(index)
        elif self._meets_here(index, stop):
            self._mark(start, stop, alone)
            self._parts(text, index, stop)
        return stop

    def _meets_here(self, start: int, end: int) -> bool:
        return self.meets(start, end) or self._calls(self._called, start, end)

    def _parts(self, text: str, index: int, stop: int) -> None:
        """The statements within an `if`, a `switch` or a loop."""
        if text in _LOOPS:
            self._loop(text, index, stop)
        elif text in ("if", "switch"):
            behind = self._stream.pairs[condition_of(self._stream, index)] + 1
            other = self._statement(behind, stop, alone=True)
            if other < stop and self._stream.text(other) == "else":
                self._statement(other + 1, stop, alone=True)

    def _loop(self, text: str, index: int, stop: int) -> None:
        outer, self._object = self._object, turns_of(index)
        if text == "do":
            opener = self._statement(index + 1, stop, alone=False) + 1
            self._expression(opener + 1, self._stream.pairs[opener])
        else:
            close = self._stream.pairs[index + 1]
            self._statement(close + 1, stop, alone=False)  # loops.py puts braces around it
            parts = semicolons(self._stream, index + 1) if text == "for" else []
            if len(parts) == 2:
                self._expression(parts[1] + 1, close)
        self._object = outer

    def _expression(self, start: int, end: int) -> None:
        """Numbers what a loop computes behind its body."""
        if self._meets_here(start, end):
            self._edits.insert(start, f"{self._next()}, (")
            self._edits.insert(end, ")")

    def _mark(self, start: int, stop: int, alone: bool) -> None:
        self._before[start] = f"{'{ ' if alone else ''}{self._next()}; "
        if alone:
            self._edits.insert_behind(stop - 1, " }")

    def _next(self) -> str:
        self._count += 1
        return f"{self._object}.at({self._count})"
