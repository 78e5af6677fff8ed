"""Function constants as C++: variables of the thread, each with a flag that says whether it was given a value.

The macros METALLIB_CONSTANT and so on (metal_stdlib) say what they are on a device.
"""

from __future__ import annotations

from .constants import integer
from .edits import Edits
from .errors import at
from .syntax import Attribute, FunctionConstant, Shader

__all__ = ["FunctionConstants"]


class FunctionConstants:
    """Adds function constants to the shader, and to `edits` the changes that make them variables."""

    def __init__(self, edits: Edits, shader: Shader) -> None:
        self._edits = edits
        self._stream = edits.stream
        self._shader = shader

    def flags(self) -> None:
        """Turns is_function_constant_defined(name) into the flag that stands beside the constant."""
        for index in range(len(self._stream.tokens) - 3):
            if self._stream.text(index) == "is_function_constant_defined" and self._stream.text(index + 1) == "(":
                close = self._stream.pairs[index + 1]
                first = (
                    index - 2
                    if self._stream.text(index - 1) == "::" and self._stream.text(index - 2) == "metal"
                    else index
                )
                self._edits.replace(first, close, f"metallib_defined_{self._stream.text(close - 1)}")

    def read(self, index: int, stop: int, path: tuple[str, ...]) -> None:
        """Reads the declaration at tokens[index:stop], a function constant or one that is computed from some."""
        position = index
        equals: int | None = None
        attribute: Attribute | None = None
        while position < stop:
            if self._stream.opens_attribute(position):
                found = self._stream.attributes(position)
                attribute = next((a for a in found if a.name == "function_constant"), attribute)
                position = self._stream.pairs[position]
            elif self._stream.text(position) == "=" and equals is None:
                equals = position
            position += 1
        names = {constant.name for constant in self._shader.function_constants}
        if attribute is None:
            if equals is None or self._stream.text(index) == "extern":
                return
            used = {token.text.removeprefix("metallib_defined_") for token in self._stream.tokens[equals:stop]}
            if names.isdisjoint(used):
                return
        end = equals if equals is not None else stop - 1
        named = end - 1
        while named > index and (
            self._stream.tokens[named].kind != "word" or self._stream.text(named) == "function_constant"
        ):
            named = self._stream.pairs[named] - 1 if self._stream.text(named) == "]" else named - 1
        token = self._stream.tokens[named]
        for position in range(index, named):
            if self._stream.text(position) in ("constant", "const", "constexpr", "static", "inline"):
                self._edits.replace(position, position)
        self._edits.insert(index, "METALLIB_CONSTANT ")
        number = integer(attribute.argument or "", self._shader.enumerators) if attribute else None
        if attribute is not None and number is None:
            raise at(
                token.file, token.line, f"the index of function constant '{token.text}' must be an integer constant"
            )
        self._shader.function_constants.append(
            FunctionConstant(token.text, path, number, attribute is None, token.file, token.line)
        )
        if attribute is not None:
            flag = f"METALLIB_CONSTANT bool metallib_defined_{token.text} METALLIB_DEFINED({number});"
            self._edits.replace(stop - 1, stop - 1, f" METALLIB_VALUE({number}); {flag}")
        elif equals is not None:
            self._edits.insert(equals, f"METALLIB_DERIVED({token.text}) ")
            self._edits.replace(stop - 1, stop - 1, "; METALLIB_DERIVED_END")
