"""A shader in the words of C++ for OpenCL, whose address spaces are Metal's.

The two differ in little. Attributes are taken out. A variable in threadgroup memory becomes a reference,
since OpenCL has such variables in its own kernels only. Vectors are made by a function that takes any
scalars and vectors. Member functions are those of objects in thread memory. No line moves.
"""

import re
from dataclasses import dataclass

from ..metalc.parse import edit
from ..metalc.tokens import Token, match_brackets, tokenize
from .expressions import MADE, VECTORS, Expressions

SPACES = frozenset(("device", "constant", "threadgroup", "thread", "threadgroup_imageblock", "ray_data", "object_data"))
# Words that C++ for OpenCL keeps for itself.
_TAKEN = frozenset(
    "local global generic read_only write_only read_write pipe event_t sampler_t queue_t reserve_id_t "
    "clk_event_t ndrange_t atomic_int atomic_uint atomic_ulong atomic_long atomic_float atomic_double "
    "vec_step __kernel".split()
)
_PLAIN = re.compile(r"(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?")
_OPENERS = frozenset("{};")
_AGGREGATES = ("struct", "class", "union")


@dataclass(slots=True)
class Variable:
    """A variable in threadgroup memory."""

    name: Token
    initialised: bool
    kernel: bool  # stands in the body of a kernel


@dataclass(slots=True)
class Lowered:
    text: str
    tokens: list[Token]
    pairs: dict[int, int]
    variables: list[Variable]
    temporaries: set[int]  # lines with references that take temporaries


def lower(text: str, file: str) -> Lowered:
    return _Lowering(text, file).run()


class _Lowering(Expressions):
    def __init__(self, text: str, file: str):
        self.text = text
        self.tokens = tokenize(text, file)
        self.pairs = match_brackets(self.tokens)
        self.edits: list[tuple[int, int, str | None]] = []
        self.variables: list[Variable] = []
        self.temporaries: set[int] = set()

    def run(self) -> Lowered:
        self.bodies = self._kernel_bodies()
        self.parameters = {
            after.text
            for before, after in zip(self.tokens, self.tokens[1:])
            if before.text in ("typename", "class") and after.kind == "word"
        }
        self.classes = {after.text for before, after in zip(self.tokens, self.tokens[1:]) if before.text in _AGGREGATES}
        self._definitions(0, len(self.tokens))
        for index, token in enumerate(self.tokens):
            if token.kind == "number":
                self._number(token)
            if token.kind == "symbol" and self._is(index, "[", "[") and token.end == self.tokens[index + 1].start:
                self._attributes(index)
            if token.text == "?":
                self._choice(index)
            elif token.text == "}" and index + 1 < len(self.tokens):
                self._temporary(index)
            if token.kind != "word":
                continue
            if token.text == "kernel":
                self._replace(token, None)
            elif token.text in _TAKEN:
                self._replace(token, token.text + "_")
            elif token.text in MADE:
                self._vector(index)
            elif token.text == "thread":
                self._reference(index)
            elif token.text == "threadgroup" and self._starts_statement(index):
                self._variables(index)
            elif token.text in _AGGREGATES:
                self._aggregate(index)
        return Lowered(edit(self.text, self.edits), self.tokens, self.pairs, self.variables, self.temporaries)

    # -- helpers -----------------------------------------------------------------------------------

    def _is(self, index: int, *texts: str) -> bool:
        return all(
            0 <= index + k < len(self.tokens) and self.tokens[index + k].text == text for k, text in enumerate(texts)
        )

    def _replace(self, token: Token, text: str | None) -> None:
        self.edits.append((token.start, token.end, text))

    def _insert(self, position: int, text: str) -> None:
        self.edits.append((position, position, text))

    def _angle(self, index: int) -> int:
        """Index of the '>' that closes the '<' at index, or index."""
        depth, at = 0, index
        while at < len(self.tokens):
            text = self.tokens[at].text
            if text in "([{":
                at = self.pairs.get(at, at)
            elif text == "<":
                depth += 1
            elif text == ">":
                depth -= 1
                if depth == 0:
                    return at
            elif text == ";":
                break
            at += 1
        return index

    def _number(self, token: Token) -> None:
        """1.0 is a float; 1.0bf is one that becomes a bfloat."""
        if _PLAIN.fullmatch(token.text):
            self._replace(token, token.text + "f")
        elif token.text.endswith(("bf", "BF")) and not token.text.startswith("0x"):
            self._replace(token, token.text[:-2] + ("f" if _PLAIN.fullmatch(token.text[:-2]) else ""))

    def _kernel_bodies(self) -> list[tuple[int, int]]:
        bodies = []
        for index, token in enumerate(self.tokens):
            if token.text != "kernel" or token.kind != "word":
                continue
            at = index + 1
            while at < len(self.tokens) and self.tokens[at].text not in ("{", ";"):
                at = self.pairs.get(at, at) + 1 if self.tokens[at].text in "([" else at + 1
            if self._is(at, "{"):
                bodies.append((at, self.pairs[at]))
        return bodies

    def _attributes(self, index: int) -> None:
        """Attributes go; a function constant has a value that is not known yet."""
        close = self.pairs[index]
        names = {token.text for token in self.tokens[index:close]}
        value = "= 0" if "function_constant" in names and self._is(close + 1, ";") else None
        self.edits.append((self.tokens[index].start, self.tokens[close].end, value))

    def _reference(self, index: int) -> None:
        """const thread T & takes a temporary, which has no address space for Clang."""
        at, constant = index + 1, self._is(index - 1, "const")
        while at < len(self.tokens) and (self.tokens[at].kind == "word" or self.tokens[at].text in ("::", "<")):
            constant = constant or self._is(at, "const")
            at = self._angle(at) + 1 if self._is(at, "<") else at + 1
        words = {token.text for token in self.tokens[index:at]}
        # What a template deduces must be spelled as it is.
        if words & SPACES - {"thread"}:
            self._replace(self.tokens[index], None)  # of the pointer, not of what it points to
        elif self._specialises(index):
            return
        elif constant and self._is(at, "&") and not self._is(at + 1, "&") and not words & (self.parameters | {"auto"}):
            self._replace(self.tokens[index], "__generic")
            self.temporaries.add(self.tokens[index].line)

    def _specialises(self, index: int) -> bool:
        """Whether a word is in the declaration of a specialisation, spelled as its template is."""
        while index > 0 and self.tokens[index].text not in _OPENERS:
            index -= 1
        return self._is(index + 1, "template", "<", ">")

    # -- variables in threadgroup memory -----------------------------------------------------------

    def _starts_statement(self, index: int) -> bool:
        at = index - 1
        while at >= 0 and (self.tokens[at].text in ("const", "static", "volatile", "constexpr") or self._is(at, ")")):
            if self._is(at, ")"):
                opener = self.pairs.get(at, 0)
                if self.tokens[opener - 1].text not in ("alignas", "__attribute__"):
                    return False
                at = opener - 1
            at -= 1
        if self._is(at, "]", "]") or (self._is(at, "]") and self._is(at - 1, "]")):
            return True
        return at < 0 or self.tokens[at].text in _OPENERS

    def _variables(self, index: int) -> None:
        end = index
        while end < len(self.tokens) and self.tokens[end].text != ";":
            if self.tokens[end].text == ")" or self.tokens[end].text == "}":
                return
            end = self.pairs.get(end, end) + 1 if self.tokens[end].text in "([{" else end + 1
        groups = list(self._groups(index + 1, end))
        inside = any(start < index < stop for start, stop in self.bodies)
        for start, stop in groups:
            words = [at for at in self._flat(start, stop)]
            name = next((at for at in reversed(words) if self.tokens[at].kind == "word"), None)
            if name is None or any(self.tokens[at].text in "*&(" for at in words):
                return  # a pointer or a reference
            last = max(words)
            tail = last + 1
            while self._is(tail, "["):
                tail = self.pairs[tail] + 1
            # Apple's compiler takes { 0 } and means nothing by it.
            initialised = tail < stop and not {token.text for token in self.tokens[tail:stop]} <= {
                "=",
                "{",
                "}",
                "0",
                "0.0f",
            }
            self.variables.append(Variable(self.tokens[name], initialised, inside))
            self._insert(self.tokens[name].start, "(&")
            self._insert(self.tokens[name].end, ")")
            if tail < stop:
                self.edits.append((self.tokens[tail].start, self.tokens[stop - 1].end, None))
            self._insert(self.tokens[stop - 1].end, " = strict::threadgroup_memory")
        for at in range(index - 1, -1, -1):
            if self.tokens[at].text in _OPENERS:
                break
            self._drop_alignment(at)
        for at in range(index, end):
            self._drop_alignment(at)

    def _drop_alignment(self, at: int) -> None:
        if self._is(at, "alignas", "("):
            self.edits.append((self.tokens[at].start, self.tokens[self.pairs[at + 1]].end, None))

    def _groups(self, start: int, end: int):
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

    def _flat(self, start: int, end: int):
        """Indices up to the extents or the initialiser, what brackets hold left out."""
        at = start
        while at < end:
            text = self.tokens[at].text
            if text == "<":
                at = self._angle(at) + 1
                continue
            if text == "alignas" or self._is(at, "[", "["):
                at = self.pairs[at + 1 if text == "alignas" else at] + 1
                continue
            if text == "{" and self.tokens[at - 1].text in _AGGREGATES + tuple(VECTORS):
                at = self.pairs[at] + 1
                continue
            if text in ("[", "=", "{"):
                return
            yield at
            at += 1

    # -- member functions --------------------------------------------------------------------------

    def _aggregate(self, index: int) -> None:
        """Member functions without an address space are those of objects in thread memory."""
        at, name = index + 1, ""
        while at < len(self.tokens) and self.tokens[at].text not in ("{", ";", "(", "=", ")", ">", ","):
            if self.tokens[at].kind == "word" and not name and not self._is(at, "alignas"):
                name = self.tokens[at].text
            if self._is(at, "<"):
                at = self._angle(at)
            if self._is(at, ":"):
                while at < len(self.tokens) and not self._is(at, "{"):
                    at += 1
                break
            at += 1
        if self._is(at, "{"):
            self._members(at + 1, self.pairs[at], name)

    def _definitions(self, at: int, end: int) -> None:
        """Marks member functions that are defined outside of their types: float S::f() {}."""
        owner = None
        while at < end:
            text = self.tokens[at].text
            if text == "{" and at in self.pairs:
                words = {token.text for token in self.tokens[max(at - 3, 0) : at]}
                if words & {"namespace", "extern"}:
                    self._definitions(at + 1, self.pairs[at])
                at, owner = self.pairs[at], None
            elif text == ";":
                owner = None
            elif text == "::" and self.tokens[at - 1].text in self.classes and self._is(at + 2, "("):
                owner = self.tokens[at - 1].text
            elif text == "operator" and self._is(at - 1, "::") and self.tokens[at - 2].text in self.classes:
                owner = self.tokens[at - 2].text
                at += 2 if self._is(at + 1, "(", ")") else 0
            elif text == "(" and at in self.pairs:
                if owner is not None:
                    self._mark(at - 1, at, owner)
                at, owner = self.pairs[at], None
            elif text == "[" and at in self.pairs:
                at = self.pairs[at]
            at += 1

    def _members(self, at: int, end: int, name: str) -> None:
        while at < end:
            if self._is(at + 1, ":") and self.tokens[at].text in ("public", "private", "protected"):
                at += 2
            at = max(self._member(at, end, name), at + 1)

    def _member(self, at: int, end: int, name: str) -> int:
        """Index after a member; marks it if it is a function of an object."""
        start, opener, assigned = at, None, False
        while at < end:
            text = self.tokens[at].text
            if text == "template" and self._is(at + 1, "<"):
                at = self._angle(at + 1)
            elif text == ";":
                return at + 1
            elif text == "operator" and opener is None:
                while at < end and not self._is(at, "("):
                    at += 1
                opener = at + 2 if self._is(at, "(", ")", "(") else at
                at = self.pairs.get(opener, opener)
                if not assigned:
                    self._mark(start, opener, name)
            elif text == "(":
                called = self.tokens[at - 1]
                if (
                    opener is None
                    and not assigned
                    and called.kind == "word"
                    and called.text
                    not in ("alignas", "__attribute__", "decltype", "sizeof", "explicit", "noexcept", "static_assert")
                ):
                    opener = at
                    self._mark(start, opener, name)
                at = self.pairs.get(at, at)
            elif text == "=":
                assigned = True
            elif text in "[{" and at in self.pairs:
                body = text == "{" and opener is not None and not assigned
                at = self.pairs[at]
                if body:
                    return at + 1
            at += 1
        return end

    def _mark(self, start: int, opener: int, name: str) -> None:
        words = {token.text for token in self.tokens[start:opener]}
        if words & {"static", "friend", "using", "typedef"} or opener not in self.pairs:
            return
        after = self.pairs[opener] + 1
        while after < len(self.tokens) and self.tokens[after].kind == "word":
            if self.tokens[opener - 1].text == name and self.tokens[after].text in ("thread", "constant"):
                # Clang constructs objects in no address space, and no const ones.
                self._replace(self.tokens[after], None if self._is(after, "thread") else "__constant")
            if self.tokens[after].text in SPACES:
                return
            after += 1
        if self.tokens[opener - 1].text == name or self._is(opener - 2, "~"):
            return
        self._insert(self.tokens[self.pairs[opener]].end, " __private")
