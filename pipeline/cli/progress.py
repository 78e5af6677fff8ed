"""How far a long run is: rows, tokens per second, and the time that is left, for people and for --metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ..errors import UsageError
from ..generation.requests import Stats
from ..generation.usage import Blocks
from .display import Display
from .feed import Feed
from .metrics import Figures, write_metrics
from .rates import Rates
from .remaining import seconds_left
from .session import Session

__all__ = ["METRICS_SECONDS", "Progress", "duration", "status_text"]

METRICS_SECONDS = 5.0  # between two versions of the file


class Progress:
    """Looks at a run now and then. `look` is to be called often; it costs next to nothing where nothing is due.

    stats: the cost of the run so far. metrics: the file of --metrics. blocks: those of the cache.
    """

    def __init__(
        self,
        display: Display,
        feed: Feed,
        session: Session,
        stats: Callable[[], Stats],
        metrics: Path | None,
        blocks: Callable[[], Blocks] = Blocks,
    ) -> None:
        self._display = display
        self._feed = feed
        self._session = session
        self._stats = stats
        self._metrics = metrics
        self._blocks = blocks
        self._began = self._told = self._written = time.monotonic()
        self._at_status, self._at_write = Rates(self._began), Rates(self._began)
        if metrics is not None:
            write_metrics(metrics, self._figures((0.0, 0.0)))  # where it cannot be written, nothing has been run yet

    def look(self) -> None:
        now = time.monotonic()
        if now - self._told >= self._display.status_seconds:
            self._tell(now)
        if self._metrics is not None and now - self._written >= METRICS_SECONDS:
            self._written = now
            self._write()

    def close(self) -> None:
        """The last version of the metrics, whatever ended the run."""
        if self._metrics is not None:
            self._write()

    def _write(self) -> None:
        if self._metrics is None:
            return
        try:
            write_metrics(self._metrics, self._figures(self._at_write.since(self._stats(), time.monotonic())))
        except UsageError as error:  # rows are what counts
            self._metrics = None
            self._display.note(f"{error}; it is not tried again")

    def _figures(self, rates: tuple[float, float]) -> Figures:
        session, stats, seconds = self._session, self._stats(), time.monotonic() - self._began
        return Figures(
            session.rows_finished,
            session.rows_failed,
            session.running,
            int(stats.prompt_tokens),
            int(stats.generated_tokens),
            seconds,
            seconds_left(self._feed, session, stats, seconds),
            int(stats.prefix_tokens),
            int(stats.preemptions),
            self._blocks(),
            rates,
        )

    def _tell(self, now: float) -> None:
        self._told = now
        figures = self._figures(self._at_status.since(self._stats(), now))
        left = "" if figures.left is None else f"about {duration(figures.left)} left"
        self._display.status(status_text(figures), left)


def status_text(figures: Figures) -> str:
    """The figures as one line; what there is none of is left out."""
    parts = [f"{figures.finished:,} rows done" + (f", {figures.failed:,} failed" if figures.failed else "")]
    prompts, generated = figures.rates
    cached = f" ({figures.prefix_tokens / figures.prompt_tokens:.0%} in the cache)" if figures.prefix_tokens else ""
    parts.append(f"{prompts:,.0f} tok/s of prompts{cached}, {generated:,.0f} tok/s generated")
    blocks = sum(figures.blocks)
    if blocks:
        again = f", {figures.preemptions:,} computed again" if figures.preemptions else ""
        parts.append(f"{figures.blocks.used / blocks:.0%} of the cache in use{again}")
    return "; ".join(parts)


def duration(seconds: float) -> str:
    """12.3 → "12 s"; 5,000 → "1 h 23 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60:,} h {minutes % 60} min"
