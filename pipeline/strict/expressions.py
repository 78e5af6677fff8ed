"""Expressions of a shader that C++ for OpenCL has not: how vectors are made, and objects without a memory."""

import re

_SCALARS = "bool char uchar short ushort int uint long ulong float half bfloat".split()
VECTORS = frozenset(f"{packed}{scalar}{n}" for packed in ("", "packed_") for scalar in _SCALARS for n in (2, 3, 4))
# Types that are made of more than Clang lets them be made of.
MADE = VECTORS | {"half", "bfloat", "vec", "packed_vec"}
_SWIZZLE = re.compile("[xyzw]{1,4}|[rgba]{1,4}|lo|hi")
_NO_TYPES = frozenset("else do try const noexcept override final mutable device constant thread threadgroup".split())
_VALUES = frozenset(("true", "false", "nullptr", "this", "NULL", "INFINITY", "NAN"))


class Expressions:
    """A part of the lowering: edits of tokens."""

    # -- vectors -----------------------------------------------------------------------------------

    def _vector(self, index: int) -> None:
        """float4(…), (float4)x and static_cast<float4>(x) take what OpenCL's vectors do not."""
        first, last = index, index
        if self._is(first - 1, "::"):
            first -= 2 if self._is(first - 2, "metal") else 1
        if self.tokens[index].text in ("vec", "packed_vec"):
            if not self._is(index + 1, "<"):
                return
            last = self._angle(index + 1)
            if self._is(index + 2, "bool", ",") and last > index:
                self.edits.append((self.tokens[first].start, self.tokens[index + 4].start, "strict::bools<"))
                return
        begin, end = self.tokens[first].start, self.tokens[last].end
        before = self.tokens[first - 1].text if first else ";"
        if before == "typename":
            return
        if before == "<" and self._is(last + 1, ">", "(") and self._is(first - 2, "static_cast"):
            self._replace(self.tokens[first - 2], "strict::make")
        elif before == "(" and self._is(last + 1, ")") and self._casts(first - 1, last + 2):
            self.edits.append((self.tokens[first - 1].start, begin, "strict::to<"))
            self.edits.append((self.tokens[last + 1].start, self.tokens[last + 1].end, ">()->*"))
        elif self._is(last + 1, "(") and before not in ("operator", "struct", "new"):
            if not self._declares(last + 1):
                self._insert(begin, "strict::make<")
                self._insert(end, ">")

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
        """c ? a : f() takes objects of one type, where a is in thread memory: a is made a value."""
        at, nested = index + 1, 0
        while at < len(self.tokens) and self.tokens[at].text not in (";", ")", "}", "]"):
            text = self.tokens[at].text
            if text == ":" and nested == 0:
                break
            nested += (text == "?") - (text == ":")
            at = self.pairs.get(at, at) + 1 if text in "([{" else at + 1
        if self._is(at, ":"):
            self._value(index + 1)
            self._value(at + 1)

    def _value(self, start: int) -> None:
        at, element = start, False
        if self.tokens[at].kind != "word" or self.tokens[at].text in _VALUES:
            return
        while True:
            if self._is(at + 1, "[") and not self._is(at + 1, "[", "["):
                at, element = self.pairs[at + 1], True
            elif (self._is(at + 1, ".") or self._is(at + 1, "->")) and self.tokens[at + 2].kind == "word":
                at, element = at + 2, False
            else:
                break
        last = self.tokens[at]
        if self.tokens[at + 1].text not in (";", ":", ")", ",", "]", "}"):
            return
        if element:
            self._insert(self.tokens[start].start, "strict::element()->*")
        elif at == start or not _SWIZZLE.fullmatch(last.text):
            self._insert(self.tokens[start].start, "strict::value(")
            self._insert(last.end, ")")

    def _temporary(self, index: int) -> None:
        """Op{}(x) calls a member function of an object in thread memory."""
        opener = self.pairs.get(index, index)
        if self.tokens[index + 1].text not in ("(", "."):
            return
        first = opener - 1
        if self._is(first, ">"):
            depth = 0
            while first > 0:
                depth += self._is(first, ">") - self._is(first, "<")
                if depth == 0:
                    break
                first -= 1
            first -= 1
        while self._is(first - 1, "::") and first > 1:
            first -= 2
        before = self.tokens[first - 1]
        if self.tokens[first].kind != "word" or self.tokens[first].text in _NO_TYPES:
            return
        if (
            before.kind == "word"
            and before.text != "return"
            or before.text in (">", "]", ")", "&", "*", ":")
            and not self._is(first - 1, ":")
        ):
            return
        self._insert(self.tokens[first].start, "strict::here(")
        self._insert(self.tokens[index].end, ")")
