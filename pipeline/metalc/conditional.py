"""The conditional operator with a 16-bit float on one side: c ? half : float.

C++ finds two conversions where Metal has one rule, so each side is brought to the common type first:
`c ? a : b` becomes `c ? arm<decltype(b)>(a) : arm<decltype(a)>(b)` (see metal_conditional). An arm of
another type stays as it is.
"""

from .tokens import match_brackets, tokenize

__all__ = ["rewrite"]

_DEEPEST = 3  # each level of nesting writes the inner ones twice
_ENDS = frozenset(", ; ) ] } : =".split())
_TEMPLATE = frozenset("< > :: , * & + -".split())


def rewrite(text: str) -> str:
    """Text of a shader with its conditional operators rewritten; lines stay where they are."""
    if "?" not in text or "half" not in text and "bfloat" not in text:
        return text
    return _Conditionals(text).run()


class _Conditionals:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokenize(text, "")
        self._pairs = match_brackets(self._tokens)
        self._found: dict[int, tuple[int, int, int]] = {}  # for each `?` the `:`, the end, the levels inside
        self._left: dict[int, int] = {}  # for each `?` of an operator that stays as it is, its end
        self._before: dict[int, list[str]] = {}  # texts to insert before a token
        self._behind: dict[int, list[str]] = {}

    def run(self) -> str:
        """The text with all operators rewritten."""
        for index in range(len(self._tokens) - 1, -1, -1):  # inner ones first
            if self._tokens[index].text == "?":
                self._arms(index)
        for index in sorted(self._found, key=lambda index: self._found[index][2]):
            colon, end, depth = self._found[index]
            if depth < _DEEPEST:
                first, second = self._copy(index + 1, colon), self._copy(colon + 1, end)
                self._wrap(index + 1, colon, second)
                self._wrap(colon + 1, end, first)
        parts: list[str] = []
        done = 0
        for index in sorted(self._before.keys() | self._behind.keys()):
            token = self._tokens[index]
            parts += [self._text[done : token.start], *reversed(self._before.get(index, ()))]
            parts += [self._text[token.start : token.end], *self._behind.get(index, ())]
            done = token.end
        return "".join([*parts, self._text[done:]])

    def _wrap(self, start: int, end: int, other: str) -> None:
        self._before.setdefault(start, []).append(f"metal::metal_detail::arm<decltype({other})>(")
        self._behind.setdefault(end - 1, []).append(")")

    def _copy(self, start: int, end: int) -> str:
        """An arm as it is so far, on one line."""
        words: list[str] = []
        for index in range(start, end):
            token = self._tokens[index]
            apart = index > start and self._tokens[index - 1].end < token.start  # so that >> stays one
            words += [" " * apart, *reversed(self._before.get(index, ())), token.text, *self._behind.get(index, ())]
        return "".join(words)

    def _arms(self, index: int) -> None:
        """Finds the two arms of the operator at index."""
        colon, inside = self._scan(index + 1, frozenset((":", ";", ")", "]", "}")))
        if self._text_at(colon) != ":" or colon == index + 1:
            return
        if self._constant(index):
            return
        end, more = self._scan(colon + 1, _ENDS | {">"} if self._in_template(index) else _ENDS)
        integral = self._integral(index + 1, colon) and self._integral(colon + 1, end)
        if end > colon + 1 and not integral and not self._has_lambda(index, end):
            self._found[index] = (colon, end, max(inside, more))
        else:
            self._left[index] = end

    def _in_template(self, index: int) -> bool:
        """Whether the operator at index stands among template arguments, whose > ends it."""
        depth = 0
        for position in range(index - 1, 0, -1):
            token = self._tokens[position]
            if token.text in (")", "]", "}") and position in self._pairs:
                return self._in_template(self._pairs[position])
            if token.text in ("(", "[", "{", "}", ";", "&&", "||"):
                return False
            depth += (token.text == ">") - (token.text == "<")
            if depth < 0:
                before = self._tokens[position - 1]
                return before.kind == "word" and (before.end == token.start or before.text == "template")
        return False

    def _text_at(self, index: int) -> str:
        return self._tokens[index].text if index < len(self._tokens) else ""

    def _scan(self, index: int, ends: frozenset[str]) -> tuple[int, int]:
        """The first token at or behind index that ends an arm, and how deep operators nest before it."""
        deepest = 0
        while index < len(self._tokens):
            text = self._tokens[index].text
            if text == "?" and index in self._found:
                _, end, depth = self._found[index]
                index, deepest = end, max(deepest, depth + 1)
            elif text == "?" and index in self._left:
                index = self._left[index]
            elif text in ends:
                break
            elif text in ("(", "[", "{"):
                deepest = max(deepest, self._inside(index))
                index = self._pairs[index] + 1
            else:
                index = self._behind_template(index) if text == "<" else index + 1
        return index, deepest

    def _inside(self, opener: int) -> int:
        found = (self._found[index] for index in range(opener, self._pairs[opener]) if index in self._found)
        return max((depth + 1 for _, _, depth in found), default=0)

    def _constant(self, index: int) -> bool:
        """Whether the operator stands in a constant expression, which is one of integers."""
        words: set[str] = set()
        while index >= 0 and self._tokens[index].text not in ("{", "}", ";"):
            if self._tokens[index - 1].text not in (".", "->"):
                words.add(self._tokens[index].text)
            index -= 1
        return not words.isdisjoint(("constexpr", "static_assert", "template", "using", "enum"))

    def _integral(self, start: int, end: int) -> bool:
        """Whether tokens are integer literals and signs alone."""
        numbers = [token for token in self._tokens[start:end] if token.kind == "number"]
        others = [token for token in self._tokens[start:end] if token.kind not in ("number", "symbol")]
        return bool(numbers) and not others and all(token.text.rstrip("uUlL").isalnum() for token in numbers)

    def _has_lambda(self, start: int, end: int) -> bool:
        """C++17 has no lambda in decltype."""
        texts = [token.text for token in self._tokens[start:end]]
        return any(one == "[" and before in "(,?:=" for before, one in zip(texts, texts[1:]))

    def _behind_template(self, index: int) -> int:
        """Behind the template arguments that open at index, or behind the sign."""
        position, depth = index, 0
        while position < len(self._tokens):
            token = self._tokens[position]
            depth += (token.text == "<") - (token.text == ">")
            if depth == 0:
                return position + 1 if self._text_at(position + 1) in ("(", "::", "{") else index + 1
            if token.text == "(":
                position = self._pairs[position]
            elif token.kind not in ("word", "number") and token.text not in _TEMPLATE:
                break
            position += 1
        return index + 1
