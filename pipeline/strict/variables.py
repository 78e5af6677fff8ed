"""Variables in threadgroup memory, which become references: OpenCL has such variables in its own kernels only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..metalc.tokens import Token
from .expressions import VECTORS
from .lowering import AGGREGATES, OPENERS, Lowering

__all__ = ["Variable", "Variables"]


@dataclass(slots=True)
class Variable:
    """A variable in threadgroup memory."""

    name: Token
    initialised: bool  # with what the kernel is given
    kernel: bool  # stands in the body of a kernel


class Variables(Lowering):
    """The part of the lowering that changes variables in threadgroup memory."""

    def __init__(self, text: str, file: str) -> None:
        super().__init__(text, file)
        self.variables: list[Variable] = []
        self._bodies: list[tuple[int, int, int]] | None = None

    def _kernel_bodies(self) -> list[tuple[int, int, int]]:
        """Where each kernel begins, and the brackets around its body, found once."""
        if self._bodies is not None:
            return self._bodies
        bodies: list[tuple[int, int, int]] = []
        for index, token in enumerate(self.tokens):
            if token.text != "kernel" or token.kind != "word":
                continue
            at = index + 1
            while at < len(self.tokens) and self.tokens[at].text not in ("{", ";"):
                at = self.pairs.get(at, at) + 1 if self.tokens[at].text in "([" else at + 1
            if self.matches(at, "{"):
                bodies.append((index, at, self.pairs[at]))
        self._bodies = bodies
        return bodies

    def _parameter_names(self, start: int, end: int) -> set[str]:
        """The names of the parameters of the kernel whose head is tokens[start:end]."""
        names: set[str] = set()
        at = start
        while at < end:
            if self.matches(at, "(") and self.tokens[at - 1].text not in ("__attribute__", "alignas"):
                depth = 0
                for position in range(at + 1, self.pairs[at] + 1):
                    depth += (self.tokens[position].text in "[(<") - (self.tokens[position].text in "])>")
                    ends = self.matches(position, ",") or self.matches(position, "[", "[") or position == self.pairs[at]
                    if ends and depth <= 1 and self.tokens[position - 1].kind == "word":
                        names.add(self.tokens[position - 1].text)
            at = self.pairs[at] + 1 if self.tokens[at].text in ("[", "(") else at + 1
        return names

    def _starts_statement(self, index: int) -> bool:
        at = index - 1
        while at >= 0 and (
            self.tokens[at].text in ("const", "static", "volatile", "constexpr") or self.matches(at, ")")
        ):
            if self.matches(at, ")"):
                opener = self.pairs.get(at, 0)
                if self.tokens[opener - 1].text not in ("alignas", "__attribute__"):
                    return False
                at = opener - 1
            at -= 1
        if self.matches(at, "]", "]") or (self.matches(at, "]") and self.matches(at - 1, "]")):
            return True
        return at < 0 or self.tokens[at].text in OPENERS

    def _variables(self, index: int) -> None:
        """Makes references of the variables that are declared at index, behind `threadgroup`."""
        end = index
        while end < len(self.tokens) and self.tokens[end].text != ";":
            if self.tokens[end].text == ")" or self.tokens[end].text == "}":
                return
            end = self.pairs.get(end, end) + 1 if self.tokens[end].text in "([{" else end + 1
        groups = list(self._groups(index + 1, end))
        body = next((each for each in self._kernel_bodies() if each[1] < index < each[2]), None)
        parameters = self._parameter_names(*body[:2]) if body else set()
        for start, stop in groups:
            words = list(self._flat(start, stop))
            name = next((at for at in reversed(words) if self.tokens[at].kind == "word"), None)
            if name is None or any(self.tokens[at].text in "*&(" for at in words):
                return  # a pointer or a reference
            last = max(words)
            tail = last + 1
            while self.matches(tail, "["):
                tail = self.pairs[tail] + 1
            # Metal takes an initialiser and gives the memory no value, so nothing can be computed for it.
            initialised = any(token.text in parameters for token in self.tokens[tail:stop])
            self.variables.append(Variable(self.tokens[name], initialised, body is not None))
            self.insert(self.tokens[name].start, "(&")
            self.insert(self.tokens[name].end, ")")
            if tail < stop:
                self.changes.append((self.tokens[tail].start, self.tokens[stop - 1].end, None))
            self.insert(self.tokens[stop - 1].end, " = strict::threadgroup_memory")
        for at in range(index - 1, -1, -1):
            if self.tokens[at].text in OPENERS:
                break
            self._drop_alignment(at)
        for at in range(index, end):
            self._drop_alignment(at)

    def _drop_alignment(self, at: int) -> None:
        if self.matches(at, "alignas", "("):
            self.changes.append((self.tokens[at].start, self.tokens[self.pairs[at + 1]].end, None))

    def _groups(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The declarators between start and end, the first with the type before it."""
        at, depth, first = start, 0, start
        while at < end:
            text = self.tokens[at].text
            depth += (text == "<") - (text == ">")
            if text == "," and depth == 0:
                yield first, at
                first = at + 1
            at = self.pairs.get(at, at) + 1 if text in "([{" else at + 1
        yield first, end

    def _flat(self, start: int, end: int) -> Iterator[int]:
        """The indices up to the extents or the initialiser, without those inside brackets."""
        at = start
        while at < end:
            text = self.tokens[at].text
            if text == "<":
                at = self.angle(at) + 1
                continue
            if text == "alignas" or self.matches(at, "[", "["):
                at = self.pairs[at + 1 if text == "alignas" else at] + 1
                continue
            if text == "{" and self.tokens[at - 1].text in AGGREGATES + tuple(VECTORS):
                at = self.pairs[at] + 1
                continue
            if text in ("[", "=", "{"):
                return
            yield at
            at += 1
