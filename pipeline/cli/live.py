"""The display on a terminal (rich): progress bars below the text, redrawn ten times a second.

Only the text's unfinished line is redrawn with the bars. Lines that are complete scroll up and stay.
"""

import threading
import time
from typing import IO

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from ..graph.memory import human
from ..printing import printable
from .display import MAX_WARNINGS, Display, Summary, blocks_for, row_text
from .rows import Row
from .summary_table import to_rows

__all__ = ["LiveDisplay"]

REFRESH_SECONDS = 0.1
PROMPT_STYLE = "bold"
LABEL_STYLE = "dim"


class LiveDisplay(Display):
    """Text and progress on one terminal stream. `streams`: the text of a single prompt comes token by token."""

    def __init__(self, stream: IO[str], text: bool, streams: bool, table: bool) -> None:
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._text = text
        self._streams = streams
        self._table = table
        self._warnings = 0
        self._bars = Bars(self._console)
        self._line = Text()  # the text that has not scrolled up yet
        self._lock = threading.Lock()  # guards _line: the refreshing thread draws it
        self._flushed = 0.0
        self._live = Live(
            console=self._console, get_renderable=self._draw, refresh_per_second=1 / REFRESH_SECONDS, transient=True
        )

    def loading(self, what: str) -> None:
        self._bars.loading(what)
        self._live.start(refresh=True)

    def placing(self, nbytes: int, total: int) -> None:
        self._bars.placing(nbytes, total)

    def start(self, prompts: int | None, prompt_tokens: int, most_tokens: int) -> None:
        self._bars.start(prompts, prompt_tokens, most_tokens)

    def prompt(self, text: str) -> None:
        self._append(text, PROMPT_STYLE)

    def prefilled(self, tokens: int) -> None:
        self._bars.prefilled(tokens)

    def token(self, piece: str) -> None:
        self._bars.token()
        if self._streams:
            self._append(piece, "")

    def rest(self, piece: str) -> None:
        self._append(piece, "")

    def done(self, tokens: int, most_tokens: int) -> None:
        self._bars.done(tokens, most_tokens)

    def status(self, text: str, left: str) -> None:
        self._bars.left(left)

    def row(self, row: Row) -> None:
        if self._text and not self._streams and "error" not in row:
            self._console.print(Text(printable(row_text(row))))

    def warn(self, message: str) -> None:
        self._warnings += 1
        if self._warnings <= MAX_WARNINGS:
            self.note(message)

    def note(self, message: str) -> None:
        self._console.print(Text(f"onebuf: {printable(message)}", "yellow"))

    def summary(self, summary: Summary) -> None:
        self.close()
        if self._warnings > MAX_WARNINGS:
            self._console.print(Text(f"onebuf: {self._warnings - MAX_WARNINGS} more prompts failed", "yellow"))
        if not self._table:
            return
        table = Table.grid(padding=(0, 2))
        table.add_column(style=LABEL_STYLE, no_wrap=True)
        table.add_column()
        for label, value in to_rows(summary, blocks_for(self._console.file)):
            table.add_row(label, Text(value))
        if self._text:
            self._console.print()
        self._console.print(table)

    def close(self) -> None:
        with self._lock:
            rest, self._line = self._line, Text()
        self._live.stop()
        if rest:
            self._console.print(rest)

    def _append(self, text: str, style: str) -> None:
        """Adds text. Complete lines scroll up, at most once per refresh."""
        if not self._text:
            return
        with self._lock:
            self._line.append(printable(text), style or None)
            now = time.monotonic()
            if now - self._flushed < REFRESH_SECONDS:
                return
            self._flushed = now
            lines = self._line.wrap(self._console, self._console.width)
            if len(lines) < 2:
                return
            self._line = lines.pop()
        with self._console:  # one write: the redrawn part loses its complete lines as they scroll up
            self._live.refresh()
            self._console.print(Group(*lines))

    def _draw(self) -> Group | Progress:
        with self._lock:
            line = self._line.copy()
        return Group(line, self._bars.progress) if line else self._bars.progress


class Bars:
    """The progress bars: loading, then prompts (where there are several), prefill and decode with their rates."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(24),
            TextColumn("{task.fields[count]}"),
            TextColumn("{task.fields[rate]}"),
            console=console,
            auto_refresh=False,
        )
        self._tasks: dict[str, TaskID] = {}
        self._amounts: dict[str, int] = {}
        self._seconds: dict[str, float] = {}
        self._totals: dict[str, int] = {}
        self._last = time.monotonic()
        self._drawn = 0.0
        self._left = ""

    def loading(self, what: str) -> None:
        self._add("load", f"loading {printable(what)}", None)

    def placing(self, nbytes: int, total: int) -> None:
        """Turns the bar of loading into one of bytes."""
        count = f"{human(nbytes)} of {human(total)}"
        self.progress.update(self._tasks["load"], completed=nbytes, total=total, count=count)

    def start(self, prompts: int | None, prompt_tokens: int, most_tokens: int) -> None:
        self.progress.update(self._tasks["load"], visible=False)
        if prompts is None or prompts > 1:
            self._add("prompts", "prompts", prompts)
        self._add("prefill", "prefill", prompt_tokens or None)
        self._add("decode", "decode", most_tokens or None)
        self._last = time.monotonic()

    def prefilled(self, tokens: int) -> None:
        self._count("prefill", tokens)

    def token(self) -> None:
        self._count("decode", 1)

    def done(self, tokens: int, most_tokens: int) -> None:
        """Takes the tokens that will not come any more off the total of the decode bar."""
        if self._totals.get("decode"):
            self._totals["decode"] -= max(most_tokens - tokens, 0)
        self._drawn = 0.0
        if "prompts" in self._totals:
            self._count("prompts", 1)

    def left(self, text: str) -> None:
        """Shows the time that is left beside the bar of prompts."""
        self._left = text

    def _add(self, name: str, description: str, total: int | None) -> None:
        self._tasks[name] = self.progress.add_task(description, total=total, count="", rate="")
        self._amounts[name], self._seconds[name], self._totals[name] = 0, 0.0, total or 0

    def _count(self, name: str, amount: int) -> None:
        """Adds to a bar. The time since the last call belongs to the phase that this call reports."""
        now = time.monotonic()
        if name not in self._tasks:
            return
        self._amounts[name] += amount
        if name != "prompts":
            self._seconds[name] += now - self._last
            self._last = now
        if now - self._drawn >= REFRESH_SECONDS:
            self._drawn = now
            self._show()

    def _show(self) -> None:
        for name, total in self._totals.items():
            if name == "load":
                continue
            amount, seconds = self._amounts[name], self._seconds[name]
            rate = f"{amount / seconds:,.0f} tok/s" if seconds > 0 and amount else ""
            rate = self._left if name == "prompts" else rate
            count = f"{amount:,}/{total:,}" if total else f"{amount:,}"
            self.progress.update(self._tasks[name], completed=amount, total=total or None, count=count, rate=rate)
