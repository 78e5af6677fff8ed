"""Expressions of a shader that C++ for OpenCL has not: how vectors are made, and objects without a memory."""

from __future__ import annotations

import re

from .lowering import Lowering

__all__ = ["MADE", "VECTORS", "Expressions"]

_SCALARS = "bool char uchar short ushort int uint long ulong float half bfloat".split()
VECTORS = frozenset(f"{packed}{scalar}{n}" for packed in ("", "packed_") for scalar in _SCALARS for n in (2, 3, 4))
# Types that Metal makes of more kinds of values than Clang does.
MADE = VECTORS | {"half", "bfloat", "vec", "packed_vec"}
_SWIZZLE = re.compile("[xyzw]{1,4}|[rgba]{1,4}|lo|hi")
_NO_TYPES = frozenset("else do try const noexcept override final mutable device constant thread threadgroup".split())
_VALUES = frozenset(("true", "false", "nullptr", "this", "NULL", "INFINITY", "NAN"))


class Expressions(Lowering):
    """The part of the lowering that changes expressions."""

    # -- vectors -----------------------------------------------------------------------------------

    def _vector(self, index: int) -> None:
        """Makes float4(…), (float4)x and static_cast<float4>(x) take values that OpenCL's vectors do not take."""
        first, last = index, index
        if self.matches(first - 1, "::"):
            first -= 2 if self.matches(first - 2, "metal") else 1
        if self.tokens[index].text in ("vec", "packed_vec"):
            if not self.matches(index + 1, "<"):
                return
            last = self.angle(index + 1)
            if self.matches(index + 2, "bool", ",") and last > index:
                self.changes.append((self.tokens[first].start, self.tokens[index + 4].start, "strict::bools<"))
                return
        begin, end = self.tokens[first].start, self.tokens[last].end
        before = self.tokens[first - 1].text if first else ";"
        if before == "typename":
            return
        if before == "<" and self.matches(last + 1, ">", "(") and self.matches(first - 2, "static_cast"):
            self.replace(self.tokens[first - 2], "strict::make")
        elif before == "(" and self.matches(last + 1, ")") and self._casts(first - 1, last + 2):
            self.changes.append((self.tokens[first - 1].start, begin, "strict::to<"))
            self.changes.append((self.tokens[last + 1].start, self.tokens[last + 1].end, ">()->*"))
        elif self.matches(last + 1, "(") and before not in ("operator", "struct", "new"):
            if not self._declares(last + 1):
                self.insert(begin, "strict::make<")
                self.insert(end, ">")

    def _casts(self, opener: int, operand: int) -> bool:
        """Whether ( type ) before `operand` is a cast: not the parameter of a function or of sizeof."""
        before = self.tokens[opener - 1]
        if before.kind == "word" and before.text not in ("return", "else", "case") or before.text in (")", "]", ">"):
            return False
        return operand < len(self.tokens) and (
            self.tokens[operand].kind in ("word", "number") or self.tokens[operand].text in ("(", "-", "*", "!", "~")
        )

    def _declares(self, opener: int) -> bool:
        """Whether what looks like float4(…) is a declarator: float4 (&name)[2]."""
        return self.tokens[opener + 1].text in ("*", "&") and self.tokens[self.pairs[opener] + 1].text in ("[", "(")

    # -- choices -----------------------------------------------------------------------------------

    def _choice(self, index: int) -> None:
        """Makes a value of a in c ? a : f(), which takes objects of one type, where a is in thread memory."""
        at, nested = index + 1, 0
        while at < len(self.tokens) and self.tokens[at].text not in (";", ")", "}", "]"):
            text = self.tokens[at].text
            if text == ":" and nested == 0:
                break
            nested += (text == "?") - (text == ":")
            at = self.pairs.get(at, at) + 1 if text in "([{" else at + 1
        if self.matches(at, ":"):
            self._value(index + 1)
            self._value(at + 1)

    def _value(self, start: int) -> None:
        at, element = start, False
        if self.tokens[at].kind != "word" or self.tokens[at].text in _VALUES:
            return
        while True:
            if self.matches(at + 1, "[") and not self.matches(at + 1, "[", "["):
                at, element = self.pairs[at + 1], True
            elif (self.matches(at + 1, ".") or self.matches(at + 1, "->")) and self.tokens[at + 2].kind == "word":
                at, element = at + 2, False
            else:
                break
        last = self.tokens[at]
        if self.tokens[at + 1].text not in (";", ":", ")", ",", "]", "}"):
            return
        if element:
            self.insert(self.tokens[start].start, "strict::element()->*")
        elif at == start or not _SWIZZLE.fullmatch(last.text):
            self.insert(self.tokens[start].start, "strict::value(")
            self.insert(last.end, ")")

    def _temporary(self, index: int) -> None:
        """Puts the object of Op{}(x) in thread memory, for its member function."""
        opener = self.pairs.get(index, index)
        if self.tokens[index + 1].text not in ("(", "."):
            return
        first = opener - 1
        if self.matches(first, ">"):
            depth = 0
            while first > 0:
                depth += self.matches(first, ">") - self.matches(first, "<")
                if depth == 0:
                    break
                first -= 1
            first -= 1
        while self.matches(first - 1, "::") and first > 1:
            first -= 2
        before = self.tokens[first - 1]
        if self.tokens[first].kind != "word" or self.tokens[first].text in _NO_TYPES:
            return
        if (
            before.kind == "word"
            and before.text != "return"
            or before.text in (">", "]", ")", "&", "*", ":")
            and not self.matches(first - 1, ":")
        ):
            return
        self.insert(self.tokens[first].start, "strict::here(")
        self.insert(self.tokens[index].end, ")")
