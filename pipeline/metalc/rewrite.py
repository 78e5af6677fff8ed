"""The parts of the language that C++ writes otherwise, as edits of the text.

Overloads that differ in address spaces alone become one here; spelling.py, anonymous.py and function_constants.py have
the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .anonymous import AnonymousStructs
from .constant_functions import ConstantFunctions
from .edits import Change, Edits
from .function_constants import FunctionConstants
from .loops import Loops
from .places import Function, Places
from .spelling import Spelling
from .stream import TokenStream
from .syntax import Shader
from .tokens import Token

__all__ = ["rewrite"]

_SPACES = frozenset(
    ("device", "constant", "threadgroup", "thread", "threadgroup_imageblock", "ray_data", "object_data")
)
_TYPES = ("struct", "class", "union")
_FUNDAMENTAL = ("float", "int", "uint", "bool", "half", "char", "short", "long", "unsigned", "signed")


def rewrite(stream: TokenStream, shader: Shader, instantiate: bool = True, turns: bool = False) -> list[Change]:
    """The changes of a shader's text. Function constants are added to the shader. Without `instantiate`, explicit
    instantiations are left out: only templates that something uses are compiled. With `turns`, loops count theirs,
    and statements have numbers."""
    edits = Edits(stream)
    constants = FunctionConstants(edits, shader)
    declarations = _Declarations(edits, constants, instantiate)
    declarations.run()
    if turns:
        places = Places(edits, declarations.functions, declarations.constant_bodies)
        Loops(edits, places, places.constant).run()
        places.run()
    Spelling(edits, shader).run()
    constants.flags()
    return edits.changes


class _Declarations:
    """Walks the declarations of namespaces and types, and drops those that C++ would find twice."""

    def __init__(self, edits: Edits, constants: FunctionConstants, instantiate: bool) -> None:
        self._edits = edits
        self._instantiate = instantiate
        self._stream = edits.stream
        self._constants = constants
        self._anonymous = AnonymousStructs(edits)
        self._constant_functions = ConstantFunctions(edits)
        self._seen: dict[tuple[object, ...], tuple[str, ...]] = {}
        # (parameter types, end) of the functions of one name in one scope
        self._overloads: dict[tuple[tuple[str, ...], str], list[tuple[tuple[tuple[str, ...], ...], int]]] = {}
        self._types: set[tuple[str, ...]] = set()  # the paths that are types

    @property
    def functions(self) -> list[Function]:
        """All functions with a body."""
        return self._constant_functions.all

    @property
    def constant_bodies(self) -> list[tuple[int, int]]:
        """The brackets around the bodies of constexpr functions."""
        return self._constant_functions.bodies

    def run(self) -> None:
        """Makes all changes."""
        self._walk(0, len(self._stream.tokens), ())
        self._promotions()
        self._constant_functions.run()

    def _walk(self, index: int, end: int, path: tuple[str, ...]) -> None:
        """Walks the declarations of a namespace or of the body of a type."""
        while index < end:
            index = max(self._declaration(index, end, path), index + 1)

    def _declaration(self, index: int, end: int, path: tuple[str, ...]) -> int:
        text = self._stream.text(index)
        if text in (";", "}", ")", "]"):
            return index + 1
        if text in ("public", "private", "protected") and self._stream.text(index + 1) == ":":
            return index + 2
        if text == "namespace" or (text == "inline" and self._stream.text(index + 1) == "namespace"):
            return self._namespace(index, end, path)
        if text == "extern" and self._stream.text(index + 2) == "{":
            self._walk(index + 3, self._stream.pairs[index + 2], path)
            return self._stream.pairs[index + 2] + 1
        start = index
        while self._stream.text(index) == "template":
            if self._stream.text(index + 1) != "<":  # an explicit instantiation
                stop = self._stream.extent(index, end)
                if not self._instantiate:
                    self._edits.replace(start, stop - 1)
                return stop
            index = self._stream.angle_end(index + 1) + 1
        stop = self._stream.extent(index, end)
        while index < stop and self._stream.opens_attribute(index):
            index = self._stream.pairs[index] + 1
        if self._stream.text(index) in ("vertex", "fragment") and self._stream.tokens[index + 1].kind == "word":
            self._edits.replace(index, index)
        if self._stream.text(index) in _TYPES or (
            self._stream.text(index) == "typedef" and self._stream.text(index + 1) in _TYPES
        ):
            self._type(start, index, stop, path)
        elif self._stream.text(index) not in ("using", "typedef", "static_assert", "enum"):
            if not self._function(start, index, stop, path):
                self._constants.read(index, stop, path)
        return stop

    def _namespace(self, index: int, end: int, path: tuple[str, ...]) -> int:
        opener = index
        while opener < end and self._stream.text(opener) not in ("{", ";"):
            opener += 1
        if self._stream.text(opener) != "{":
            return opener + 1
        close = self._stream.pairs[opener]
        words = (token.text for token in self._stream.tokens[index:opener] if token.kind == "word")
        names = tuple(word for word in words if word not in ("namespace", "inline"))
        self._walk(opener + 1, close, (*path, *names))
        return close + 1

    def _type(self, start: int, index: int, stop: int, path: tuple[str, ...]) -> None:
        opener, colon = index, None
        while opener < stop and self._stream.text(opener) not in ("{", "(", ";", "="):
            if self._stream.text(opener) == ":" and colon is None:
                colon = opener
            opener = self._stream.pairs[opener] + 1 if self._stream.opens_attribute(opener) else opener + 1
        if self._stream.text(opener) != "{":
            return
        head = self._stream.tokens[start : opener if colon is None else colon]
        if self._duplicate(("type", path), head, [token.text for token in head], start, stop):
            return
        if start == index:
            self._anonymous.edit(index, opener, stop)
        names = [t.text for t in self._stream.tokens[index : opener if colon is None else colon] if t.kind == "word"]
        names = [name for name in names if name not in (*_TYPES, "typedef", "final")]
        path = (*path, names[0] if names else "")
        self._types.add(path)
        self._walk(opener + 1, self._stream.pairs[opener], path)

    def _function(self, start: int, index: int, stop: int, path: tuple[str, ...]) -> bool:
        """Whether this is a function; drops it where only address spaces tell it from an earlier one."""
        opener = self._parameters_of(index, stop)
        if opener is None:
            return False
        if path in self._types and index == start + 3 and self._stream.text(start + 2) == ">":
            self._edits.replace(start, start + 2)  # template <> in a type: an overload does
        close = self._stream.pairs[opener]
        name = self._stream.text(opener - 1)
        tail = close + 1
        while tail < stop and self._stream.text(tail) not in ("{", ":", ";", "=", "->"):
            tail += 1
        trailing = range(close + 1, tail)
        qualifiers = {self._stream.text(position) for position in trailing}
        for position in trailing:
            if self._stream.text(position) == "constant" and ("const" in qualifiers or name in path[-1:]):
                self._edits.replace(position, position)
        if self._stream.text(tail) == ";" and path not in self._types:
            return True  # a forward declaration
        types = [self._parameter(*span) for span in self._parameters(opener)]
        first = self._name_start(opener, index)
        self._constant_functions.add(
            index, first, tail, stop, template=start != index, constructor=name in path[-1:] and first == opener - 1
        )
        key = (
            "function",
            path,
            self._stream.join(start, index),
            self._stream.join(first, opener),
            *map(_plain, types),
            name not in path[-1:] and bool(qualifiers & {"const", "constant"}),
        )
        words = [*(word for type_words in types for word in (*type_words, ",")), *sorted(qualifiers)]
        if not self._duplicate(key, (), words, start, stop) and start == index and path not in self._types:
            self._overloads.setdefault((path, name), []).append((tuple(map(_plain, types)), stop))
        return True

    def _promotions(self) -> None:
        """Adds f(half) where f(float) stands beside f(complex): half turns into float before it turns into a class."""
        for (_, name), found in self._overloads.items():
            kinds = {types for types, _ in found}
            for types, stop in found:
                halves = tuple(("half",) for _ in types)
                if types and len(kinds) > 1 and set(types) == {("float",)} and halves not in kinds:
                    parameters = ", ".join(f"metal::half a{k}" for k in range(len(types)))
                    values = ", ".join(f"float(a{k})" for k in range(len(types)))
                    self._edits.insert_behind(
                        stop - 1, f" inline auto {name}({parameters}) {{ return {name}({values}); }}"
                    )

    def _parameters_of(self, index: int, stop: int) -> int | None:
        """The parenthesis that opens the parameters of the function declared here."""
        while index < stop:
            text = self._stream.text(index)
            if text == "operator":
                index += 1
                while index < stop and (self._stream.text(index) != "(" or self._stream.text(index + 2) == "("):
                    index += 2 if self._stream.text(index) == "(" else 1
                return index if index < stop else None
            if text == "(":
                if self._stream.text(index - 1) in ("__attribute__", "alignas", "decltype", "noexcept", "explicit"):
                    index = self._stream.pairs[index]
                else:
                    return (
                        index
                        if self._stream.tokens[index - 1].kind == "word" or self._stream.text(index - 1) == ">"
                        else None
                    )
            elif text in ("=", "{", ";"):
                return None
            elif text == "<":
                index = self._stream.angle_end(index)
            elif text == "[":
                index = self._stream.pairs[index]
            index += 1
        return None

    def _name_start(self, opener: int, index: int) -> int:
        """Where the name before a parameter list begins, which is behind its result type."""
        for position in range(opener - 1, index, -1):
            if self._stream.text(position) == "operator":
                return position
        return opener - 1

    def _words(self, start: int, end: int) -> str:
        return " ".join(token.text for token in self._stream.tokens[start:end])

    def _parameters(self, opener: int) -> Iterator[tuple[int, int]]:
        """(first, end) of each parameter."""
        index, end = opener + 1, self._stream.pairs[opener]
        while index < end:
            start, depth = index, 0
            while index < end and not (depth == 0 and self._stream.text(index) == ","):
                depth += (self._stream.text(index) == "<") - (self._stream.text(index) == ">")
                index = self._stream.pairs[index] + 1 if self._stream.text(index) in ("(", "[", "{") else index + 1
            yield start, index
            index += 1

    def _parameter(self, start: int, end: int) -> list[str]:
        """The words of a parameter's type."""
        words: list[str] = []
        index, depth = start, 0
        name: int | None = None
        while index < end and self._stream.text(index) != "=":
            if self._stream.opens_attribute(index):
                index = self._stream.pairs[index] + 1
                continue
            text = self._stream.text(index)
            depth += (text in ("<", "[", "(")) - (text in (">", "]", ")"))
            plain = [word for word in words if word not in _SPACES and word not in ("const", "volatile")]
            if (
                depth == 0
                and self._stream.tokens[index].kind == "word"
                and plain
                and plain[-1] not in ("::", "typename")
            ):
                if text not in (*_SPACES, *_FUNDAMENTAL, "const", "volatile"):
                    name = len(words)
            words.append(text)
            index += 1
        if name is not None:
            del words[name]
        return words

    def _duplicate(
        self, key: tuple[object, ...], head: Sequence[Token], words: list[str], start: int, stop: int
    ) -> bool:
        """Drops the declaration if one with the same key, but other address spaces, came before."""
        if head:
            key = (*key, *_plain([token.text for token in head]))
        earlier = self._seen.setdefault(key, tuple(words))
        if earlier == tuple(words) or _SPACES.isdisjoint((*earlier, *words)):
            return False
        self._edits.replace(start, stop - 1)
        return True


def _plain(words: list[str]) -> tuple[str, ...]:
    """A type without address spaces, const first."""
    plain = ["const" if word == "constant" else word for word in words if word == "constant" or word not in _SPACES]
    stop = next((position for position, word in enumerate(plain) if word in ("*", "&")), len(plain))
    head = [word for word in plain[:stop] if word != "const"]
    return (*(["const"] if "const" in plain[:stop] else []), *head, *plain[stop:])
