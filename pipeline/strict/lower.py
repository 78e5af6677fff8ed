"""A shader in the words of C++ for OpenCL, whose address spaces are Metal's.

The two differ in little. Attributes go. A variable in threadgroup memory becomes a reference (variables.py). Vectors
are made by a function that takes any scalars and vectors (expressions.py). Member functions are those of objects in
thread memory (members.py). No line moves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..metalc.edits import edit
from ..metalc.tokens import Token
from .expressions import MADE, Expressions
from .lowering import AGGREGATES, OPENERS, SPACES
from .members import MemberFunctions
from .variables import Variable, Variables

__all__ = ["Lowered", "lower"]

# Words that C++ for OpenCL keeps for itself.
_TAKEN = frozenset(
    "local global generic read_only write_only read_write pipe event_t sampler_t queue_t reserve_id_t "
    "clk_event_t ndrange_t atomic_int atomic_uint atomic_ulong atomic_long atomic_float atomic_double "
    "vec_step __kernel".split()
)
_PLAIN = re.compile(r"(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?")


@dataclass(slots=True)
class Lowered:
    """A lowered shader."""

    text: str
    tokens: list[Token]
    pairs: dict[int, int]
    variables: list[Variable]
    temporaries: set[int]  # lines with references that take temporaries


def lower(text: str, file: str) -> Lowered:
    """Lowers a shader whose macros are expanded."""
    return _Lowering(text, file).run()


class _Lowering(Expressions, Variables, MemberFunctions):
    """The whole lowering, with the changes of single words."""

    def __init__(self, text: str, file: str) -> None:
        super().__init__(text, file)
        self._text = text
        self.temporaries: set[int] = set()
        self.parameters = {
            after.text
            for before, after in zip(self.tokens, self.tokens[1:])
            if before.text in ("typename", "class") and after.kind == "word"
        }

    def run(self) -> Lowered:
        """Makes all changes."""
        self._definitions(0, len(self.tokens))
        for index, token in enumerate(self.tokens):
            if token.kind == "number":
                self._number(token)
            if token.kind == "symbol" and self.matches(index, "[", "[") and token.end == self.tokens[index + 1].start:
                self._attributes(index)
            if token.text == "?":
                self._choice(index)
            elif token.text == "}" and index + 1 < len(self.tokens):
                self._temporary(index)
            if token.kind != "word":
                continue
            if token.text == "kernel" or (token.text in ("vertex", "fragment") and self._begins(index)):
                self.replace(token, None)
            elif token.text == "coherent":
                self._coherent(index)
            elif token.text in _TAKEN:
                self.replace(token, token.text + "_")
            elif token.text in MADE:
                self._vector(index)
            elif token.text == "thread":
                self._reference(index)
            elif token.text == "threadgroup" and self._starts_statement(index):
                self._variables(index)
            elif token.text in AGGREGATES:
                self._aggregate(index)
        return Lowered(edit(self._text, self.changes), self.tokens, self.pairs, self.variables, self.temporaries)

    def _begins(self, index: int) -> bool:
        """Whether a declaration begins with a word that another word follows."""
        before = self.tokens[index - 1].text if index else ";"
        return before in OPENERS | {"]", ">"} and self.tokens[index + 1].kind == "word"

    def _coherent(self, index: int) -> None:
        """Removes `coherent` and `coherent(device)` where they stand before device memory."""
        last = self.pairs.get(index + 1, index) if self.matches(index + 1, "(") else index
        around = (self.tokens[index - 1 : index], self.tokens[last + 1 : last + 2])
        if any(token.text in ("device", "const", "volatile") for tokens in around for token in tokens):
            self.changes.append((self.tokens[index].start, self.tokens[last].end, None))

    def _number(self, token: Token) -> None:
        """Makes a float of 1.0, and one that becomes a bfloat of 1.0bf."""
        if _PLAIN.fullmatch(token.text):
            self.replace(token, token.text + "f")
        elif token.text.endswith(("bf", "BF")) and not token.text.startswith("0x"):
            self.replace(token, token.text[:-2] + ("f" if _PLAIN.fullmatch(token.text[:-2]) else ""))

    def _attributes(self, index: int) -> None:
        """Removes attributes; a function constant gets a value, because its own is not known yet."""
        close = self.pairs[index]
        names = {token.text for token in self.tokens[index:close]}
        value = "= 0" if "function_constant" in names and self.matches(close + 1, ";") else None
        self.changes.append((self.tokens[index].start, self.tokens[close].end, value))

    def _reference(self, index: int) -> None:
        """Makes const thread T & take a temporary, which has no address space for Clang."""
        at, constant = index + 1, self.matches(index - 1, "const")
        while at < len(self.tokens) and (self.tokens[at].kind == "word" or self.tokens[at].text in ("::", "<")):
            constant = constant or self.matches(at, "const")
            at = self.angle(at) + 1 if self.matches(at, "<") else at + 1
        words = {token.text for token in self.tokens[index:at]}
        if self.matches(at, "(") and (self.matches(at + 1, "&") or self.matches(at + 1, "*")):
            return  # an array that a parameter points to
        if self.matches(at, "(") or "operator" in words:
            self.replace(self.tokens[index], None)  # of a function's result, which is a value
            return
        # A type that a template deduces must be spelled as it is.
        if words & SPACES - {"thread"}:
            self.replace(self.tokens[index], None)  # of the pointer, not of what it points to
        elif self._specialises(index):
            return
        elif (
            constant
            and self.matches(at, "&")
            and not self.matches(at + 1, "&")
            and not words & (self.parameters | {"auto"})
        ):
            self.replace(self.tokens[index], "__generic")
            self.temporaries.add(self.tokens[index].line)

    def _specialises(self, index: int) -> bool:
        """Whether a word is in the declaration of a specialisation, spelled as its template is."""
        while index > 0 and self.tokens[index].text not in OPENERS:
            index -= 1
        return self.matches(index + 1, "template", "<", ">")
