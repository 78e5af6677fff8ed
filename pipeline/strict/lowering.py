"""The base of the lowering's parts: the tokens of a shader, and the changes that are made to its text."""

from __future__ import annotations

from ..metalc.edits import Change
from ..metalc.stream import TokenStream
from ..metalc.tokens import Token

__all__ = ["AGGREGATES", "OPENERS", "SPACES", "Lowering"]

SPACES = frozenset(("device", "constant", "threadgroup", "thread", "threadgroup_imageblock", "ray_data", "object_data"))
OPENERS = frozenset("{};")  # a statement begins behind one of these
AGGREGATES = ("struct", "class", "union")


class Lowering(TokenStream):
    """Tokens and changes. Each part of the lowering adds its own."""

    def __init__(self, text: str, file: str) -> None:
        super().__init__(text, file)
        self.changes: list[Change] = []

    def replace(self, token: Token, text: str | None) -> None:
        """Puts text in place of a token; None leaves spaces."""
        self.changes.append((token.start, token.end, text))

    def insert(self, position: int, text: str) -> None:
        """Inserts text at a position of the text."""
        self.changes.append((position, position, text))

    def angle(self, index: int) -> int:
        """The index of the '>' that closes the '<' at index, or index where none does."""
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
