"""Grammars of texts, as the scheduler uses them: before each step a mask of the tokens that may come next."""

from __future__ import annotations

from typing import Protocol

import numpy as np

__all__ = ["Grammar", "Matcher"]


class Matcher(Protocol):
    """The place of one text in its grammar. It is for the thread that steps.

    error: why it cannot go on; a mask is empty then, and the row fails."""

    error: str | None

    def fill(self, words: np.ndarray) -> None:
        """Writes the mask of the next token: a bit per token, the lowest of a word of u32 first."""

    def take(self, token: int) -> bool:
        """Goes on by a token. Whether the text is complete, and nothing may follow."""


class Grammar(Protocol):
    """What texts must be. Any number of texts may have it."""

    def begin(self) -> Matcher: ...
