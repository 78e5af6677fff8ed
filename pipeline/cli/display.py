"""The interface of every display, and how rows and bars are written as text."""

from __future__ import annotations

from typing import IO

from .rows import Row
from .summary_table import ASCII_BLOCKS, BLOCKS, Summary

__all__ = ["MAX_WARNINGS", "Display", "Summary", "blocks_for", "row_text"]

MAX_WARNINGS = 10  # failed rows that are named one by one


class Display:
    """A display that shows nothing, and the base of the others. Calls come in the order of the methods."""

    status_seconds = 1.0  # from one status to the next

    def loading(self, what: str) -> None:
        """The checkpoint is being opened and the model loaded."""

    def placing(self, nbytes: int, total: int) -> None:
        """`nbytes` of `total` bytes of weights are in the memory of a device that has some of its own."""

    def start(self, prompts: int | None, prompt_tokens: int, most_tokens: int) -> None:
        """Prompts start to run: how many, their tokens, and the most tokens that may come of them. Where more prompts
        come, `prompts` is None, and nobody knows the numbers."""

    def prompt(self, text: str) -> None:
        """The single prompt, whose text follows piece by piece."""

    def prefilled(self, tokens: int) -> None:
        """`tokens` more tokens of prompts went through the model."""

    def token(self, piece: str) -> None:
        """One more token. `piece` is what it adds to the text of a single prompt."""

    def rest(self, piece: str) -> None:
        """The end of the single prompt's text: what was held back as an incomplete character."""

    def row(self, row: Row) -> None:
        """A finished or failed prompt, in input order; the display of several prompts shows its text."""

    def done(self, tokens: int, most_tokens: int) -> None:
        """A prompt is finished, after `tokens` of at most `most_tokens`."""

    def status(self, text: str, left: str) -> None:
        """How far a long run is, and the time that is left; empty where nobody knows."""

    def warn(self, message: str) -> None:
        """A prompt failed."""

    def note(self, message: str) -> None:
        """Something to know that stops nothing."""

    def summary(self, summary: Summary) -> None:
        """The run is over."""

    def close(self) -> None:
        """The display ends, whatever happened. Idempotent."""


def row_text(row: Row) -> str:
    """A row for people, where there are several: the prompt, the text that follows it, and a blank line."""
    return f"{row['prompt'] or ''}{row['text']}\n"


def blocks_for(stream: IO[str]) -> str:
    """The characters for bars that the stream's encoding can show."""
    try:
        BLOCKS.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII_BLOCKS
    return BLOCKS
