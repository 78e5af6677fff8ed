"""constexpr functions that C++ would refuse: what they call is constant in no call.

Clang takes the word as a wish; GCC wants a proof where the function is defined, but never of what a template makes. So
the body of such a function moves into a generic lambda, whose call is a template: constant where it can be, and a plain
call elsewhere. A constructor has no result to give on, so it loses the word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .edits import Edits
from .places import Function

__all__ = ["ConstantFunctions"]

_NO_RESULT = frozenset("constexpr inline static friend METAL_FUNC METAL_INTERNAL template".split())
_NO_CALLS = frozenset("if for while switch return sizeof alignof decltype static_assert".split())


@dataclass(frozen=True, slots=True)
class _Function:
    """One function with a body: tokens[index:name] are its specifiers and its result, tokens[tail:body] follow its
    parameters."""

    text: str  # its name
    constant: bool
    template: bool
    constructor: bool
    index: int
    name: int
    tail: int
    body: int


class ConstantFunctions:
    """Takes the functions of a shader, then adds its changes to `edits`."""

    def __init__(self, edits: Edits) -> None:
        self._edits = edits
        self._stream = edits.stream
        self._functions: list[_Function] = []

    def add(self, index: int, name: int, tail: int, stop: int, *, template: bool, constructor: bool) -> None:
        """Takes the function at tokens[index:stop], whose name begins at `name`; `tail` is behind its parameters."""
        if self._stream.text(stop - 1) != "}":
            return
        body = self._stream.pairs[stop - 1]
        constant = any(self._stream.text(at) == "constexpr" for at in range(index, name))
        text = self._stream.join(name, name + 2) if self._stream.text(name) == "operator" else self._stream.text(name)
        self._functions.append(_Function(text, constant, template, constructor, index, name, tail, body))

    @property
    def all(self) -> list[Function]:
        """All functions with a body."""
        return [Function(each.text, each.name + 1, each.body) for each in self._functions]

    @property
    def bodies(self) -> list[tuple[int, int]]:
        """The brackets around the bodies of those that are declared constexpr."""
        return [(each.body, self._stream.pairs[each.body]) for each in self._functions if each.constant]

    def run(self) -> None:
        """Makes all changes."""
        plain = {each.text for each in self._functions if not each.constant and not each.template}
        proven = {each.text for each in self._functions} - plain
        signs = {self._stream.text(each.name + 1) for each in self._functions if each.text.startswith("operator")}
        signs -= {each.text.removeprefix("operator ") for each in self._functions if each.text in proven}
        for function in self._functions:
            if not function.constant or function.template:
                continue
            if function.constructor:
                if not plain.isdisjoint(self._calls(function.tail, self._stream.pairs[function.body])):
                    self._drop(function)
            elif not proven.issuperset(self._calls(function.body, self._stream.pairs[function.body])) or any(
                self._stream.text(at) in signs for at in range(function.body, self._stream.pairs[function.body])
            ):
                self._wrap(function)

    def _calls(self, start: int, end: int) -> Iterator[str]:
        for at in range(start, end):
            if self._stream.tokens[at].kind == "word" and self._stream.text(at) not in _NO_CALLS:
                if self._stream.text(at + 1) in ("(", "{"):
                    yield self._stream.text(at)

    def _drop(self, function: _Function) -> None:
        for at in range(function.index, function.name):
            if self._stream.text(at) == "constexpr":
                self._edits.replace(at, at)

    def _wrap(self, function: _Function) -> None:
        words: list[str] = []
        at = function.index
        while at < function.name:
            text = self._stream.text(at)
            if self._stream.opens_attribute(at):
                at = self._stream.pairs[at] + 1
            elif text in ("__attribute__", "alignas"):
                at = self._stream.pairs[at + 1] + 1
            else:
                words += [text] * (text not in _NO_RESULT)
                at += 1
        for at in range(function.tail, function.body):
            if self._stream.text(at) == "->":
                words = [self._stream.text(k) for k in range(at + 1, function.body)]
        head = f" return [&](auto) constexpr __attribute__((always_inline)) -> {' '.join(words)} {{"
        self._edits.insert_behind(function.body, head)
        self._edits.insert(self._stream.pairs[function.body], "}(0); ")
