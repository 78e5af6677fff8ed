"""Member functions, which are for objects in thread memory where they name no address space."""

from __future__ import annotations

from .lowering import AGGREGATES, SPACES, Lowering

__all__ = ["MemberFunctions"]


class MemberFunctions(Lowering):
    """The part of the lowering that changes member functions."""

    def __init__(self, text: str, file: str) -> None:
        super().__init__(text, file)
        self.classes = {after.text for before, after in zip(self.tokens, self.tokens[1:]) if before.text in AGGREGATES}

    def _aggregate(self, index: int) -> None:
        """Marks the member functions of the type at index that name no address space."""
        at, name = index + 1, ""
        while at < len(self.tokens) and self.tokens[at].text not in ("{", ";", "(", "=", ")", ">", ","):
            if self.tokens[at].kind == "word" and not name and not self.matches(at, "alignas"):
                name = self.tokens[at].text
            if self.matches(at, "<"):
                at = self.angle(at)
            if self.matches(at, ":"):
                while at < len(self.tokens) and not self.matches(at, "{"):
                    at += 1
                break
            at += 1
        if self.matches(at, "{"):
            self._members(at + 1, self.pairs[at], name)

    def _definitions(self, at: int, end: int) -> None:
        """Marks member functions that are defined outside of their types: float S::f() {}."""
        owner: str | None = None
        while at < end:
            text = self.tokens[at].text
            if text == "{" and at in self.pairs:
                words = {token.text for token in self.tokens[max(at - 3, 0) : at]}
                if words & {"namespace", "extern"}:
                    self._definitions(at + 1, self.pairs[at])
                at, owner = self.pairs[at], None
            elif text == ";":
                owner = None
            elif text == "::" and self.tokens[at - 1].text in self.classes and self.matches(at + 2, "("):
                owner = self.tokens[at - 1].text
            elif text == "operator" and self.matches(at - 1, "::") and self.tokens[at - 2].text in self.classes:
                owner = self.tokens[at - 2].text
                at += 2 if self.matches(at + 1, "(", ")") else 0
            elif text == "(" and at in self.pairs:
                if owner is not None:
                    self._mark(at - 1, at, owner)
                at, owner = self.pairs[at], None
            elif text == "[" and at in self.pairs:
                at = self.pairs[at]
            at += 1

    def _members(self, at: int, end: int, name: str) -> None:
        """Marks the member functions in the body of type `name`."""
        while at < end:
            if self.matches(at + 1, ":") and self.tokens[at].text in ("public", "private", "protected"):
                at += 2
            at = max(self._member(at, end, name), at + 1)

    def _member(self, at: int, end: int, name: str) -> int:
        """The index after a member; marks it if it is a function of an object."""
        opener: int | None = None
        start, assigned = at, False
        while at < end:
            text = self.tokens[at].text
            if text == "template" and self.matches(at + 1, "<"):
                at = self.angle(at + 1)
            elif text == ";":
                return at + 1
            elif text == "operator" and opener is None:
                while at < end and not self.matches(at, "("):
                    at += 1
                opener = at + 2 if self.matches(at, "(", ")", "(") else at
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
        """Gives the member function whose parameters open at `opener` its address space."""
        words = {token.text for token in self.tokens[start:opener]}
        if words & {"static", "friend", "using", "typedef"} or opener not in self.pairs:
            return
        after = self.pairs[opener] + 1
        while after < len(self.tokens) and self.tokens[after].kind == "word":
            if self.tokens[opener - 1].text == name and self.tokens[after].text in ("thread", "constant"):
                # Clang constructs objects in no address space, and no const ones.
                self.replace(self.tokens[after], None if self.matches(after, "thread") else "__constant")
            if self.tokens[after].text in SPACES:
                return
            after += 1
        if self.tokens[opener - 1].text == name or self.matches(opener - 2, "~"):
            return
        self.insert(self.tokens[self.pairs[opener]].end, " __private")
