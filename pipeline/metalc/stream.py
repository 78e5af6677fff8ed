"""The tokens of a shader with their brackets matched, and where attributes, template arguments and declarations end."""

from __future__ import annotations

from .syntax import Attribute
from .tokens import match_brackets, tokenize

__all__ = ["NOT_CALLS", "TokenStream"]

# A parenthesis after one of these opens no parameter list.
NOT_CALLS = ("decltype", "__attribute__", "alignas", "noexcept", "sizeof", "operator")


class TokenStream:
    """Tokens by index.

    tokens   in the order of the text
    pairs    index of the closing bracket for each opening one, and the other way round
    """

    def __init__(self, text: str, file: str) -> None:
        self.tokens = tokenize(text, file)
        self.pairs = match_brackets(self.tokens)

    def text(self, index: int) -> str:
        """The token's text, "" outside of the stream."""
        return self.tokens[index].text if 0 <= index < len(self.tokens) else ""

    def matches(self, index: int, *texts: str) -> bool:
        """Whether the tokens from `index` on are these."""
        return all(self.text(index + k) == text for k, text in enumerate(texts))

    def join(self, start: int, end: int) -> str:
        """The texts of tokens[start:end], with spaces between them."""
        return " ".join(token.text for token in self.tokens[start:end])

    def opens_attribute(self, index: int) -> bool:
        """Whether [[ stands at index."""
        return self.matches(index, "[", "[") and self.tokens[index].end == self.tokens[index + 1].start

    def attributes(self, index: int) -> list[Attribute]:
        """Attributes of the [[...]] group that opens at index."""
        result, position, end = [], index + 2, self.pairs[index] - 1
        while position < end:
            token, argument = self.tokens[position], None
            position += 1
            foreign = self.matches(position, "::")  # in the namespace of another compiler
            if foreign:
                position += 2
            if self.matches(position, "(") and position in self.pairs:
                argument = self.join(position + 1, self.pairs[position])
                position = self.pairs[position] + 1
            if not foreign and token.kind == "word":
                result.append(Attribute(token.text, argument, token.file, token.line))
        return result

    def angle_end(self, index: int) -> int:
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

    def angle_start(self, index: int) -> int:
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

    def extent(self, index: int, end: int) -> int:
        """Index after the declaration: past its ';', or past the body of a function."""
        called = assigned = members = False
        while index < end:
            text = self.tokens[index].text
            if text == ";":
                return index + 1
            if text == "operator":
                while index < end and self.tokens[index].text != "(":
                    index += 1
                if self.matches(index, "(", ")", "("):
                    index += 2
                continue
            if text == "(" and index in self.pairs:
                called = called or self.tokens[index - 1].text not in NOT_CALLS
                index = self.pairs[index]
            elif text == "[" and index in self.pairs:
                index = self.pairs[index]
            elif text == "=":
                assigned = True
            elif text == ":":
                members = called  # of a constructor, each with its value
            elif text == "{" and index in self.pairs:
                value = members and self.text(index - 1) not in (")", "}")
                index = self.pairs[index]
                if called and not assigned and not value:
                    return index + 1
            index += 1
        return end
