"""Words that C++ spells otherwise: attributes go, swizzles become calls, literals get their types.

These edits need no declarations, only the tokens and the names of the shader's own fields.
"""

from __future__ import annotations

import re

from .edits import Edits
from .syntax import Shader

__all__ = ["Spelling"]

_SWIZZLE = re.compile("[xyzw]{2,4}|[rgba]{2,4}")
_DECIMAL = r"(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|0[xX][0-9a-fA-F.]+[pP][+-]?\d+"
_FLOAT = re.compile(rf"(?P<value>{_DECIMAL})(?P<suffix>[hH]|bf|BF)?")
_QUALIFIERS = ("device", "const", "volatile")
_STOPS = frozenset("* & , ( ) ; { } = < >".split())


class Spelling:
    """Adds its changes to `edits`, whose tokens it reads."""

    def __init__(self, edits: Edits, shader: Shader) -> None:
        self._edits = edits
        self._stream = edits.stream
        self._shader = shader

    def run(self) -> None:
        """Makes all changes."""
        self._attributes()
        self._coherent()
        self._doubled_const()
        self._swizzles()
        self._literals()
        self._ranges()
        self._global()

    def _attributes(self) -> None:
        """Removes attributes."""
        for index in range(len(self._stream.tokens) - 1):
            if self._stream.opens_attribute(index):
                self._edits.replace(index, self._stream.pairs[index])

    def _coherent(self) -> None:
        """Removes `coherent` and `coherent(device)` where they stand before device memory."""
        for index, token in enumerate(self._stream.tokens):
            if token.text == "coherent" and token.kind == "word":
                last = self._stream.pairs.get(index + 1, index) if self._stream.text(index + 1) == "(" else index
                if self._stream.text(last + 1) in _QUALIFIERS or self._stream.text(index - 1) in _QUALIFIERS:
                    self._edits.replace(index, last)

    def _doubled_const(self) -> None:
        """Keeps one of two words that mean const, which may not stand twice in C++."""
        earlier: int | None = None  # among the specifiers before a declarator
        for index, token in enumerate(self._stream.tokens):
            if token.text in _STOPS:
                earlier = None
            elif token.text in ("const", "constant"):
                if earlier is not None:
                    drop = index if token.text == "constant" else earlier
                    self._edits.replace(drop, drop)
                earlier = index

    def _swizzles(self) -> None:
        """Turns v.xz into a call, which C++ can express; names of the shader's own fields are left alone."""
        fields = {name for struct in self._shader.structs.values() for name in struct.fields}
        chain = False  # whether an assigned swizzle stands right before
        for index in range(1, len(self._stream.tokens)):
            word = self._stream.text(index)
            if self._stream.text(index - 1) not in (".", "->"):
                chain = chain and word in (".", "->")
            elif _SWIZZLE.fullmatch(word) and word not in fields:
                order = "xyzw" if word[0] in "xyzw" else "rgba"
                indices = ", ".join(str(order.index(letter)) for letter in word)
                chain = self._assigned(index + 1)
                self._edits.replace(index, index, f"template {'swizzle' if chain else 'components'}<{indices}>()")
            elif chain and len(word) == 1 and word in "xyzwrgba":
                self._edits.replace(index - 1, index, f"[{max('xyzw'.find(word), 'rgba'.find(word))}]")
                chain = False

    def _assigned(self, index: int) -> bool:
        """Whether the expression that ends before index is assigned to."""
        while self._stream.text(index) in (".", "->", "["):
            index = self._stream.pairs[index] + 1 if self._stream.text(index) == "[" else index + 2
        sign, following = self._stream.text(index), "".join(self._stream.text(index + k) for k in (1, 2))
        if sign in ("=", "++", "--"):
            return True
        if sign in ("<", ">"):
            return following.startswith(("<=", ">="))
        return (
            sign in ("+", "-", "*", "/", "%", "&", "|", "^")
            and following.startswith("=")
            and (
                self._stream.tokens[index].end == self._stream.tokens[index + 1].start
                and not following.startswith("==")
            )
        )

    def _literals(self) -> None:
        """Gives literals their types: without doubles 1.0 is a float, and 1.0h and 1.0bf have 16 bits."""
        for index, token in enumerate(self._stream.tokens):
            found = _FLOAT.fullmatch(token.text) if token.kind == "number" else None
            if found and not found["suffix"]:
                self._edits.insert_behind(index, "f")
            elif found:
                kind = "half" if found["suffix"] in "hH" else "bfloat"
                self._edits.replace(index, index, f"metal::{kind}({found['value']}f)")

    def _ranges(self) -> None:
        """Turns T a[N] = {[0 ... N - 1] = x} into a declaration and a call."""
        for index in range(len(self._stream.tokens) - 2):
            if (
                self._stream.text(index) != "="
                or self._stream.text(index + 1) != "{"
                or self._stream.text(index + 2) != "["
            ):
                continue
            close, last = self._stream.pairs[index + 2], self._stream.pairs[index + 1]
            dots = next((k for k in range(index + 3, close) if self._stream.text(k) == "..."), None)
            if dots is None or self._stream.text(close + 1) != "=" or self._stream.text(index - 1) != "]":
                continue
            name = self._stream.text(self._stream.pairs[index - 1] - 1)
            first, end = self._stream.join(index + 3, dots), self._stream.join(dots + 1, close)
            value = self._stream.join(close + 2, last)
            self._edits.replace(index, last, f"; metal::metal_detail::fill({name}, {first}, {end}, {value})")

    def _global(self) -> None:
        """Drops the :: of ::name, which is a name of the shader's own outermost scope."""
        for index in range(1, len(self._stream.tokens) - 1):
            before = self._stream.tokens[index - 1]
            if self._stream.text(index) == "::" and before.kind != "word" and before.text not in (">", ")"):
                self._edits.replace(index, index)
