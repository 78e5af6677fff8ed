"""How far a long run is: rows, tokens per second, and the time that is left, for people and for --metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ..errors import UsageError
from ..generation.requests import Stats
from .display import Display
from .feed import Feed
from .metrics import Figures, write_metrics
from .session import Session

__all__ = ["METRICS_SECONDS", "Progress", "duration", "seconds_left"]

METRICS_SECONDS = 5.0  # between two versions of the file


class Progress:
    """Looks at a run now and then. `look` is to be called often; it costs next to nothing where nothing is due.

    stats: the cost of the run so far. metrics: the file of --metrics.
    """

    def __init__(
        self, display: Display, feed: Feed, session: Session, stats: Callable[[], Stats], metrics: Path | None
    ) -> None:
        self._display = display
        self._feed = feed
        self._session = session
        self._stats = stats
        self._metrics = metrics
        self._began = self._told = time.monotonic()
        self._before = (0, 0)  # tokens of prompts and generated ones at the last status
        self._written = 0.0
        if metrics is not None:
            write_metrics(metrics, self._figures())  # where it cannot be written, nothing has been run yet

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
            write_metrics(self._metrics, self._figures())
        except UsageError as error:  # rows are what counts
            self._metrics = None
            self._display.note(f"{error}; it is not tried again")

    def _figures(self) -> Figures:
        session, stats, seconds = self._session, self._stats(), time.monotonic() - self._began
        return Figures(
            session.rows_finished,
            session.rows_failed,
            session.running,
            int(stats.prompt_tokens),
            int(stats.generated_tokens),
            seconds,
            seconds_left(self._feed, session, seconds),
        )

    def _tell(self, now: float) -> None:
        figures, seconds = self._figures(), now - self._told
        rates = [
            f"{(count - before) / seconds:,.0f} tok/s"
            for count, before in zip((figures.prompt_tokens, figures.generated_tokens), self._before)
        ]
        self._told, self._before = now, (figures.prompt_tokens, figures.generated_tokens)
        left = "" if figures.left is None else f"about {duration(figures.left)} left"
        failed = f", {figures.failed:,} failed" if figures.failed else ""
        text = f"{figures.finished:,} rows done{failed}; {rates[0]} of prompts, {rates[1]} generated"
        self._display.status(text, left)


def seconds_left(feed: Feed, session: Session, seconds: float) -> float | None:
    """The time that the rest takes, if its prompts are like those that are finished; None where nobody knows how many
    there are, or none is finished."""
    done = session.finished + session.failed
    if not done or not feed.jobs:
        return None
    if feed.prompts.ended:
        return seconds * (session.prompts - done) / done
    share = feed.prompts.share
    if share is None or share <= feed.first_share:
        return None
    done_share = (share - feed.first_share) * done / session.prompts
    return seconds * (1 - feed.first_share - done_share) / done_share


def duration(seconds: float) -> str:
    """12.3 → "12 s"; 5,000 → "1 h 23 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60:,} h {minutes % 60} min"
