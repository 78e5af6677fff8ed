"""Parsing: finds kernels, structs and enumerators among the declarations of a preprocessed shader.

Only namespace scope is understood; bodies are skipped as matched braces. What this parser cannot make
sense of is left to the C++ compiler, which sees the same text.
"""

from . import conditional, threadgroup
from .constants import integer
from .rewrite import Rewriter
from .syntax import Attribute, KernelDeclaration, Parameter, Shader, Struct
from .tokens import Token, match_brackets, tokenize

_NOT_CALLS = ("decltype", "__attribute__", "alignas", "noexcept", "sizeof", "operator")
# A member declaration with one of these is a function, a type, a bit-field or has no offset.
_NO_FIELD = frozenset("( : static using typedef friend struct union enum template".split())


def edit(text: str, edits) -> str:
    """Text with (start, end, replacement) applied; a replacement of None leaves spaces, so columns stay."""
    parts, done = [], 0
    for start, end, replacement in sorted(edits, key=lambda change: change[:2]):
        if start < done:
            continue
        if replacement is None:
            replacement = "".join(c if c == "\n" else " " for c in text[start:end])
        parts += [text[done:start], replacement]
        done = end
    return "".join([*parts, text[done:]])


def parse(text: str, file: str) -> Shader:
    """Parses the output of the preprocessor."""
    return _Parser(text, file).run()


class _Parser:
    def __init__(self, text: str, file: str):
        self.tokens = tokenize(text, file)
        self.pairs = match_brackets(self.tokens)
        self.shader = Shader(file, text)
        self.scope: list[str] = []

    def run(self) -> Shader:
        self._declarations(0, len(self.tokens))
        rewritten = Rewriter(self).edits()
        text = edit(self.shader.text, (*rewritten, *threadgroup.edits(self.tokens, self.pairs)))
        self.shader.text = conditional.rewrite(text)
        return self.shader

    # -- helpers -----------------------------------------------------------------------------------

    def _is(self, index: int, *texts: str) -> bool:
        return all(index + k < len(self.tokens) and self.tokens[index + k].text == text for k, text in enumerate(texts))

    def _opens_attribute(self, index: int) -> bool:
        return self._is(index, "[", "[") and self.tokens[index].end == self.tokens[index + 1].start

    def _angle_end(self, index: int) -> int:
        """Index of the '>' that closes the '<' at index."""
        depth = 0
        while index < len(self.tokens):
            text = self.tokens[index].text
            if text in "([{" and index in self.pairs:
                index = self.pairs[index]
            elif text == "<":
                depth += 1
            elif text == ">":
                depth -= 1
                if depth == 0:
                    return index
            elif text == ";":
                break
            index += 1
        return index

    def _angle_start(self, index: int) -> int:
        """Index of the '<' that the '>' at index closes."""
        depth = 0
        while index >= 0:
            text = self.tokens[index].text
            if text in ")]}" and index in self.pairs:
                index = self.pairs[index]
            elif text == ">":
                depth += 1
            elif text == "<":
                depth -= 1
                if depth == 0:
                    return index
            index -= 1
        return 0

    def _join(self, start: int, end: int) -> str:
        return " ".join(token.text for token in self.tokens[start:end])

    # -- declarations ------------------------------------------------------------------------------

    def _declarations(self, index: int, end: int) -> None:
        while index < end:
            index = max(self._declaration(index, end), index + 1)

    def _declaration(self, index: int, end: int) -> int:
        text = self.tokens[index].text
        if text in (";", "}", ")", "]"):
            return index + 1
        if text == "namespace" or self._is(index, "inline", "namespace"):
            return self._namespace(index)
        if text == "extern" and self._is(index + 2, "{"):
            self._declarations(index + 3, self.pairs[index + 2])
            return self.pairs[index + 2] + 1
        start, template, instantiation = index, "", False
        while self._is(index, "template"):
            if self._is(index + 1, "<"):
                close = self._angle_end(index + 1)
                if close > index + 2:
                    template = self._join(index, close + 1)
                index = close + 1
            else:
                index, instantiation = index + 1, True
        stop = self._extent(index, end)
        first = self.tokens[index].text if index < end else ""
        if first in ("struct", "class", "union", "enum") or (
            first == "typedef" and self.tokens[index + 1].text in ("struct", "enum", "union")
        ):
            self._type(index, stop)
        if first not in ("using", "typedef", "static_assert", "friend"):
            self._function(start, index, stop, template, instantiation)
        return stop

    def _namespace(self, index: int) -> int:
        opener = index
        while opener < len(self.tokens) and self.tokens[opener].text not in ("{", ";"):
            opener += 1
        if not self._is(opener, "{"):
            return opener + 1
        names = [
            token.text
            for token in self.tokens[index:opener]
            if token.kind == "word" and token.text not in ("namespace", "inline")
        ]
        self.scope += names
        self._declarations(opener + 1, self.pairs[opener])
        del self.scope[len(self.scope) - len(names) :]
        return self.pairs[opener] + 1

    def _extent(self, index: int, end: int) -> int:
        """Index after the declaration: past its ';', or past the body of a function."""
        called = assigned = False
        while index < end:
            text = self.tokens[index].text
            if text == ";":
                return index + 1
            if text == "operator":
                while index < end and self.tokens[index].text != "(":
                    index += 1
                if self._is(index, "(", ")", "("):
                    index += 2
                continue
            if text == "(" and index in self.pairs:
                called = called or self.tokens[index - 1].text not in _NOT_CALLS
                index = self.pairs[index]
            elif text == "[" and index in self.pairs:
                index = self.pairs[index]
            elif text == "=":
                assigned = True
            elif text == "{" and index in self.pairs:
                index = self.pairs[index]
                if called and not assigned:
                    return index + 1
            index += 1
        return end

    # -- types -------------------------------------------------------------------------------------

    def _type(self, index: int, stop: int) -> None:
        opener = index
        while opener < stop and self.tokens[opener].text not in ("{", "(", ";", "="):
            opener = self.pairs.get(opener, opener) + 1 if self._is(opener, "[") else opener + 1
        if opener >= stop or not self._is(opener, "{"):
            return
        heads = self.tokens[index:opener]
        close = self.pairs[opener]
        if any(token.text == "enum" for token in heads):
            return self._enumerators(opener + 1, close)
        if not any(token.text == "struct" for token in heads):
            return
        names = []
        for token in heads:
            if token.text in (":", "<"):
                break
            if token.kind == "word" and token.text not in ("typedef", "struct", "final"):
                names = [token.text]
        names += [token.text for token in self.tokens[close + 1 : stop] if token.kind == "word"]
        fields = tuple(self._fields(opener + 1, close))
        for name in names:
            key = (*self.scope, name)
            self.shader.structs[key] = Struct(name, tuple(self.scope), fields)

    def _fields(self, index: int, end: int):
        """Names of the plain public data members of a struct."""
        public = True
        while index < end:
            if self._is(index + 1, ":") and self.tokens[index].text in ("public", "private", "protected"):
                public = self.tokens[index].text == "public"
                index += 2
                continue
            stop = self._extent(index, end)
            if public and _NO_FIELD.isdisjoint(token.text for token in self.tokens[index:stop]):
                yield from self._declared_fields(index, stop)
            index = stop

    def _declared_fields(self, index: int, stop: int):
        depth = 0
        for position in range(index + 1, stop):
            text = self.tokens[position].text
            depth += (text == "<") - (text == ">")
            if depth == 0 and text in (";", ",", "[", "=", "{"):
                if self.tokens[position - 1].kind == "word":
                    yield self.tokens[position - 1].text
                if text in ("=", "{"):
                    return

    def _enumerators(self, index: int, end: int) -> None:
        value = 0
        while index < end:
            name = self.tokens[index].text
            stop = index
            while stop < end and self.tokens[stop].text != ",":
                stop = self.pairs.get(stop, stop) + 1 if self.tokens[stop].text in "([{" else stop + 1
            if self._is(index + 1, "="):
                value = integer(self._join(index + 2, stop), self.shader.enumerators)
            if value is None:
                return
            self.shader.enumerators[name] = value
            value, index = value + 1, stop + 1

    # -- functions ---------------------------------------------------------------------------------

    def _function(self, start, index, stop, template, instantiation) -> None:
        attributes, opener, kernel = [], None, False
        position = start
        while position < stop and not self._is(position, "{"):
            if self._opens_attribute(position):
                attributes += self._attributes(position)
                position = self.pairs[position] + 1
            elif self._is(position, "(") and position in self.pairs:
                if opener is None and self.tokens[position - 1].text not in _NOT_CALLS:
                    opener = position
                position = self.pairs[position] + 1
            elif self._is(position, "template", "<"):
                position = self._angle_end(position + 1) + 1
            else:
                kernel = kernel or self._is(position, "kernel")
                position += 1
        kernel = kernel or any(attribute.name == "kernel" for attribute in attributes)
        if not kernel and not instantiation:
            return
        last = opener if opener is not None else stop - 1
        name_at = self._angle_start(last - 1) - 1 if self._is(last - 1, ">") else last - 1
        while name_at > start + 1 and self._is(name_at - 1, "::"):
            name_at -= 2
        if name_at < start or self.tokens[name_at].kind != "word":
            return
        name = self._join(name_at, last)
        if instantiation and not kernel and not self._names_kernel(name):
            return
        body = position if self._is(position, "{") and not instantiation else None
        if not instantiation and body is None:
            return  # a forward declaration
        self.shader.kernels.append(
            KernelDeclaration(
                name=name,
                scope=tuple(self.scope),
                template=template,
                instantiation=instantiation,
                result=self._result(index, name_at),
                parameters=None if opener is None else tuple(self._parameters(opener)),
                attributes=tuple(attributes),
                threadgroup_arrays=() if body is None else tuple(self._threadgroup_arrays(body)),
                file=self.tokens[name_at].file,
                line=self.tokens[name_at].line,
            )
        )

    def _names_kernel(self, name: str) -> bool:
        base = name.split("<", 1)[0].split("::")[-1].strip()
        return any(kernel.base_name == base for kernel in self.shader.kernels)

    def _result(self, index: int, end: int) -> str:
        words = []
        while index < end:
            if self._is(index, "[") and index in self.pairs:
                index = self.pairs[index]
            elif self.tokens[index].text not in ("kernel", "static", "inline", "constexpr", "METAL_FUNC"):
                words.append(self.tokens[index].text)
            index += 1
        return " ".join(words)

    def _attributes(self, index: int) -> list[Attribute]:
        """Attributes of one [[...]] group."""
        result, position, end = [], index + 2, self.pairs[index] - 1
        while position < end:
            token, argument = self.tokens[position], None
            position += 1
            if self._is(position, "::"):  # of another compiler's namespace
                position += 2
                token = None
            if self._is(position, "(") and position in self.pairs:
                argument = self._join(position + 1, self.pairs[position])
                position = self.pairs[position] + 1
            if token is not None and token.kind == "word":
                result.append(Attribute(token.text, argument, token.file, token.line))
        return result

    def _parameters(self, opener: int):
        index, end = opener + 1, self.pairs[opener]
        while index < end:
            start, depth = index, 0
            while index < end and not (depth == 0 and self._is(index, ",")):
                text = self.tokens[index].text
                depth += (text == "<") - (text == ">")
                index = self.pairs.get(index, index) + 1 if text in "([{" else index + 1
            if not (self._is(start, "void") and index == start + 1):
                yield self._parameter(start, index)
            index += 1

    def _parameter(self, start: int, end: int) -> Parameter:
        attributes, plain, index = [], [], start
        while index < end:
            if self._opens_attribute(index):
                attributes += self._attributes(index)
                index = self.pairs[index] + 1
            else:
                plain.append(self.tokens[index])
                index += 1
        named = _declared_name(plain)
        text = " ".join(token.text for position, token in enumerate(plain) if position != named)
        token = self.tokens[start] if named is None else plain[named]
        name = "" if named is None else token.text
        return Parameter(name, text, tuple(attributes), token.file, token.line)

    def _threadgroup_arrays(self, body: int):
        """Type of each array declared as `threadgroup T name[N]` in a body."""
        end = self.pairs[body]
        for index in range(body, end):
            if self._is(index, "threadgroup") and self.tokens[index - 1].text in ("{", "}", ";"):
                stop = index
                while stop < end and not self._is(stop, ";"):
                    stop += 1
                plain = self.tokens[index + 1 : stop]
                named = _declared_name(plain[: _comma(plain)])
                words = {token.text for token in plain}
                # What depends on a local name, or is a pointer, is not counted.
                if named is not None and words.isdisjoint("*&=") and not self._local(words, body, index):
                    base = " ".join(token.text for token in plain[:named])
                    for extents in _extents(plain[named:]):
                        yield base + extents

    def _local(self, words: set[str], body: int, end: int) -> bool:
        """Whether one of the words is declared between body and end."""
        return any(
            self.tokens[index].text in words
            and self.tokens[index - 1].kind == "word"
            and self.tokens[index + 1].text in ("=", "{", ";")
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


def _extents(declarators: list[Token]):
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
