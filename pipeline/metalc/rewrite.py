"""What C++ must not see: the parts of the language that are written otherwise in C++, as edits of the text.

Attributes go, swizzles become calls, overloads that differ in address spaces alone become one, and function
constants become variables of the thread.
"""

import re

from .constants import integer
from .errors import at
from .syntax import FunctionConstant

_SWIZZLE = re.compile("[xyzw]{2,4}|[rgba]{2,4}")
_DECIMAL = r"(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|0[xX][0-9a-fA-F.]+[pP][+-]?\d+"
_FLOAT = re.compile(rf"(?P<value>{_DECIMAL})(?P<suffix>[hH]|bf|BF)?")
_SPACES = frozenset(
    ("device", "constant", "threadgroup", "thread", "threadgroup_imageblock", "ray_data", "object_data")
)
_STOPS = frozenset("* & , ( ) ; { } = < >".split())
_TYPES = ("struct", "class", "union")
_FUNDAMENTAL = ("float", "int", "uint", "bool", "half", "char", "short", "long", "unsigned", "signed")


class Rewriter:
    """Collects (start, end, replacement) over the tokens of one parser."""

    def __init__(self, parser):
        self._tokens = parser.tokens
        self._pairs = parser.pairs
        self._shader = parser.shader
        self._parser = parser
        self._edits = []
        self._seen: dict[tuple, tuple] = {}
        self._overloads: dict[tuple, list] = {}  # (parameter types, end) of functions of one name
        self._types: set[tuple[str, ...]] = set()  # the paths that are types

    def edits(self) -> list[tuple[int, int, str | None]]:
        self._walk(0, len(self._tokens), ())
        self._promotions()
        self._attributes()
        self._doubled_const()
        self._swizzles()
        self._defined()
        self._literals()
        self._ranges()
        self._global()
        return self._edits

    # -- tokens -------------------------------------------------------------------------------------

    def _text(self, index: int) -> str:
        return self._tokens[index].text if 0 <= index < len(self._tokens) else ""

    def _replace(self, first: int, last: int, text: str | None = None) -> None:
        self._edits.append((self._tokens[first].start, self._tokens[last].end, text))

    def _insert(self, index: int, text: str) -> None:
        self._edits.append((self._tokens[index].start, self._tokens[index].start, text))

    def _insert_behind(self, index: int, text: str) -> None:
        self._edits.append((self._tokens[index].end, self._tokens[index].end, text))

    def _attributes(self) -> None:
        for index in range(len(self._tokens) - 1):
            if self._parser._opens_attribute(index):
                self._replace(index, self._pairs[index])

    def _doubled_const(self) -> None:
        """`constant` means const in C++, where the word may not stand twice."""
        earlier = None  # among the specifiers before a declarator
        for index, token in enumerate(self._tokens):
            if token.text in _STOPS:
                earlier = None
            elif token.text in ("const", "constant"):
                if earlier is not None:
                    self._replace(*(index, index) if token.text == "constant" else (earlier, earlier))
                earlier = index

    def _swizzles(self) -> None:
        """v.xz becomes a call, which C++ can express; names of the shader's own fields are left alone."""
        fields = {name for struct in self._shader.structs.values() for name in struct.fields}
        chain = False  # whether an assigned swizzle stands right before
        for index in range(1, len(self._tokens)):
            word = self._text(index)
            if self._text(index - 1) not in (".", "->"):
                chain = chain and word in (".", "->")
            elif _SWIZZLE.fullmatch(word) and word not in fields:
                order = "xyzw" if word[0] in "xyzw" else "rgba"
                indices = ", ".join(str(order.index(letter)) for letter in word)
                chain = self._assigned(index + 1)
                self._replace(index, index, f"template {'swizzle' if chain else 'components'}<{indices}>()")
            elif chain and len(word) == 1 and word in "xyzwrgba":
                self._replace(index - 1, index, f"[{max('xyzw'.find(word), 'rgba'.find(word))}]")
                chain = False

    def _assigned(self, index: int) -> bool:
        """Whether the expression that ends before index is assigned to."""
        while self._text(index) in (".", "->", "["):
            index = self._pairs[index] + 1 if self._text(index) == "[" else index + 2
        sign, following = self._text(index), "".join(self._text(index + k) for k in (1, 2))
        if sign in ("=", "++", "--"):
            return True
        if sign in ("<", ">"):
            return following.startswith(("<=", ">="))
        return (
            sign in ("+", "-", "*", "/", "%", "&", "|", "^")
            and following.startswith("=")
            and (self._tokens[index].end == self._tokens[index + 1].start and not following.startswith("=="))
        )

    def _defined(self) -> None:
        """is_function_constant_defined(name) becomes the flag that stands beside the constant."""
        for index in range(len(self._tokens) - 3):
            if self._text(index) == "is_function_constant_defined" and self._text(index + 1) == "(":
                close = self._pairs[index + 1]
                first = index - 2 if self._text(index - 1) == "::" and self._text(index - 2) == "metal" else index
                self._replace(first, close, f"metallib_defined_{self._text(close - 1)}")

    def _literals(self) -> None:
        """There is no double: 1.0 is a float, and 1.0h and 1.0bf have 16 bits."""
        for index, token in enumerate(self._tokens):
            found = _FLOAT.fullmatch(token.text) if token.kind == "number" else None
            if found and not found["suffix"]:
                self._edits.append((token.end, token.end, "f"))
            elif found:
                kind = "half" if found["suffix"] in "hH" else "bfloat"
                self._replace(index, index, f"metal::{kind}({found['value']}f)")

    def _ranges(self) -> None:
        """T a[N] = {[0 ... N - 1] = x} becomes a declaration and a call."""
        for index in range(len(self._tokens) - 2):
            if self._text(index) != "=" or self._text(index + 1) != "{" or self._text(index + 2) != "[":
                continue
            close, last = self._pairs[index + 2], self._pairs[index + 1]
            dots = next((k for k in range(index + 3, close) if self._text(k) == "..."), None)
            if dots is None or self._text(close + 1) != "=" or self._text(index - 1) != "]":
                continue
            name = self._text(self._pairs[index - 1] - 1)
            first, end = self._words(index + 3, dots), self._words(dots + 1, close)
            value = self._words(close + 2, last)
            self._replace(index, last, f"; metal::metal_detail::fill({name}, {first}, {end}, {value})")

    def _global(self) -> None:
        """::name is a name of the shader's own outermost scope."""
        for index in range(1, len(self._tokens) - 1):
            before = self._tokens[index - 1]
            if self._text(index) == "::" and before.kind != "word" and before.text not in (">", ")"):
                self._replace(index, index)

    # -- declarations -------------------------------------------------------------------------------

    def _walk(self, index: int, end: int, path: tuple[str, ...]) -> None:
        """Declarations of a namespace or of the body of a type."""
        while index < end:
            index = max(self._declaration(index, end, path), index + 1)

    def _declaration(self, index: int, end: int, path) -> int:
        text = self._text(index)
        if text in (";", "}", ")", "]"):
            return index + 1
        if text in ("public", "private", "protected") and self._text(index + 1) == ":":
            return index + 2
        if text == "namespace" or (text == "inline" and self._text(index + 1) == "namespace"):
            return self._namespace(index, end, path)
        if text == "extern" and self._text(index + 2) == "{":
            self._walk(index + 3, self._pairs[index + 2], path)
            return self._pairs[index + 2] + 1
        start = index
        while self._text(index) == "template":
            if self._text(index + 1) != "<":
                return self._parser._extent(index, end)  # an explicit instantiation
            index = self._parser._angle_end(index + 1) + 1
        stop = self._parser._extent(index, end)
        while index < stop and self._parser._opens_attribute(index):
            index = self._pairs[index] + 1
        if self._text(index) in ("vertex", "fragment") and self._tokens[index + 1].kind == "word":
            self._replace(index, index)
        if self._text(index) in _TYPES or (self._text(index) == "typedef" and self._text(index + 1) in _TYPES):
            self._type(start, index, stop, path)
        elif self._text(index) not in ("using", "typedef", "static_assert", "enum"):
            self._function(start, index, stop, path) or self._variable(index, stop, path)
        return stop

    def _namespace(self, index: int, end: int, path) -> int:
        opener = index
        while opener < end and self._text(opener) not in ("{", ";"):
            opener += 1
        if self._text(opener) != "{":
            return opener + 1
        close = self._pairs[opener]
        words = (token.text for token in self._tokens[index:opener] if token.kind == "word")
        names = tuple(word for word in words if word not in ("namespace", "inline"))
        self._walk(opener + 1, close, (*path, *names))
        return close + 1

    def _type(self, start: int, index: int, stop: int, path) -> None:
        opener, colon = index, None
        while opener < stop and self._text(opener) not in ("{", "(", ";", "="):
            if self._text(opener) == ":" and colon is None:
                colon = opener
            opener = self._pairs[opener] + 1 if self._parser._opens_attribute(opener) else opener + 1
        if self._text(opener) != "{":
            return
        head = self._tokens[start : opener if colon is None else colon]
        if self._duplicate(("type", path), head, [token.text for token in head], start, stop):
            return
        if start == index:
            self._anonymous(index, opener, stop)
        names = [t.text for t in self._tokens[index : opener if colon is None else colon] if t.kind == "word"]
        names = [name for name in names if name not in (*_TYPES, "typedef", "final")]
        path = (*path, names[0] if names else "")
        self._types.add(path)
        self._walk(opener + 1, self._pairs[opener], path)

    def _anonymous(self, index: int, opener: int, stop: int) -> None:
        """A type with anonymous structs becomes a template: C++ allows no half in them else."""
        close, found = self._pairs[opener], False
        for position in range(opener + 1, close):
            if self._text(position) == "struct" and self._text(position + 1) == "{":
                end = self._pairs[position + 1]
                if self._text(end + 1) == ";":
                    found = True
                    self._dependent(position + 2, end)
        if not found:
            return
        typedef = self._text(index) == "typedef"
        word = index + typedef  # struct or union
        tag = self._tokens[opener - 1] if opener - 1 > word else None
        name = self._text(close + 1) if typedef else tag.text if tag else ""
        if not name or name == ";":
            return
        self._replace(index, index, f"template <typename metallib_T>{'' if typedef else ' ' + self._text(index)}")
        if tag:
            self._replace(opener - 1, opener - 1, f"{name}_metallib_of")
        else:
            self._insert(opener, f"{name}_metallib_of ")
        self._replace(close + 1, stop - 1, f"; typedef {name}_metallib_of<void> {name};")

    def _dependent(self, index: int, end: int) -> None:
        """Members of an anonymous struct: their types come to depend on the template's parameter."""
        while index < end:
            stop = self._parser._extent(index, end)
            name = index
            while name < stop and self._text(name) not in ("[", ",", ";", "=", "{"):
                name = self._parser._angle_end(name) + 1 if self._text(name) == "<" else name + 1
            if name - 1 > index and self._text(index) not in (*_TYPES, "enum"):
                self._insert(index, "typename metal::metal_detail::dependent<metallib_T, ")
                self._insert(name - 1, ">::type ")
            index = stop

    def _function(self, start: int, index: int, stop: int, path) -> bool:
        """Whether this is a function; drops it where only address spaces tell it from an earlier one."""
        opener = self._parameters_of(index, stop)
        if opener is None:
            return False
        if path in self._types and index == start + 3 and self._text(start + 2) == ">":
            self._replace(start, start + 2)  # template <> in a type: an overload does
        close = self._pairs[opener]
        name = self._text(opener - 1)
        tail = close + 1
        while tail < stop and self._text(tail) not in ("{", ":", ";", "=", "->"):
            tail += 1
        trailing = range(close + 1, tail)
        qualifiers = {self._text(position) for position in trailing}
        for position in trailing:
            if self._text(position) == "constant" and ("const" in qualifiers or name in path[-1:]):
                self._replace(position, position)
        if self._text(tail) == ";" and path not in self._types:
            return True  # a forward declaration
        types = [self._parameter(*span) for span in self._parameters(opener)]
        first = self._name_start(opener, index)
        key = (
            "function",
            path,
            self._words(start, index),
            self._words(first, opener),
            *map(_plain, types),
            name not in path[-1:] and bool(qualifiers & {"const", "constant"}),
        )
        words = [*(word for type_words in types for word in (*type_words, ",")), *sorted(qualifiers)]
        if not self._duplicate(key, (), words, start, stop) and start == index and path not in self._types:
            self._overloads.setdefault((path, name), []).append((tuple(map(_plain, types)), stop))
        return True

    def _promotions(self) -> None:
        """half turns into float before it turns into a class: f(float) beside f(complex) serves it."""
        for (_, name), found in self._overloads.items():
            kinds = {types for types, _ in found}
            for types, stop in found:
                halves = tuple(("half",) for _ in types)
                if types and len(kinds) > 1 and set(types) == {("float",)} and halves not in kinds:
                    parameters = ", ".join(f"metal::half a{k}" for k in range(len(types)))
                    values = ", ".join(f"float(a{k})" for k in range(len(types)))
                    self._insert_behind(stop - 1, f" inline auto {name}({parameters}) {{ return {name}({values}); }}")

    def _parameters_of(self, index: int, stop: int) -> int | None:
        """The parenthesis that opens the parameters of the function declared here."""
        while index < stop:
            text = self._text(index)
            if text == "operator":
                index += 1
                while index < stop and (self._text(index) != "(" or self._text(index + 2) == "("):
                    index += 2 if self._text(index) == "(" else 1
                return index if index < stop else None
            if text == "(":
                if self._text(index - 1) in ("__attribute__", "alignas", "decltype", "noexcept", "explicit"):
                    index = self._pairs[index]
                else:
                    return index if self._tokens[index - 1].kind == "word" or self._text(index - 1) == ">" else None
            elif text in ("=", "{", ";"):
                return None
            elif text == "<":
                index = self._parser._angle_end(index)
            elif text == "[":
                index = self._pairs[index]
            index += 1
        return None

    def _name_start(self, opener: int, index: int) -> int:
        """Where the name before a parameter list begins: after its result type."""
        for position in range(opener - 1, index, -1):
            if self._text(position) == "operator":
                return position
        return opener - 1

    def _words(self, start: int, end: int) -> str:
        return " ".join(token.text for token in self._tokens[start:end])

    def _parameters(self, opener: int):
        """(first, end) of each parameter."""
        index, end = opener + 1, self._pairs[opener]
        while index < end:
            start, depth = index, 0
            while index < end and not (depth == 0 and self._text(index) == ","):
                depth += (self._text(index) == "<") - (self._text(index) == ">")
                index = self._pairs[index] + 1 if self._text(index) in ("(", "[", "{") else index + 1
            yield start, index
            index += 1

    def _parameter(self, start: int, end: int) -> list[str]:
        """The words of a parameter's type."""
        words, index, depth = [], start, 0
        name = None
        while index < end and self._text(index) != "=":
            if self._parser._opens_attribute(index):
                index = self._pairs[index] + 1
                continue
            text = self._text(index)
            depth += (text in ("<", "[", "(")) - (text in (">", "]", ")"))
            plain = [word for word in words if word not in _SPACES and word not in ("const", "volatile")]
            if depth == 0 and self._tokens[index].kind == "word" and plain and plain[-1] not in ("::", "typename"):
                if text not in (*_SPACES, *_FUNDAMENTAL, "const", "volatile"):
                    name = len(words)
            words.append(text)
            index += 1
        if name is not None:
            del words[name]
        return words

    def _duplicate(self, key: tuple, head, words: list[str], start: int, stop: int) -> bool:
        """Drops the declaration if one with the same key, but other address spaces, came before."""
        if head:
            key = (*key, *_plain([token.text for token in head]))
        earlier = self._seen.setdefault(key, tuple(words))
        if earlier == tuple(words) or _SPACES.isdisjoint((*earlier, *words)):
            return False
        self._replace(start, stop - 1)
        return True

    # -- constants ----------------------------------------------------------------------------------

    def _variable(self, index: int, stop: int, path) -> None:
        """A function constant, or a constant that is computed from some."""
        position, equals, attribute = index, None, None
        while position < stop:
            if self._parser._opens_attribute(position):
                found = self._parser._attributes(position)
                attribute = next((a for a in found if a.name == "function_constant"), attribute)
                position = self._pairs[position]
            elif self._text(position) == "=" and equals is None:
                equals = position
            position += 1
        names = {constant.name for constant in self._shader.function_constants}
        if attribute is None:
            if equals is None or self._text(index) == "extern":
                return
            used = {token.text.removeprefix("metallib_defined_") for token in self._tokens[equals:stop]}
            if names.isdisjoint(used):
                return
        end = equals if equals is not None else stop - 1
        named = end - 1
        while named > index and (self._tokens[named].kind != "word" or self._text(named) == "function_constant"):
            named = self._pairs[named] - 1 if self._text(named) == "]" else named - 1
        token = self._tokens[named]
        for position in range(index, named):
            if self._text(position) in ("constant", "const", "constexpr", "static", "inline"):
                self._replace(position, position)
        self._insert(index, "thread_local ")
        number = integer(attribute.argument or "", self._shader.enumerators) if attribute else None
        if attribute is not None and number is None:
            raise at(
                token.file, token.line, f"the index of function constant '{token.text}' must be an integer constant"
            )
        self._shader.function_constants.append(
            FunctionConstant(token.text, path, number, attribute is None, token.file, token.line)
        )
        if attribute is not None:
            self._replace(stop - 1, stop - 1, f"; thread_local bool metallib_defined_{token.text};")
        else:
            self._insert(equals, f"; inline void metallib_derive_{token.text}() {{ {token.text} ")
            self._replace(stop - 1, stop - 1, "; }")


def _plain(words: list[str]) -> tuple[str, ...]:
    """A type without address spaces, const first."""
    plain = ["const" if word == "constant" else word for word in words if word == "constant" or word not in _SPACES]
    stop = next((position for position, word in enumerate(plain) if word in ("*", "&")), len(plain))
    head = [word for word in plain[:stop] if word != "const"]
    return (*(["const"] if "const" in plain[:stop] else []), *head, *plain[stop:])
