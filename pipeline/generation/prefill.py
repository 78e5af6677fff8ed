"""Prefill: tokens of prompts but for their last ones go through a chain without the head, many at a time."""

from __future__ import annotations

import functools
from collections.abc import Callable

from ..graph.builder import Pipeline
from ..graph.chain import Chain
from ..graph.plan import Plan
from ..models.cache import Cache
from ..models.decoder import Model
from .seats import Seats

# The rows of prompts in a chain are halved until its scratch, most of it the experts' products, takes no more bytes.
PREFILL_SCRATCH = 64 << 20


def fitting(plan: Callable[[int], Plan], rows: int) -> tuple[Plan, int]:
    """The plan for up to `rows` rows of prompts whose scratch memory stays within bounds, and its number of them."""
    while True:
        made = plan(rows)
        if made.layout.nbytes <= PREFILL_SCRATCH or rows == 1:
            return made, rows
        rows //= 2


class Prefill:
    """The chain for steps in which no row decodes. Its rows stand behind those that do. It takes memory of the device
    from its first use on."""

    def __init__(self, model: Model, cache: Cache, seats: Seats) -> None:
        self._model = model
        self._cache = cache
        self._seats = seats

    def run(self, rows: int) -> None:
        """One step of `rows` rows. Waits for it."""
        self.chain.commit(rows).wait()

    @property
    def rows(self) -> int:
        """The most rows that it has."""
        return self._planned[1]

    @property
    def plan(self) -> Plan:
        return self._planned[0]

    @functools.cached_property
    def chain(self) -> Chain:
        return Chain(self.plan, self._model.device)

    @functools.cached_property
    def _planned(self) -> tuple[Plan, int]:
        return fitting(self._plan, self._seats.prompts)

    def _plan(self, rows: int) -> Plan:
        first = self._seats.decoding
        pipe = Pipeline(self._model.device, rows=rows, label="prefill", shows_status=False)
        self._model.forward(pipe, self._seats.rows.slice(first, first + rows), self._cache, leading=0)
        return pipe.plan(())
