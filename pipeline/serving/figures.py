"""The figures of a server: for Prometheus as those of a run, and for the page."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np

from ..cli.metrics import Figures, to_text
from ..cli.rates import Rates
from ..generation.driver import Driver

__all__ = ["Meter"]


class Meter:
    """Counts requests, and looks at the scheduler between two steps.

    finished, failed: requests so far; refused: those that there was no room for; texts: that run or wait."""

    def __init__(self, driver: Driver) -> None:
        self.finished = self.failed = self.refused = self.texts = 0
        self._driver = driver
        self._began = time.monotonic()
        self._at_text, self._at_page = Rates(self._began), Rates(self._began)

    async def text(self) -> str:
        figures = await asyncio.wrap_future(self._driver.between_steps(lambda: self._figures(self._at_text)))
        refused = (
            "# HELP onebuf_requests_refused_total Requests that there was no room for.\n"
            "# TYPE onebuf_requests_refused_total counter\n"
            f"onebuf_requests_refused_total {self.refused}\n"
        )
        return to_text(figures) + refused

    async def page(self) -> dict[str, Any]:
        """What the page shows. experts: how often each of them was chosen so far, by layer; modulo 2³²."""
        return await asyncio.wrap_future(self._driver.between_steps(self._shown))

    def _shown(self) -> dict[str, Any]:
        figures, model = self._figures(self._at_page), self._driver.scheduler.model
        counts: np.ndarray = model.counts.read(model.device)
        return {
            "running": figures.running,
            "batch_size": self._driver.scheduler.batch_size,
            "prompt_tokens_per_second": round(figures.rates[0], 1),
            "tokens_per_second": round(figures.rates[1], 1),
            "blocks": figures.blocks._asdict(),
            "experts": counts.tolist() if counts.shape[1] > 1 else [],
        }

    def _figures(self, rates: Rates) -> Figures:
        scheduler, now = self._driver.scheduler, time.monotonic()
        stats = scheduler.stats
        return Figures(
            self.finished,
            self.failed,
            self.texts,
            stats.prompt_tokens,
            stats.generated_tokens,
            now - self._began,
            None,
            stats.prefix_tokens,
            stats.preemptions,
            scheduler.blocks,
            rates.since(stats, now),
        )
