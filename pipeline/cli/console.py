"""The plain display, and the choice between it and the live one.

The text goes to standard output. Progress and the final table go to the terminal that shows the text, else to
standard error; without a terminal there is no progress and no colour.
"""

import os
import sys
from typing import IO

from ..printing import printable, shown
from .display import MAX_WARNINGS, Display, Summary, blocks_for, row_text
from .rows import Row
from .settings import Settings
from .streams import unfailing
from .summary_table import to_rows

__all__ = ["PlainDisplay", "is_live", "make_display"]


STATUS_SECONDS = 30.0  # so that a short run has none, and a log of a long one stays short


class PlainDisplay(Display):
    """Text on `out` (None: no text), messages and the final table as plain lines on `err`."""

    status_seconds = STATUS_SECONDS

    def __init__(self, out: IO[str] | None, err: IO[str], streams: bool, table: bool = True) -> None:
        self._out = out
        self._err = err
        self._streams = streams
        self._table = table
        self._warnings = 0
        self._open_line = False

    def prompt(self, text: str) -> None:
        self._write(text)

    def token(self, piece: str) -> None:
        if self._streams:
            self._write(piece)

    def rest(self, piece: str) -> None:
        self._write(piece)

    def row(self, row: Row) -> None:
        if self._streams or "error" in row:
            return
        self._write(row_text(row) + "\n")

    def status(self, text: str, left: str) -> None:
        self.note(f"{text}; {left}" if left else text)

    def warn(self, message: str) -> None:
        self._warnings += 1
        if self._warnings <= MAX_WARNINGS:
            self.note(message)

    def note(self, message: str) -> None:
        print(f"onebuf: {printable(message)}", file=self._err, flush=True)

    def summary(self, summary: Summary) -> None:
        self._end_line()
        if self._warnings > MAX_WARNINGS:
            print(f"onebuf: {self._warnings - MAX_WARNINGS} more prompts failed", file=self._err)
        if self._table:
            rows = to_rows(summary, blocks_for(self._err))
            width = max(len(label) for label, _ in rows)
            for label, value in rows:
                print(f"{label:<{width}}  {value}".rstrip(), file=self._err)

    def close(self) -> None:
        self._end_line()

    def _write(self, text: str) -> None:
        if self._out is not None and text:
            self._out.write(shown(text, self._out))
            self._out.flush()
            self._open_line = not text.endswith("\n")

    def _end_line(self) -> None:
        if self._open_line:
            self._write("\n")


def is_live(stream: IO[str] | None) -> bool:
    """Whether `stream` is a terminal that can redraw lines."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def make_display(settings: Settings) -> Display:
    """The display for the settings and for what standard output and error are."""
    stdout_is_free = not settings.json and not settings.rows_to_stdout
    shows_text = stdout_is_free and (settings.streams or settings.out is None)
    # A pipe that takes the text may end in the same terminal, so no line is redrawn next to it.
    terminal = sys.stdout if stdout_is_free else sys.stderr
    if is_live(terminal):
        from .live import LiveDisplay  # brings rich along, which only a terminal needs

        return LiveDisplay(
            terminal if shows_text else unfailing(terminal), shows_text, settings.streams, table=not settings.json
        )
    return PlainDisplay(sys.stdout if shows_text else None, sys.stderr, settings.streams, table=not settings.json)
