"""Kernels among the functions of a shader: their names, parameters, attributes and threadgroup arrays."""

from __future__ import annotations

from collections.abc import Iterator

from .stream import NOT_CALLS, TokenStream
from .syntax import Attribute, KernelDeclaration, Parameter, Shader
from .threadgroup import without_values
from .tokens import Token

__all__ = ["KernelReader"]


class KernelReader:
    """Adds the kernels of a token stream to a shader."""

    def __init__(self, stream: TokenStream, shader: Shader) -> None:
        self._stream = stream
        self._tokens = stream.tokens
        self._pairs = stream.pairs
        self._shader = shader

    def read(
        self, start: int, index: int, stop: int, template: str, instantiation: bool, scope: tuple[str, ...]
    ) -> None:
        """Reads the declaration at tokens[start:stop].

        Args:
            index: where it goes on behind `template <...>`.
            template: the words of that, empty where there are none.
            instantiation: whether it is an explicit instantiation of a template.
            scope: the namespaces around it.
        """
        attributes: list[Attribute] = []
        opener: int | None = None
        kernel = False
        position = start
        while position < stop and not self._stream.matches(position, "{"):
            if self._stream.opens_attribute(position):
                attributes += self._stream.attributes(position)
                position = self._pairs[position] + 1
            elif self._stream.matches(position, "(") and position in self._pairs:
                before = self._tokens[position - 1]
                named = before.kind == "word" or before.text == ">"  # else a cast in template arguments
                if opener is None and named and before.text not in NOT_CALLS:
                    opener = position
                position = self._pairs[position] + 1
            elif self._stream.matches(position, "template", "<"):
                position = self._stream.angle_end(position + 1) + 1
            else:
                kernel = kernel or self._stream.matches(position, "kernel")
                position += 1
        kernel = kernel or any(attribute.name == "kernel" for attribute in attributes)
        if not kernel and not instantiation:
            return
        last = opener if opener is not None else stop - 1
        name_at = self._stream.angle_start(last - 1) - 1 if self._stream.matches(last - 1, ">") else last - 1
        while name_at > start + 1 and self._stream.matches(name_at - 1, "::"):
            name_at -= 2
        if name_at < start or self._tokens[name_at].kind != "word":
            return
        name = self._stream.join(name_at, last)
        if instantiation and not kernel and not self._names_kernel(name):
            return
        body = position if self._stream.matches(position, "{") and not instantiation else None
        if not instantiation and body is None:
            return  # a forward declaration
        self._shader.kernels.append(
            KernelDeclaration(
                name=name,
                scope=scope,
                template=template,
                instantiation=instantiation,
                result=self._result(index, name_at),
                parameters=None if opener is None else tuple(self._parameters(opener)),
                attributes=tuple(attributes),
                threadgroup_arrays=() if body is None else tuple(self._threadgroup_arrays(body)),
                file=self._tokens[name_at].file,
                line=self._tokens[name_at].line,
            )
        )

    def _names_kernel(self, name: str) -> bool:
        base = name.split("<", 1)[0].split("::")[-1].strip()
        return any(kernel.base_name == base for kernel in self._shader.kernels)

    def _result(self, index: int, end: int) -> str:
        words = []
        while index < end:
            if self._stream.matches(index, "[") and index in self._pairs:
                index = self._pairs[index]
            elif self._tokens[index].text not in ("kernel", "static", "inline", "constexpr", "METAL_FUNC"):
                words.append(self._tokens[index].text)
            index += 1
        return " ".join(words)

    def _parameters(self, opener: int) -> Iterator[Parameter]:
        index, end = opener + 1, self._pairs[opener]
        while index < end:
            start, depth = index, 0
            while index < end and not (depth == 0 and self._stream.matches(index, ",")):
                text = self._tokens[index].text
                depth += (text == "<") - (text == ">")
                index = self._pairs.get(index, index) + 1 if text in "([{" else index + 1
            if not (self._stream.matches(start, "void") and index == start + 1):
                yield self._parameter(start, index)
            index += 1

    def _parameter(self, start: int, end: int) -> Parameter:
        attributes: list[Attribute] = []
        plain: list[Token] = []
        index = start
        while index < end:
            if self._stream.opens_attribute(index):
                attributes += self._stream.attributes(index)
                index = self._pairs[index] + 1
            else:
                plain.append(self._tokens[index])
                index += 1
        named = _declared_name(plain)
        text = " ".join(token.text for position, token in enumerate(plain) if position != named)
        token = self._tokens[start] if named is None else plain[named]
        name = "" if named is None else token.text
        return Parameter(name, text, tuple(attributes), token.file, token.line)

    def _threadgroup_arrays(self, body: int) -> Iterator[str]:
        """The type of each array declared as `threadgroup T name[N]` in a body."""
        end = self._pairs[body]
        for index in range(body, end):
            if self._stream.matches(index, "threadgroup") and self._tokens[index - 1].text in ("{", "}", ";"):
                stop = index
                while stop < end and not self._stream.matches(stop, ";"):
                    stop += 1
                found = self._tokens[index + 1 : stop]
                plain = [found[position] for position in without_values([token.text for token in found])]
                named = _declared_name(plain[: _comma(plain)])
                words = {token.text for token in plain}
                # A pointer is not counted, nor an array whose size depends on a local name.
                if named is not None and words.isdisjoint("*&") and not self._local(words, body, index):
                    base = " ".join(token.text for token in plain[:named])
                    for extents in _extents(plain[named:]):
                        yield base + extents

    def _local(self, words: set[str], body: int, end: int) -> bool:
        """Whether one of the words is declared between body and end."""
        return any(
            self._tokens[index].text in words
            and self._tokens[index - 1].kind == "word"
            and self._tokens[index + 1].text in ("=", "{", ";")
            for index in range(body + 1, end)
        )


def _comma(tokens: list[Token]) -> int:
    """Position of the first comma outside brackets, or the length."""
    depth = 0
    for position, token in enumerate(tokens):
        if depth == 0 and token.text == ",":
            return position
        depth += (token.text in ("[", "(", "<")) - (token.text in ("]", ")", ">"))
    return len(tokens)


def _extents(declarators: list[Token]) -> Iterator[str]:
    """The [..] part of each of the declarators `a[2], b[3][4]`."""
    depth, text = 0, ""
    for token in declarators[1:]:
        if depth == 0 and token.text == ",":
            yield text
            text = ""
        elif depth or token.text == "[":
            text += token.text
        depth += (token.text == "[") - (token.text == "]")
    yield text


def _declared_name(tokens: list[Token]) -> int | None:
    """Position of the declared name: the last word outside brackets, if a type precedes it."""
    depth, found = 0, None
    for position, token in enumerate(tokens):
        if token.text in "[(<" and token.text != "":
            depth += 1
        elif token.text in "])>":
            depth -= 1
        elif depth == 0 and token.kind == "word" and position > 0:
            found = position
    if found is not None and tokens[found].text in ("float", "int", "uint", "const", "bool", "half"):
        return None
    return found
