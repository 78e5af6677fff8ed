"""Parsing: finds kernels, structs and enumerators among the declarations of a preprocessed shader.

Only namespace scope is understood; bodies are skipped as matched braces. The C++ compiler sees the same text, and
reports what this parser cannot make sense of.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import conditional, threadgroup, uses
from .edits import edit
from .functions import KernelReader
from .rewrite import rewrite
from .stream import TokenStream
from .structs import TypeReader
from .syntax import Shader

__all__ = ["parse"]


def parse(text: str, file: str, instantiate: bool = True, turns: bool = False) -> Shader:
    """Parses the output of the preprocessor. Without `instantiate`, the text that is left has no explicit
    instantiations; with `turns`, its loops count theirs."""
    stream, shader = TokenStream(text, file), Shader(file, text)
    _Declarations(stream, shader).read(0, len(stream.tokens))
    changes = (*rewrite(stream, shader, instantiate, turns), *threadgroup.edits(stream))
    if shader.function_constants:
        names = {constant.name for constant in shader.function_constants}
        shader.constants_of = uses.reached(stream, {kernel.base_name for kernel in shader.kernels}, names)
        shader.optional_constants = frozenset(_asked(stream))
    shader.text = conditional.rewrite(edit(text, changes))
    return shader


def _asked(stream: TokenStream) -> Iterator[str]:
    """The function constants that the shader does without."""
    for index in range(len(stream.tokens)):
        if stream.matches(index, "is_function_constant_defined", "("):
            yield stream.text(stream.pairs[index + 1] - 1)


class _Declarations:
    """Walks the declarations of all namespaces."""

    def __init__(self, stream: TokenStream, shader: Shader) -> None:
        self._stream = stream
        self._tokens = stream.tokens
        self._pairs = stream.pairs
        self._types = TypeReader(stream, shader)
        self._kernels = KernelReader(stream, shader)
        self._scope: tuple[str, ...] = ()

    def read(self, index: int, end: int) -> None:
        """Reads the declarations in tokens[index:end]."""
        while index < end:
            index = max(self._declaration(index, end), index + 1)

    def _declaration(self, index: int, end: int) -> int:
        text = self._tokens[index].text
        if text in (";", "}", ")", "]"):
            return index + 1
        if text == "namespace" or self._stream.matches(index, "inline", "namespace"):
            return self._namespace(index)
        if text == "extern" and self._stream.matches(index + 2, "{"):
            self.read(index + 3, self._pairs[index + 2])
            return self._pairs[index + 2] + 1
        start, template, instantiation = index, "", False
        while self._stream.matches(index, "template"):
            if self._stream.matches(index + 1, "<"):
                close = self._stream.angle_end(index + 1)
                if close > index + 2:
                    template = self._stream.join(index, close + 1)
                index = close + 1
            else:
                index, instantiation = index + 1, True
        stop = self._stream.extent(index, end)
        first = self._tokens[index].text if index < end else ""
        if first in ("struct", "class", "union", "enum") or (
            first == "typedef" and self._tokens[index + 1].text in ("struct", "enum", "union")
        ):
            self._types.read(index, stop, self._scope)
        if first not in ("using", "typedef", "static_assert", "friend"):
            self._kernels.read(start, index, stop, template, instantiation, self._scope)
        return stop

    def _namespace(self, index: int) -> int:
        opener = index
        while opener < len(self._tokens) and self._tokens[opener].text not in ("{", ";"):
            opener += 1
        if not self._stream.matches(opener, "{"):
            return opener + 1
        names = [
            token.text
            for token in self._tokens[index:opener]
            if token.kind == "word" and token.text not in ("namespace", "inline")
        ]
        outside = self._scope
        self._scope = (*outside, *names)
        self.read(opener + 1, self._pairs[opener])
        self._scope = outside
        return self._pairs[opener] + 1
