"""Edits of a text: collected over its tokens, applied at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from .stream import TokenStream

__all__ = ["Change", "Edits", "edit"]

Change: TypeAlias = tuple[int, int, str | None]  # start, end, replacement


def edit(text: str, changes: Iterable[Change]) -> str:
    """The text with all changes applied; a replacement of None leaves spaces, so columns stay."""
    parts: list[str] = []
    done = 0
    for start, end, replacement in sorted(changes, key=lambda change: change[:2]):
        if start < done:
            continue
        if replacement is None:
            replacement = "".join(c if c == "\n" else " " for c in text[start:end])
        parts += [text[done:start], replacement]
        done = end
    return "".join([*parts, text[done:]])


class Edits:
    """Changes to the text of a token stream, stated by tokens."""

    def __init__(self, stream: TokenStream) -> None:
        self.stream = stream
        self.changes: list[Change] = []

    def replace(self, first: int, last: int, text: str | None = None) -> None:
        """Replaces the tokens from `first` to `last`, inclusive."""
        self.changes.append((self.stream.tokens[first].start, self.stream.tokens[last].end, text))

    def insert(self, index: int, text: str) -> None:
        """Inserts text before a token."""
        start = self.stream.tokens[index].start
        self.changes.append((start, start, text))

    def insert_behind(self, index: int, text: str) -> None:
        """Inserts text behind a token."""
        end = self.stream.tokens[index].end
        self.changes.append((end, end, text))
