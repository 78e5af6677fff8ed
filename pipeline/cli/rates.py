"""Tokens per second, between two looks at what a scheduler has done."""

from __future__ import annotations

from ..generation.requests import Stats

__all__ = ["Rates"]


class Rates:
    """Tokens per second between two looks at a run's cost."""

    def __init__(self, now: float) -> None:
        self._then = now
        self._counts = (0.0, 0.0)

    def since(self, stats: Stats, now: float) -> tuple[float, float]:
        """Gives the tokens of prompts, and the generated ones, per second since the last call."""
        counts = float(stats.prompt_tokens), float(stats.generated_tokens)
        seconds, before = now - self._then, self._counts
        self._then, self._counts = now, counts
        if seconds <= 0:
            return 0.0, 0.0
        return (counts[0] - before[0]) / seconds, (counts[1] - before[1]) / seconds
