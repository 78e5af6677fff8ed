"""Types among the declarations of a shader: the fields of structs, the values of enumerators."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from .constants import integer
from .stream import TokenStream
from .syntax import Shader, Struct

__all__ = ["TypeReader"]

# A member declaration with one of these is a function, a type, a bit-field or has no offset.
_NO_FIELD = frozenset("( : static using typedef friend struct union enum template".split())


class TypeReader:
    """Adds the structs and enumerators of a token stream to a shader."""

    def __init__(self, stream: TokenStream, shader: Shader) -> None:
        self._stream = stream
        self._tokens = stream.tokens
        self._pairs = stream.pairs
        self._shader = shader

    def read(self, index: int, stop: int, scope: tuple[str, ...]) -> None:
        """Reads the declaration at tokens[index:stop], in the namespaces of `scope`."""
        opener = index
        while opener < stop and self._tokens[opener].text not in ("{", "(", ";", "="):
            opener = self._pairs.get(opener, opener) + 1 if self._stream.matches(opener, "[") else opener + 1
        if opener >= stop or not self._stream.matches(opener, "{"):
            return
        heads = self._tokens[index:opener]
        close = self._pairs[opener]
        if any(token.text == "enum" for token in heads):
            self._enumerators(opener + 1, close)
            return
        if not any(token.text == "struct" for token in heads):
            return
        names: list[str] = []
        for token in heads:
            if token.text in (":", "<"):
                break
            if token.kind == "word" and token.text not in ("typedef", "struct", "final"):
                names = [token.text]
        names += [token.text for token in self._tokens[close + 1 : stop] if token.kind == "word"]
        found = list(self._fields(opener + 1, close))
        fields, ids = tuple(name for name, _ in found), tuple(id for _, id in found)
        types = {token.text for token in self._tokens[opener + 1 : close] if token.kind == "word"} - set(fields)
        known = {struct.name: struct for struct in self._shader.structs.values()}
        types |= {word for inner in types & known.keys() for word in known[inner].types}
        encoded = any(token.text == "*" for token in self._tokens[opener + 1 : close]) or any(
            id is not None for id in ids
        )
        for name in names:
            key = (*scope, name)
            self._shader.structs[key] = Struct(name, scope, fields, frozenset(types), ids, encoded)

    def _fields(self, index: int, end: int) -> Iterator[tuple[str, int | None]]:
        """Names and ids of the plain public data members of a struct."""
        public = True
        while index < end:
            if self._stream.matches(index + 1, ":") and self._tokens[index].text in ("public", "private", "protected"):
                public = self._tokens[index].text == "public"
                index += 2
                continue
            stop = self._stream.extent(index, end)
            plain, id = self._without_attributes(index, stop)
            if public and _NO_FIELD.isdisjoint(self._tokens[position].text for position in plain):
                yield from ((name, id) for name in self._declared_fields(plain))
            index = stop

    def _without_attributes(self, index: int, stop: int) -> tuple[list[int], int | None]:
        """The tokens of a declaration that stand outside [[...]], and the n of [[id(n)]]."""
        plain: list[int] = []
        id = None
        while index < stop:
            if not self._stream.opens_attribute(index):
                plain.append(index)
                index += 1
                continue
            for attribute in self._stream.attributes(index):
                if attribute.name == "id":
                    id = integer(attribute.argument or "", self._shader.enumerators)
            index = self._pairs[index] + 1
        return plain, id

    def _declared_fields(self, plain: list[int]) -> Iterator[str]:
        depth = 0
        for before, position in itertools.pairwise(plain):
            text = self._tokens[position].text
            depth += (text == "<") - (text == ">")
            if depth == 0 and text in (";", ",", "[", "=", "{"):
                if self._tokens[before].kind == "word":
                    yield self._tokens[before].text
                if text in ("=", "{"):
                    return

    def _enumerators(self, index: int, end: int) -> None:
        """Adds the enumerators up to the first whose value is no constant that this compiler can work out."""
        value: int | None = 0
        while index < end:
            name = self._tokens[index].text
            stop = index
            while stop < end and self._tokens[stop].text != ",":
                stop = self._pairs.get(stop, stop) + 1 if self._tokens[stop].text in "([{" else stop + 1
            if self._stream.matches(index + 1, "="):
                value = integer(self._stream.join(index + 2, stop), self._shader.enumerators)
            if value is None:
                return
            self._shader.enumerators[name] = value
            value, index = value + 1, stop + 1
